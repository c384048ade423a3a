// Opening a card makes room for it: what lies to its right moves right, what
// lies below it moves down, boxes around it grow. Nothing changes its order, so
// closing it brings the same picture back.
import type { Card, Rect } from "./graph.ts";

export interface Size {
  w: number;
  h: number;
}

/** Places of all cards where some are open and larger than drawn. */
export function spread(cards: readonly Card[], open: ReadonlyMap<number, Size>): Rect[] {
  if (open.size === 0) return cards.map(({ x, y, w, h }) => ({ x, y, w, h }));
  const across = new Map<number, number>();
  const down = new Map<number, number>();
  for (const [group, size] of open) {
    const c = cards[group];
    if (!c) continue;
    widen(across, c.x + c.w, size.w - c.w);
    widen(down, c.y + c.h, size.h - c.h);
  }
  const moveX = shift(across);
  const moveY = shift(down);
  return cards.map((c) => {
    const x = moveX(c.x);
    const y = moveY(c.y);
    const size = open.get(c.group);
    if (size) return { x, y, w: Math.max(size.w, c.w), h: Math.max(size.h, c.h) };
    if (!c.isBox) return { x, y, w: c.w, h: c.h };
    return { x, y, w: moveX(c.x + c.w) - x, h: moveY(c.y + c.h) - y };
  });
}

/** Cards that end at the same line share the room made there. */
function widen(cuts: Map<number, number>, at: number, by: number): void {
  const line = Math.round(at * 10) / 10;
  cuts.set(line, Math.max(cuts.get(line) ?? 0, by));
}

function shift(cuts: Map<number, number>): (v: number) => number {
  const list = [...cuts].filter(([, by]) => by > 0);
  return (v) => {
    let moved = v;
    for (const [at, by] of list) if (v >= at - 0.1) moved += by;
    return moved;
  };
}
