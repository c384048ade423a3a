// The picture as a file of its own: all cards, not only those in view, with the
// colours of the theme that is seen written into it.
import { render } from "preact";
import { toast } from "../components/toast.tsx";
import { CardView, Patterns } from "./cards.tsx";
import { Edges } from "./edges.tsx";
import type { Rect } from "./graph.ts";
import type { Scene } from "./model.ts";
import { CHIPS, tilingOf } from "./opened.tsx";
import type { Level } from "./route.ts";
import { CARD_H } from "./graph.ts";

interface Picture {
  scene: Scene;
  at: readonly Rect[];
  ways: readonly Level[][];
  all: Rect;
  open: ReadonlyMap<number, unknown>;
  label: string;
  /** The element in which the picture is shown. */
  stage: HTMLElement;
}

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = 24;

/** Saves the picture as an SVG file. */
export function saveSvg(p: Picture): void {
  const text = new XMLSerializer().serializeToString(standalone(p));
  const link = document.createElement("a");
  const url = URL.createObjectURL(new Blob([`<?xml version="1.0" encoding="UTF-8"?>\n${text}`], { type: "image/svg+xml" }));
  link.href = url;
  link.download = `${p.label.replace(/[^\w.-]+/g, "-") || "workflow"}.svg`;
  link.click();
  window.setTimeout(() => URL.revokeObjectURL(url), 10_000);
  toast(`Saved ${link.download}`);
}

function standalone(p: Picture): SVGSVGElement {
  const host = document.createElement("div");
  host.className = "wf-stage near wf-export";
  p.stage.parentElement!.append(host);
  const { graph, looks } = p.scene;
  const everywhere: Rect = { x: -1e9, y: -1e9, w: 2e9, h: 2e9 };
  const draw = (isBox: boolean): unknown => graph.cards.filter((c) => c.isBox === isBox).map((c) => (
    <CardView
      key={c.group} card={c} at={p.at[c.group]!} look={looks[c.group]!} detail="near"
      chosen={false} first={false} dim={false} critical={false} open={p.open.has(c.group)} before={[]}
    />
  ));
  try {
    render(
      <svg class="wf-svg" width={p.all.w + 2 * MARGIN} height={p.all.h + 2 * MARGIN} viewBox={`${p.all.x - MARGIN} ${p.all.y - MARGIN} ${p.all.w + 2 * MARGIN} ${p.all.h + 2 * MARGIN}`}>
        <title>{p.label}</title>
        <Patterns />
        <rect class="ground" x={p.all.x - MARGIN} y={p.all.y - MARGIN} width={p.all.w + 2 * MARGIN} height={p.all.h + 2 * MARGIN} />
        {draw(true)}
        <Edges graph={graph} ways={p.ways} window={everywhere} detail="near" shown={() => true} lit={() => false} dim={false} critical={() => false} />
        {draw(false)}
      </svg>, host);
    const live = host.querySelector("svg")!;
    for (const minis of p.stage.querySelectorAll("[data-of]")) live.append(minis.cloneNode(true));
    for (const group of p.open.keys()) {
      const canvas = p.stage.querySelector<HTMLCanvasElement>(`[data-mosaic="${group}"] canvas`);
      if (canvas) live.append(mosaicImage(canvas, p.at[group]!, graph.cards[group]!.size));
    }
    const out = live.cloneNode(true) as SVGSVGElement;
    inline(live, out);
    out.setAttribute("xmlns", SVG);
    return out;
  } finally {
    render(null, host);
    host.remove();
  }
}

function mosaicImage(canvas: HTMLCanvasElement, at: Rect, size: number): SVGImageElement {
  const t = tilingOf(size);
  const image = document.createElementNS(SVG, "image");
  for (const [k, v] of Object.entries({ x: at.x + 12, y: at.y + CARD_H + CHIPS, width: t.w, height: t.h, href: canvas.toDataURL("image/png") })) image.setAttribute(k, String(v));
  return image;
}

const properties = [
  "fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "opacity",
  "font-family", "font-size", "font-weight", "text-anchor", "paint-order",
];
const defaults: Record<string, string> = {
  "fill-opacity": "1", "stroke": "none", "stroke-width": "1px", "stroke-dasharray": "none", "stroke-linecap": "butt", "stroke-linejoin": "miter", "opacity": "1", "text-anchor": "start", "paint-order": "normal",
};

/** Writes how each element looks into its attributes, and takes away what only the page needs. */
function inline(from: Element, to: Element): void {
  const style = getComputedStyle(from);
  const isText = from.tagName === "text";
  const painted = isText || /^(path|rect|circle|image)$/.test(from.tagName);
  for (const name of properties) {
    if ((name.startsWith("font") && !isText) || (!painted && name !== "opacity")) continue;
    const value = style.getPropertyValue(name);
    if (value && value !== defaults[name]) to.setAttribute(name, value);
  }
  for (const { name } of [...to.attributes]) {
    if (/^(class|role|tabindex|aria-.*|data-.*|style)$/.test(name)) to.removeAttribute(name);
  }
  for (let i = 0; i < from.children.length; i++) inline(from.children[i]!, to.children[i]!);
}
