// The ways of edges: straight through columns, between the cards, and curved
// only in the room between columns. An edge avoids cards and the boxes in which
// neither of its ends lies.
import { CARD_H, type Graph, type Rect } from "./graph.ts";

/** A stretch at one height; the way curves from each to the next. */
export interface Level {
  from: number;
  to: number;
  y: number;
}

const CLEAR = 9; // least distance to what is passed by
const TITLE = 32; // height of a box's title
export const HEAD = 7; // length of an arrow's head

interface Column {
  left: number;
  right: number;
  cards: [top: number, bottom: number][];
  boxes: number[];
}

/** Finds the way of every edge. at[i] is the place of card i. */
export function routes(g: Graph, at: readonly Rect[]): Level[][] {
  const columns = columnsOf(g, at);
  const free = new Map<string, [number, number][]>();
  return g.edges.map((e) => {
    const start: Level = { from: right(at[e.from]!), to: right(at[e.from]!), y: port(g, at, e.from) };
    const end: Level = { from: at[e.to]!.x - HEAD, to: at[e.to]!.x - HEAD, y: port(g, at, e.to) };
    if (end.to <= start.from) return [start, end];
    const around = new Set([...line(g, e.from), ...line(g, e.to)]);
    const common = line(g, g.cards[e.from]!.box).find((b) => line(g, g.cards[e.to]!.box).includes(b));
    const key = [...around].filter((n) => g.cards[n]!.isBox).join(",");
    const passed: { column: Column; open: [number, number][] }[] = [];
    for (let i = after(columns, start.from); i < columns.length && columns[i]!.right <= end.to; i++) {
      const name = `${i}|${key}`;
      let open = free.get(name);
      if (!open) free.set(name, open = gaps(columns[i]!, at, around, common));
      passed.push({ column: columns[i]!, open });
    }
    if (passed.length === 0) return [start, end];
    const heights = descend(start, end, passed);
    // Edges of one card share a track, those of others run beside it.
    const owner = g.out[e.from]!.length >= g.into[e.to]!.length ? e.from : e.to;
    const track = ((owner * 7) % 5 - 2) * 2.2;
    const levels = [start];
    passed.forEach(({ column }, i) => {
      const y = heights[i]! + (heights[i] === start.y || heights[i] === end.y ? 0 : track);
      const last = levels[levels.length - 1]!;
      if (i > 0 && last.y === y) last.to = column.right + 4;
      else levels.push({ from: column.left - 4, to: column.right + 4, y });
    });
    levels.push(end);
    return levels;
  });
}

/** Height at which edges leave and enter a card. */
export function port(g: Graph, at: readonly Rect[], n: number): number {
  const r = at[n]!;
  return r.y + (g.cards[n]!.isBox ? r.h : Math.min(r.h, CARD_H)) / 2;
}

function right(r: Rect): number {
  return r.x + r.w;
}

/** A card and the boxes around it. */
function line(g: Graph, n: number): number[] {
  const out: number[] = [];
  for (; n >= 0; n = g.cards[n]!.box) out.push(n);
  return out;
}

function columnsOf(g: Graph, at: readonly Rect[]): Column[] {
  const byLeft = new Map<number, Column>();
  g.cards.forEach((c, i) => {
    if (c.isBox) return;
    const r = at[i]!;
    const left = Math.round(r.x);
    let column = byLeft.get(left);
    if (!column) byLeft.set(left, column = { left: r.x, right: right(r), cards: [], boxes: [] });
    column.right = Math.max(column.right, right(r));
    column.cards.push([r.y - CLEAR, r.y + r.h + CLEAR]);
  });
  const columns = [...byLeft.values()].sort((a, b) => a.left - b.left);
  g.cards.forEach((c, i) => {
    if (!c.isBox) return;
    for (let n = after(columns, at[i]!.x); n < columns.length && columns[n]!.left < right(at[i]!); n++) columns[n]!.boxes.push(i);
  });
  return columns;
}

/** The first column that begins at x or later. */
function after(columns: readonly Column[], x: number): number {
  let lo = 0;
  let hi = columns.length;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (columns[mid]!.left < x) lo = mid + 1;
    else hi = mid;
  }
  return lo;
}

/** Where an edge may pass a column, from the top down. */
function gaps(column: Column, at: readonly Rect[], around: ReadonlySet<number>, common: number | undefined): [number, number][] {
  const shut: [number, number][] = [...column.cards];
  for (const b of column.boxes) {
    const r = at[b]!;
    shut.push(around.has(b) ? [r.y - 2, r.y + TITLE] : [r.y - CLEAR, r.y + r.h + CLEAR]);
  }
  let top = -Infinity;
  let bottom = Infinity;
  if (common !== undefined) {
    top = at[common]!.y + TITLE;
    bottom = at[common]!.y + at[common]!.h - 3;
  }
  shut.sort((a, b) => a[0] - b[0]);
  const open: [number, number][] = [];
  let from = top;
  for (const [a, b] of shut) {
    if (a > from) open.push([from, Math.min(a, bottom)]);
    from = Math.max(from, b);
    if (from >= bottom) break;
  }
  if (from < bottom) open.push([from, bottom]);
  return open;
}

/** Chooses the heights at which the columns are passed: little up and down, few bends. */
function descend(start: Level, end: Level, passed: readonly { column: Column; open: [number, number][] }[]): number[] {
  let heights = [start.y];
  let costs = [0];
  const back: { heights: number[]; from: number[] }[] = [];
  const cost = (a: number, b: number): number => (Math.abs(a - b) < 0.5 ? 0 : Math.abs(a - b) + 14);
  for (const { column, open } of passed) {
    const t = (column.left + column.right - 2 * start.from) / 2 / Math.max(1, end.to - start.from);
    const next = candidates(open, [start.y, end.y, start.y + t * (end.y - start.y), ...heights.slice(0, 4)]);
    const from: number[] = [];
    const nextCosts = next.map((y) => {
      let best = Infinity;
      let via = 0;
      heights.forEach((h, i) => {
        const c = costs[i]! + cost(h, y);
        if (c < best) [best, via] = [c, i];
      });
      from.push(via);
      return best;
    });
    back.push({ heights: next, from });
    heights = next;
    costs = nextCosts;
  }
  let at = 0;
  costs.forEach((c, i) => {
    if (c + cost(heights[i]!, end.y) < costs[at]! + cost(heights[at]!, end.y)) at = i;
  });
  const out: number[] = [];
  for (const step of back.reverse()) {
    out.push(step.heights[at]!);
    at = step.from[at]!;
  }
  return out.reverse();
}

/** The heights in the open nearest to those wished for, above and below. */
function candidates(open: readonly [number, number][], wishes: readonly number[]): number[] {
  const out: number[] = [];
  const add = (y: number): void => {
    if (!out.includes(y)) out.push(y);
  };
  for (const y of wishes) {
    let over: number | undefined;
    let under: number | undefined;
    for (const [top, bottom] of open) {
      if (y >= top && y <= bottom) over = under = y;
      else if (bottom < y) over = bottom;
      else if (under === undefined) under = top;
    }
    if (over !== undefined) add(over);
    if (under !== undefined) add(under);
  }
  if (out.length === 0) add(wishes[0]!);
  return out;
}

const n = (v: number): string => String(Math.round(v * 10) / 10);

/** The way as the d of an SVG path. Of a fan the far ways share an upright line,
 *  lest they lie on each other as a wedge. */
export function pathOf(levels: readonly Level[], fan = false): string {
  const first = levels[0]!;
  let d = `M${n(first.from)} ${n(first.y)}`;
  let last = first;
  for (const l of levels.slice(1)) {
    if (l.y === last.y) d += `H${n(l.from)}`;
    else if (l.from < last.to) d += `C${n(last.to + 60)} ${n(last.y)} ${n(l.from - 60)} ${n(l.y)} ${n(l.from)} ${n(l.y)}`;
    else if (fan && Math.abs(l.y - last.y) > 150) {
      const mid = (last.to + l.from) / 2;
      const turn = l.y > last.y ? 14 : -14;
      d += `H${n(mid - 14)}Q${n(mid)} ${n(last.y)} ${n(mid)} ${n(last.y + turn)}V${n(l.y - turn)}Q${n(mid)} ${n(l.y)} ${n(mid + 14)} ${n(l.y)}H${n(l.from)}`;
    } else {
      const mid = (last.to + l.from) / 2;
      d += `C${n(mid)} ${n(last.y)} ${n(mid)} ${n(l.y)} ${n(l.from)} ${n(l.y)}`;
    }
    if (l.to > l.from) d += `H${n(l.to)}`;
    last = l;
  }
  return d;
}

/** The head of the arrow at the end of a way. */
export function headOf(levels: readonly Level[]): string {
  const end = levels[levels.length - 1]!;
  return `M${n(end.to - 1)} ${n(end.y - 4)}L${n(end.to + HEAD)} ${n(end.y)}L${n(end.to - 1)} ${n(end.y + 4)}Z`;
}

/** Where a mark stands on a way: in the middle of its first curve. */
export function markAt(levels: readonly Level[]): { x: number; y: number } {
  const [a, b] = [levels[0]!, levels[1]!];
  return { x: (a.to + b.from) / 2, y: (a.y + b.y) / 2 };
}

/** The rectangle in which a way lies. */
export function wayBounds(levels: readonly Level[]): Rect {
  let top = Infinity;
  let bottom = -Infinity;
  for (const l of levels) {
    top = Math.min(top, l.y);
    bottom = Math.max(bottom, l.y);
  }
  const x = levels[0]!.from;
  return { x, y: top - 5, w: levels[levels.length - 1]!.to + HEAD - x, h: bottom - top + 10 };
}
