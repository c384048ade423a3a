// The graph as the page draws it: cards and edges with their places in pixels,
// and the questions one can ask of them. Nothing here knows how its nodes fare.
import type { GraphResponse, LineageResponse } from "../gen/api.ts";

/** Pixels of a column and a row of the engine's layout, and of a card in them. */
export const COLUMN = 272;
export const ROW = 92;
export const CARD_W = 0.74 * COLUMN;
export const CARD_H = 0.7 * ROW;

/** Outcome bits of an edge's condition. */
export const SUCCEEDED = 1;
export const FAILED = 2;
export const CANCELLED = 4;
export const SKIPPED = 8;

/** Of an edge that ties a batch and its member, among ancestors and descendants. */
export const MEMBER = 0;

export interface Rect {
  x: number; // left
  y: number; // top
  w: number;
  h: number;
}

export interface Card extends Rect {
  /** Place in Graph.cards; the engine's number of the group. */
  group: number;
  /** Group of the box the card stands in; -1: none. */
  box: number;
  /** Drawn around what is in it. */
  isBox: boolean;
  isBatch: boolean;
  label: string;
  kind: string;
  rank: number;
  /** Number of the node, where the card stands for one; else 0. */
  node: number;
  /** First and last number of its nodes; the first names the card in addresses. */
  first: number;
  last: number;
  /** Nodes it stands for. */
  size: number;
}

export interface Edge {
  from: number;
  to: number;
  on: number;
  size: number;
}

export interface Graph {
  cards: Card[];
  edges: Edge[];
  /** Edges out of and into each card, by place in edges. */
  out: number[][];
  into: number[][];
  /** Cards that stand in each box. */
  inside: number[][];
  /** How far groups were merged: "", "rank and kind", "rank". */
  merged: string;
  groups: number;
}

/** Makes a graph of the engine's answer. */
export function graphOf(answer: GraphResponse): Graph {
  const cards = (answer.cards ?? []).map((c, i): Card => ({
    group: c.group ?? i,
    box: c.box ?? 0,
    isBox: false,
    isBatch: c.isBatch ?? false,
    label: c.label ?? "",
    kind: c.kind ?? "",
    rank: c.rank ?? 0,
    node: c.node ?? 0,
    first: c.firstNode ?? 0,
    last: c.lastNode ?? 0,
    size: c.size ?? 1,
    ...around((c.x ?? 0) * COLUMN, (c.y ?? 0) * ROW, (c.width ?? 0) * COLUMN, (c.height ?? 0) * ROW),
  }));
  for (const c of cards) {
    if (c.box >= 0 && cards[c.box]) cards[c.box]!.isBox = true;
  }
  for (const c of cards) {
    if (!c.isBox) Object.assign(c, around(c.x + c.w / 2, c.y + c.h / 2, CARD_W, CARD_H));
  }
  const edges = (answer.edges ?? []).map((e) => ({ from: e.from ?? 0, to: e.to ?? 0, on: e.on || SUCCEEDED, size: e.size ?? 1 }));
  return finish(cards, edges, answer.merged ?? "", answer.groups ?? cards.length);
}

/** Makes a graph of one node's ancestors and descendants; a card's group is its place. */
export function lineageGraph(answer: LineageResponse): Graph {
  const place = new Map<number, number>();
  const cards = (answer.nodes ?? []).map((n, i): Card => {
    place.set(n.node ?? 0, i);
    return {
      group: i, box: -1, isBox: false, isBatch: n.isBatch ?? false,
      label: n.name || n.kind || `${n.isBatch ? "batch" : "node"} ${n.node ?? 0}`, kind: n.kind ?? "",
      rank: n.distance ?? 0, node: n.node ?? 0, first: n.node ?? 0, last: n.node ?? 0, size: 1,
      ...around((n.x ?? 0) * COLUMN, (n.y ?? 0) * ROW, CARD_W, CARD_H),
    };
  });
  const edges: Edge[] = [];
  for (const e of answer.edges ?? []) {
    const from = place.get(e.parent ?? 0);
    const to = place.get(e.child ?? 0);
    if (from !== undefined && to !== undefined) edges.push({ from, to, on: e.on ?? MEMBER, size: 1 });
  }
  return finish(cards, edges, "", cards.length);
}

function around(cx: number, cy: number, w: number, h: number): Rect {
  return { x: cx - w / 2, y: cy - h / 2, w, h };
}

function finish(cards: Card[], edges: Edge[], merged: string, groups: number): Graph {
  const lists = (): number[][] => cards.map(() => []);
  const g: Graph = { cards, edges, out: lists(), into: lists(), inside: lists(), merged, groups };
  edges.forEach((e, i) => {
    g.out[e.from]?.push(i);
    g.into[e.to]?.push(i);
  });
  for (const c of cards) if (c.box >= 0) g.inside[c.box]?.push(c.group);
  return g;
}

/** The card whose first node has this number. */
export function cardByFirst(g: Graph, first: number): Card | undefined {
  return g.cards.find((c) => c.first === first);
}

/** The cards that hold everything drawn: their bounds. */
export function bounds(rects: readonly Rect[]): Rect {
  let x = Infinity, y = Infinity, right = -Infinity, bottom = -Infinity;
  for (const r of rects) {
    x = Math.min(x, r.x);
    y = Math.min(y, r.y);
    right = Math.max(right, r.x + r.w);
    bottom = Math.max(bottom, r.y + r.h);
  }
  return rects.length === 0 ? { x: 0, y: 0, w: 1, h: 1 } : { x, y, w: right - x, h: bottom - y };
}

/** What lies before or behind a card: by edges, and through boxes, which start
 *  before and end after what is in them. The card itself is not in it. */
export function reach(g: Graph, start: number, way: "up" | "down"): Set<number> {
  // Event 2n is the start of card n, 2n + 1 its end.
  const seen = new Set<number>();
  const queue: number[] = [];
  const visit = (event: number): void => {
    if (!seen.has(event)) {
      seen.add(event);
      queue.push(event);
    }
  };
  visit(way === "down" ? 2 * start : 2 * start + 1);
  for (let event = queue.pop(); event !== undefined; event = queue.pop()) {
    const n = event >> 1;
    const isEnd = (event & 1) === 1;
    const box = g.cards[n]!.box;
    if (way === "down") {
      if (isEnd) {
        for (const e of g.out[n]!) visit(2 * g.edges[e]!.to);
        if (box >= 0) visit(2 * box + 1);
      } else {
        visit(2 * n + 1);
        for (const m of g.inside[n]!) visit(2 * m);
      }
    } else if (isEnd) {
      visit(2 * n);
      for (const m of g.inside[n]!) visit(2 * m + 1);
    } else {
      for (const e of g.into[n]!) visit(2 * g.edges[e]!.from + 1);
      if (box >= 0) visit(2 * box);
    }
  }
  const cards = new Set<number>();
  for (const event of seen) cards.add(event >> 1);
  cards.delete(start);
  return cards;
}

export type Arrow = "ArrowLeft" | "ArrowRight" | "ArrowUp" | "ArrowDown";

/** Where an arrow key leads from a card: left and right along edges, or into and
 *  out of a box; up and down to what is next in the column. */
export function walk(g: Graph, from: number, key: Arrow, shown: (group: number) => boolean): number | undefined {
  const c = g.cards[from];
  if (!c) return undefined;
  const mid = c.y + c.h / 2;
  const nearest = (groups: Iterable<number>): number | undefined => {
    let best: number | undefined;
    for (const n of groups) {
      if (n === from || !shown(n)) continue;
      if (best === undefined || Math.abs(midY(g, n) - mid) < Math.abs(midY(g, best) - mid)) best = n;
    }
    return best;
  };
  switch (key) {
    case "ArrowRight": {
      const next = nearest(g.out[from]!.map((e) => g.edges[e]!.to));
      if (next !== undefined) return next;
      if (c.isBox) return nearest(g.inside[from]!.filter((n) => g.into[n]!.length === 0)) ?? nearest(g.inside[from]!);
      return c.box >= 0 ? walk(g, c.box, key, shown) : undefined;
    }
    case "ArrowLeft": {
      const next = nearest(g.into[from]!.map((e) => g.edges[e]!.from));
      return next ?? (c.box >= 0 && shown(c.box) ? c.box : undefined);
    }
    default: {
      const down = key === "ArrowDown";
      if (c.isBox && down) {
        const first = [...g.inside[from]!].filter(shown).sort((a, b) => g.cards[a]!.x - g.cards[b]!.x || g.cards[a]!.y - g.cards[b]!.y)[0];
        if (first !== undefined) return first;
      }
      let best: number | undefined;
      let least = Infinity;
      for (const o of g.cards) {
        if (o.group === from || !shown(o.group) || within(g, from, o.group) || within(g, o.group, from)) continue;
        const dy = (o.y + o.h / 2 - mid) * (down ? 1 : -1);
        if (dy <= 1) continue;
        const apart = Math.max(0, Math.max(o.x, c.x) - Math.min(o.x + o.w, c.x + c.w));
        const far = dy + 3 * apart + (o.box === c.box ? 0 : 40);
        if (far < least) [least, best] = [far, o.group];
      }
      if (best === undefined && !down && c.box >= 0 && shown(c.box)) return c.box;
      return best;
    }
  }
}

function midY(g: Graph, n: number): number {
  return g.cards[n]!.y + g.cards[n]!.h / 2;
}

/** Whether card n lies in box b, at any depth. */
export function within(g: Graph, n: number, b: number): boolean {
  for (let box = g.cards[n]?.box ?? -1; box >= 0; box = g.cards[box]!.box) if (box === b) return true;
  return false;
}

/** The condition of an edge in a word; "" for success, which goes without saying. */
export function condition(on: number): string {
  switch (on) {
    case MEMBER:
    case SUCCEEDED: return "";
    case FAILED: return "failed";
    case CANCELLED: return "cancelled";
    case SKIPPED: return "skipped";
    case SUCCEEDED | FAILED | CANCELLED: return "finished";
    case SUCCEEDED | FAILED | CANCELLED | SKIPPED: return "always";
  }
  return outcomesOf(on).join(" or ");
}

/** The outcomes on which an edge fires. */
export function outcomesOf(on: number): ("succeeded" | "failed" | "cancelled" | "skipped")[] {
  const all = [[SUCCEEDED, "succeeded"], [FAILED, "failed"], [CANCELLED, "cancelled"], [SKIPPED, "skipped"]] as const;
  return all.filter(([bit]) => (on & bit) !== 0).map(([, word]) => word);
}
