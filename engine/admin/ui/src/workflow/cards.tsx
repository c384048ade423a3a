// Cards and boxes as SVG. Each reads its own look, so that a change of state
// recolours one card and nothing else.
import type { Signal } from "@preact/signals";
import type { JSX } from "preact";
import { short } from "../format.ts";
import { stateIcons, type StateName } from "../state.ts";
import { CARD_H, CARD_W, type Card, type Rect } from "./graph.ts";
import { describe, endedOf, shares, subtitle, type Look } from "./look.ts";
import type { Detail } from "./plane.ts";
import { cut, measure } from "./text.ts";

interface Props {
  card: Card;
  at: Rect;
  look: Signal<Look>;
  detail: Detail;
  chosen: boolean;
  /** Takes part in the order of Tab. */
  first: boolean;
  /** Not part of what is highlighted. */
  dim: boolean;
  /** On the critical path. */
  critical: boolean;
  open: boolean;
  before: readonly string[];
}

export function CardView(p: Props): JSX.Element {
  const { card, at, detail } = p;
  const look = p.look.value;
  const stacked = card.size > 1;
  const kind = card.isBox ? "box" : "card";
  return (
    <g
      class={`${kind}${p.chosen ? " chosen" : ""}${p.dim ? " dim" : ""}${p.critical ? " critical" : ""}${p.open ? " open" : ""}`}
      data-group={card.group} data-state={look.state} transform={`translate(${round(at.x)} ${round(at.y)})`}
      role="button" tabindex={p.first ? 0 : -1} aria-pressed={p.chosen}
    >
      <title>{describe(card, look, p.before)}</title>
      {stacked && !card.isBox && detail !== "far" && !p.open ? (
        <>
          <rect class="under" x="7" y="7" width={at.w - 3} height={at.h - 3} rx="6" />
          <rect class="under" x="3.5" y="3.5" width={at.w - 1.5} height={at.h - 1.5} rx="6" />
        </>
      ) : null}
      <rect class="face" width={at.w} height={at.h} rx={card.isBox ? 9 : 6} />
      {card.isBox ? <BoxTitle card={card} at={at} look={look} detail={detail} /> : <Face card={card} w={at.w} look={look} detail={detail} />}
    </g>
  );
}

function Face({ card, w, look, detail }: { card: Card; w: number; look: Look; detail: Detail }): JSX.Element {
  const size = card.size > 1 ? `×${short(card.size)}` : "";
  if (detail === "far") {
    return <Bar look={look} x={3} y={3} w={w - 6} h={CARD_H - 6} />;
  }
  if (detail === "mid") {
    const room = w - 50 - (size ? measure(size, 16) + 8 : 0);
    return (
      <>
        <StateMark state={look.state} x={9} y={11} size={25} />
        <text class="label big" x="40" y="30">{cut(card.label, room, 19, 600)}</text>
        {size ? <text class="size big" x={w - 10} y="30">{size}</text> : null}
        <Bar look={look} x={10} y={CARD_H - 18} w={w - 20} h={10} />
      </>
    );
  }
  const room = w - 46 - (size ? measure(size, 12) + 8 : 0);
  return (
    <>
      <StateMark state={look.state} x={10} y={9} size={16} />
      <text class="label" x="33" y="22">{cut(card.label, room, 13, 600)}</text>
      {size ? <text class="size" x={w - 11} y="22">{size}</text> : null}
      <text class="sub" x="33" y="39">{cut(subtitle(card, look), w - 44, 11.5)}</text>
      <Bar look={look} x={11} y={CARD_H - 15} w={w - 22} h={5} />
    </>
  );
}

function BoxTitle({ card, at, look, detail }: { card: Card; at: Rect; look: Look; detail: Detail }): JSX.Element | null {
  if (detail === "far") return null;
  const state = look.own ?? look.state;
  if (detail === "mid") {
    return (
      <>
        <StateMark state={state} x={10} y={6} size={20} />
        <text class="label big" x="36" y="24">{cut(card.label, at.w - 48, 19, 600)}</text>
      </>
    );
  }
  const done = endedOf(look.counts);
  const count = look.counts.total > 0 ? `${short(done)} of ${short(look.counts.total)}${look.counts.failed > 0 ? ` · ${short(look.counts.failed)} failed` : ""}` : "";
  const label = cut(card.label, at.w - 50, 12.5, 600);
  const taken = 34 + measure(label, 12.5, 600) + 8;
  const rest = at.w - taken - 12;
  const width = count ? measure(count, 11.5) : 0;
  const bar = Math.min(110, rest - width - 16);
  return (
    <>
      <StateMark state={state} x={11} y={8} size={15} />
      <text class="label box-label" x="33" y="20.5">{label}</text>
      {width > 0 && width < rest ? <text class="sub" x={taken} y="20.5">{count}</text> : null}
      {bar > 36 ? <Bar look={look} x={at.w - bar - 12} y={14} w={bar} h={5} /> : null}
    </>
  );
}

/** The icon of a state, in its colour. */
export function StateMark({ state, x, y, size }: { state: StateName; x: number; y: number; size: number }): JSX.Element {
  return <path class="mark" data-state={state} d={stateIcons[state]} transform={`translate(${x} ${y})${size === 16 ? "" : ` scale(${size / 16})`}`} />;
}

/** Counts as shares of a bar. */
export function Bar({ look, x, y, w, h }: { look: Look; x: number; y: number; w: number; h: number }): JSX.Element {
  const parts = look.counts.total > 0 ? shares(look.counts) : [{ state: look.state, from: 0, to: 1 }];
  return (
    <>
      {parts.map((s) => {
        const from = Math.min(s.from * w, w - 2);
        const width = Math.max(2, (s.to - s.from) * w - (s.to < 1 ? 1 : 0));
        return <rect key={s.state} class="part" data-state={s.state} x={round(x + from)} y={y} width={round(width)} height={h} rx={h < 12 ? h / 2.5 : 4} fill={fillOf(s.state)} />;
      })}
    </>
  );
}

/** Cancelled and skipped are patterns, not colours alone. */
export function fillOf(s: StateName): string | undefined {
  return s === "cancelled" ? "url(#wf-hatched)" : s === "skipped" ? "url(#wf-dotted)" : undefined;
}

/** A member of an open card. */
export function MiniCard({ x, y, w, h, label, state, node, chosen }: { x: number; y: number; w: number; h: number; label: string; state: StateName; node: number; chosen: boolean }): JSX.Element {
  return (
    <g class={`mini${chosen ? " chosen" : ""}`} data-node={node} data-state={state} transform={`translate(${round(x)} ${round(y)})`} role="button" tabindex={-1} aria-pressed={chosen}>
      <title>{`${label}, node ${node}: ${state}`}</title>
      <rect class="face" width={w} height={h} rx="4" />
      <rect class="part" data-state={state} width="4" height={h} rx="2" fill={fillOf(state)} />
      <StateMark state={state} x={11} y={(h - 14) / 2} size={14} />
      <text class="label" x="31" y={h / 2 + 4.5}>{cut(label, w - 40, 12, 500)}</text>
    </g>
  );
}

/** Patterns that cards use; once in the drawing. */
export function Patterns(): JSX.Element {
  return (
    <defs>
      <pattern id="wf-hatched" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
        <rect class="pattern-ground" width="5" height="5" />
        <rect class="pattern-ink" width="2.5" height="5" />
      </pattern>
      <pattern id="wf-dotted" width="4" height="4" patternUnits="userSpaceOnUse">
        <rect class="pattern-ground" width="4" height="4" />
        <circle class="pattern-ink" cx="2" cy="2" r="1.1" />
      </pattern>
    </defs>
  );
}

export const miniSize = { w: 168, h: 30, gap: 6, pad: 12 };

/** How many members stand beside each other in an open card. */
export function miniColumns(n: number): number {
  return n <= 5 ? 1 : n <= 12 ? 2 : 3;
}

/** Extent of an open card that shows n members as cards. */
export function miniExtent(n: number): { w: number; h: number } {
  const columns = miniColumns(n);
  const rows = Math.ceil(n / columns);
  const { w, h, gap, pad } = miniSize;
  return { w: Math.max(CARD_W, columns * w + (columns - 1) * gap + 2 * pad), h: CARD_H + rows * (h + gap) - gap + pad };
}

export function round(v: number): number {
  return Math.round(v * 100) / 100;
}
