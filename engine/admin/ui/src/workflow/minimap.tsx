// All of the graph in small, and where on it one looks. Drawn only while there
// is more than one sees.
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { effect } from "@preact/signals";
import { states, type StateName } from "../state.ts";
import { seen } from "./camera.ts";
import type { Rect } from "./graph.ts";
import { shares } from "./look.ts";
import type { Scene } from "./model.ts";
import type { Plane } from "./plane.ts";

const WIDTH = 176;
const MOST = 110;

export function Minimap({ scene, at, all, plane }: { scene: Scene; at: readonly Rect[]; all: Rect; plane: Plane }): JSX.Element | null {
  const canvas = useRef<HTMLCanvasElement>(null);
  const k = Math.min(WIDTH / Math.max(1, all.w), MOST / Math.max(1, all.h));
  const [w, h] = [Math.max(24, all.w * k), Math.max(14, all.h * k)];
  const view = seen(plane.camera.value, plane.screen.value);
  const partial = view.x > all.x + 4 || view.y > all.y + 4 || view.x + view.w < all.x + all.w - 4 || view.y + view.h < all.y + all.h - 4;
  const frame = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const c = canvas.current;
    if (!c || !partial) return undefined;
    const scale = window.devicePixelRatio || 1;
    c.width = Math.ceil(w * scale);
    c.height = Math.ceil(h * scale);
    c.style.width = `${w}px`;
    c.style.height = `${h}px`;
    let due = 0;
    const draw = (): void => {
      due = 0;
      const to = c.getContext("2d");
      if (!to) return;
      const colours = coloursOf(c);
      to.setTransform(scale * k, 0, 0, scale * k, -all.x * scale * k, -all.y * scale * k);
      to.clearRect(all.x, all.y, all.w, all.h);
      for (const card of scene.graph.cards) {
        const r = at[card.group]!;
        const look = scene.looks[card.group]!.peek();
        const h = Math.max(r.h, 1.2 / k);
        if (card.isBox) {
          to.fillStyle = colours.get("box")!;
          to.globalAlpha = 0.12;
          to.fillRect(r.x, r.y, r.w, h);
          continue;
        }
        for (const s of look.counts.total > 0 ? shares(look.counts) : [{ state: look.state, from: 0, to: 1 }]) {
          to.fillStyle = colours.get(s.state)!;
          to.globalAlpha = s.state === "blocked" ? 0.45 : 1;
          to.fillRect(r.x + s.from * r.w, r.y, (s.to - s.from) * r.w, h);
        }
      }
      to.globalAlpha = 1;
    };
    const stop = effect(() => {
      for (const l of scene.looks) l.value;
      if (due === 0) due = window.setTimeout(draw, 120);
    });
    draw();
    return () => {
      stop();
      window.clearTimeout(due);
    };
  }, [scene, at, w, h, partial]);
  useEffect(() => {
    const f = frame.current;
    if (!f) return;
    const [x, y] = [Math.max(0, (view.x - all.x) * k), Math.max(0, (view.y - all.y) * k)];
    f.style.transform = `translate(${x}px, ${y}px)`;
    f.style.width = `${Math.max(4, Math.min(w - x, (view.x + view.w - all.x) * k - x))}px`;
    f.style.height = `${Math.max(4, Math.min(h - y, (view.y + view.h - all.y) * k - y))}px`;
  });
  if (!partial) return null;
  const to = (e: PointerEvent): void => {
    if (e.type === "pointermove" && e.buttons === 0) return;
    const box = canvas.current!.getBoundingClientRect();
    const p = { x: all.x + (e.clientX - box.left) / k, y: all.y + (e.clientY - box.top) / k, w: 0, h: 0 };
    const c = plane.camera.peek();
    const s = plane.screen.peek();
    plane.set({ k: c.k, x: s.w / 2 - p.x * c.k, y: s.h / 2 - p.y * c.k });
    plane.onMoved();
    (e.currentTarget as HTMLElement).setPointerCapture(e.pointerId);
  };
  return (
    <div class="wf-minimap" data-still="" aria-hidden="true" onPointerDown={to} onPointerMove={to}>
      <canvas ref={canvas} />
      <div class="wf-frame" ref={frame} />
    </div>
  );
}

function coloursOf(el: Element): Map<StateName | "box", string> {
  const out = new Map<StateName | "box", string>();
  const probe = document.createElement("i");
  el.parentElement!.append(probe);
  for (const s of states) {
    probe.style.color = `var(--state-${s})`;
    out.set(s, getComputedStyle(probe).color);
  }
  probe.style.color = "var(--text)";
  out.set("box", getComputedStyle(probe).color);
  probe.remove();
  return out;
}
