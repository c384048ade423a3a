// Open cards: up to 30 members as cards of their own, more as a mosaic. The
// mosaic is HTML that lies over the drawing and moves with it.
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { number } from "../format.ts";
import type { MembersResponse } from "../gen/api.ts";
import { useLoad, type Loaded } from "../load.ts";
import { call } from "../rpc.ts";
import { param, setQuery } from "../router.ts";
import { stateByNumber, stateName, states, type StateName } from "../state.ts";
import { StateIcon } from "../components/state.tsx";
import { choose, chosen } from "./choice.ts";
import { MiniCard, miniColumns, miniExtent, miniSize } from "./cards.tsx";
import { CARD_H, CARD_W, type Card, type Rect } from "./graph.ts";
import { isOver, type Look } from "./look.ts";
import { dotAt, mosaicOf, paint, tile, type Mosaic, type Tiling } from "./mosaic.ts";
import { MAX_CARDS } from "./model.ts";
import type { Signal } from "@preact/signals";
import type { Plane } from "./plane.ts";

/** Members beyond which a card opens as a mosaic. */
export const FEW = 30;
const PAD = 12;
/** Height of the chips above a mosaic. */
export const CHIPS = 34;

/** Extent of a card when it is open. */
export function openExtent(card: Card): { w: number; h: number } {
  if (card.size <= FEW) return miniExtent(card.size);
  const t = tilingOf(card.size);
  return { w: t.w + 2 * PAD, h: CARD_H + CHIPS + t.h + PAD };
}

export function tilingOf(size: number): Tiling {
  const n = Math.min(size, 200_000);
  const w = n > 20_000 ? 720 : n > 2000 ? 540 : n > 200 ? 380 : Math.max(CARD_W, 300);
  return tile(n, w, w * 0.6);
}

/** States that lists and mosaics show; empty: all. */
export function statesShown(): ReadonlySet<StateName> {
  return new Set(param("state").split(",").filter((s): s is StateName => states.includes(s as StateName)));
}

export function toggleState(s: StateName): void {
  const now = new Set(statesShown());
  if (now.has(s)) now.delete(s);
  else now.add(s);
  setQuery({ state: [...now].join(","), page: null }, { replace: true });
}

/** The members of a card that has few. */
export function useMembers(id: string, card: Card, over: boolean): Loaded<MembersResponse> {
  return useLoad(`members ${id} ${card.group} ${card.first}`, (s) => call("WorkflowService/Members", { workflowId: id, maxCards: MAX_CARDS, group: card.group, pageSize: FEW }, s), over ? undefined : 1500);
}

/** The members of an open card as cards, as SVG. */
export function Minis({ id, card, at, look }: { id: string; card: Card; at: Rect; look: Signal<Look> }): JSX.Element {
  const read = useMembers(id, card, isOver(look.value));
  const shown = statesShown();
  const sel = chosen();
  const columns = miniColumns(card.size);
  const members = membersOf(read.data);
  const { h, gap, pad } = miniSize;
  const w = (at.w - 2 * pad - (columns - 1) * gap) / columns;
  return (
    <g>
      {members.map((m, i) => (
        <g key={m.node} class={shown.size > 0 && !shown.has(m.state) ? "dim" : ""}>
          <MiniCard
            x={at.x + pad + (i % columns) * (w + gap)} y={at.y + CARD_H + Math.floor(i / columns) * (h + gap)} w={w} h={h}
            label={m.label} state={m.state} node={m.node} chosen={sel?.node === m.node}
          />
        </g>
      ))}
      {read.error ? <text class="sub" x={at.x + pad} y={at.y + CARD_H + 14}>{read.error.message}</text> : null}
    </g>
  );
}

interface Member {
  node: number;
  label: string;
  state: StateName;
}

function membersOf(answer: MembersResponse | undefined): Member[] {
  const jobs = (answer?.jobs ?? []).map((j) => ({ node: j.node ?? 0, label: j.name || `${j.kind ?? "job"} ${j.node ?? 0}`, state: stateName(j.state) }));
  const batches = (answer?.batches ?? []).map((b) => ({ node: b.node ?? 0, label: b.name || `batch ${b.node ?? 0}`, state: stateName(b.state) }));
  return [...jobs, ...batches].sort((a, b) => a.node - b.node);
}

/** The members of an open card as a mosaic, with its states to choose among. */
export function MosaicPanel({ id, card, at, look, plane }: { id: string; card: Card; at: Rect; look: Signal<Look>; plane: Plane }): JSX.Element {
  const counts = look.value.counts;
  const over = isOver(look.value);
  const every = over ? undefined : card.size > 20_000 ? 4000 : 1500;
  const read = useLoad(`mosaic ${id} ${card.group} ${card.first}`, (s) => call("WorkflowService/Mosaic", { workflowId: id, maxCards: MAX_CARDS, group: card.group }, s), every);
  // When the card ends the last picture may be of a moment before.
  const wasOver = useRef(over);
  useEffect(() => {
    if (over && !wasOver.current) read.reload();
    wasOver.current = over;
  }, [over]);
  const t = tilingOf(card.size);
  const shown = statesShown();
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!box.current) return;
    box.current.style.transform = `translate(${at.x}px, ${at.y + CARD_H}px)`;
    box.current.style.width = `${at.w}px`;
    box.current.style.height = `${at.h - CARD_H}px`;
  }, [at]);
  return (
    <div class="wf-open" ref={box} data-mosaic={card.group}>
      <div class="wf-chips" role="group" aria-label={`States of ${card.label}`} data-still="">
        {states.filter((s) => counts[s] > 0).map((s) => (
          <button key={s} type="button" class={shown.has(s) ? "small on" : "small"} aria-pressed={shown.has(s)} onClick={() => toggleState(s)} title={`${number(counts[s])} ${s}`}>
            <StateIcon state={s} /><span class="num">{number(counts[s])}</span>
          </button>
        ))}
      </div>
      {read.data ? <Dots card={card} tiling={t} answer={read.data} plane={plane} shown={shown} /> : <p class="muted">{read.error ? read.error.message : "Loading…"}</p>}
    </div>
  );
}

function Dots({ card, tiling, answer, plane, shown }: { card: Card; tiling: Tiling; answer: Parameters<typeof mosaicOf>[0]; plane: Plane; shown: ReadonlySet<StateName> }): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  const mosaic = useRef<{ of: unknown; m: Mosaic }>({ of: undefined, m: { states: new Uint8Array(0), node: () => 0, place: () => -1, leftOut: 0 } });
  if (mosaic.current.of !== answer) mosaic.current = { of: answer, m: mosaicOf(answer) };
  const m = mosaic.current.m;
  const [tip, setTip] = useState<{ x: number; y: number; place: number } | undefined>(undefined);
  const sel = chosen();
  const at = sel?.node !== undefined && (sel.card === undefined || sel.card === card.first) ? m.place(sel.node) : -1;
  // As sharp as the zoom wants, in steps, within what a canvas can hold.
  const zoom = plane.detail.value === "near" ? Math.max(1, 2 ** Math.ceil(Math.log2(plane.camera.value.k))) : 1;
  const scale = Math.min((window.devicePixelRatio || 1) * zoom, 4096 / tiling.w);
  const wanted = [...shown].join();
  useEffect(() => {
    const draw = (): void => {
      const c = canvas.current;
      const to = c?.getContext("2d");
      if (!c || !to) return;
      const [w, h] = [Math.ceil(tiling.w * scale), Math.ceil(tiling.h * scale)];
      if (c.width !== w || c.height !== h) [c.width, c.height] = [w, h];
      c.style.width = `${tiling.w}px`;
      c.style.height = `${tiling.h}px`;
      const style = getComputedStyle(c);
      const colours = new Map(states.map((s) => [s, resolve(style.getPropertyValue(`--state-${s}`), c)]));
      paint(to, tiling, m, scale, (s) => colours.get(s)!, shown, at);
    };
    draw();
    const theme = new MutationObserver(draw);
    theme.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", draw);
    return () => {
      theme.disconnect();
      system.removeEventListener("change", draw);
    };
  }, [m, scale, wanted, at, tiling.w, tiling.h]);
  const place = (e: { clientX: number; clientY: number }): number => {
    const box = canvas.current!.getBoundingClientRect();
    const k = box.width / tiling.w;
    return dotAt(tiling, m.states.length, (e.clientX - box.left) / k, (e.clientY - box.top) / k);
  };
  return (
    <div class="wf-dots">
      <canvas
        ref={canvas} role="img" aria-label={`${number(m.states.length)} members of ${card.label}, a dot each. The inspector lists them.`}
        onPointerMove={(e) => {
          const p = place(e);
          const box = e.currentTarget.getBoundingClientRect();
          setTip(p < 0 ? undefined : { x: ((e.clientX - box.left) / box.width) * tiling.w, y: ((e.clientY - box.top) / box.height) * tiling.h, place: p });
        }}
        onPointerLeave={() => setTip(undefined)}
        onClick={(e) => {
          const p = place(e);
          if (p < 0) return;
          e.stopPropagation();
          choose({ card: card.first, node: m.node(p) });
        }}
      />
      {tip ? <Tip x={tip.x} y={tip.y} text={`${number(m.node(tip.place))} ${stateByNumber(m.states[tip.place]!)}`} /> : null}
      {m.leftOut > 0 ? <p class="muted">{number(m.leftOut)} more are not drawn</p> : null}
    </div>
  );
}

function Tip({ x, y, text }: { x: number; y: number; text: string }): JSX.Element {
  const box = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    if (box.current) box.current.style.transform = `translate(${x + 10}px, ${y - 30}px)`;
  }, [x, y]);
  return <span class="wf-tip num" ref={box}>{text}</span>;
}

/** A colour as the canvas understands it: light-dark() and the like resolved. */
function resolve(value: string, near: Element): string {
  const probe = document.createElement("i");
  probe.style.color = value.trim();
  probe.hidden = true;
  near.parentElement?.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}
