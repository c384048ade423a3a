// The rows of the timeline: cards in the order of the graph, boxes before what is
// in them, jobs below their open card.
import type { Span, TimelineJob, TimelineRow } from "../gen/api.ts";
import { millis } from "../format.ts";
import { stateName, states, type StateName } from "../state.ts";
import type { Graph } from "./graph.ts";

export interface Piece {
  from: number;
  /** Undefined: not over. */
  to: number | undefined;
  what: "waiting" | "delayed" | "attempt";
  state: StateName;
  worker: string;
  how: string;
}

export interface TimeRow {
  key: string;
  group: number;
  /** A job of an open card; else the card. */
  node: number;
  depth: number;
  label: string;
  height: number;
  top: number;
  isBox: boolean;
  /** Whether there is more to open. */
  opens: boolean;
  from: number | undefined;
  to: number | undefined;
  running: readonly number[];
  failed: readonly number[];
  /** The greatest of running. */
  most: number;
  pieces: readonly Piece[];
  state: StateName | undefined;
}

export const ROW_H = 30;
export const JOB_H = 24;

/** The groups in the order of rows, with how deep they lie. */
export function order(g: Graph): { group: number; depth: number }[] {
  const out: { group: number; depth: number }[] = [];
  const place = (a: number, b: number): number => {
    const [p, q] = [g.cards[a]!, g.cards[b]!];
    return p.x - q.x || p.y - q.y;
  };
  const visit = (groups: number[], depth: number): void => {
    for (const n of [...groups].sort(place)) {
      out.push({ group: n, depth });
      visit(g.inside[n]!, depth + 1);
    }
  };
  visit(g.cards.filter((c) => c.box < 0).map((c) => c.group), 0);
  return out;
}

/** All rows. jobs gives those of the open cards, by group. */
export function rowsOf(g: Graph, answer: readonly TimelineRow[], jobs: ReadonlyMap<number, readonly TimelineJob[]>): TimeRow[] {
  const byGroup = new Map(answer.map((r) => [r.group ?? 0, r]));
  const spans = new Map<number, [number, number]>(); // of boxes
  for (const { group } of order(g).reverse()) {
    const r = byGroup.get(group);
    const own = spans.get(group);
    const from = Math.min(millis(r?.firstStart) ?? Infinity, own?.[0] ?? Infinity);
    const to = Math.max(millis(r?.lastEnd) ?? -Infinity, own?.[1] ?? -Infinity);
    spans.set(group, [from, to]);
    const box = g.cards[group]!.box;
    if (box >= 0) {
      const b = spans.get(box) ?? [Infinity, -Infinity];
      spans.set(box, [Math.min(b[0], from), Math.max(b[1], to)]);
    }
  }
  const rows: TimeRow[] = [];
  let top = 0;
  const add = (r: Omit<TimeRow, "top">): void => {
    rows.push({ ...r, top });
    top += r.height;
  };
  for (const { group, depth } of order(g)) {
    const card = g.cards[group]!;
    const r = byGroup.get(group);
    const [from, to] = spans.get(group)!;
    const running = r?.running ?? [];
    add({
      key: `c${card.first}${card.isBox ? "b" : ""}`, group, node: 0, depth, label: card.label, height: ROW_H, isBox: card.isBox, opens: !card.isBox && !card.isBatch,
      from: Number.isFinite(from) ? from : undefined, to: Number.isFinite(to) ? to : undefined,
      running, failed: r?.failed ?? [], most: running.reduce((a, b) => Math.max(a, b), 0), pieces: [], state: undefined,
    });
    for (const j of jobs.get(group) ?? []) {
      const pieces = (j.spans ?? []).map(piece).filter((p) => p !== undefined);
      add({
        key: `n${j.node}`, group, node: j.node ?? 0, depth: depth + 1, label: j.name || `${j.kind ?? "job"} ${j.node ?? 0}`, height: JOB_H, isBox: false, opens: false,
        from: pieces[0]?.from, to: pieces.at(-1)?.to, running: [], failed: [], most: 0, pieces, state: stateName(j.state),
      });
    }
  }
  return rows;
}

function piece(s: Span): Piece | undefined {
  const from = millis(s.from);
  if (from === undefined) return undefined;
  const what = s.what === "attempt" || s.what === "delayed" ? s.what : "waiting";
  const how = s.how ?? "";
  return { from, to: millis(s.to), what, how, worker: s.worker ?? "", state: colourOf(what, how) };
}

function colourOf(what: Piece["what"], how: string): StateName {
  if (what === "waiting") return "available";
  if (what === "delayed") return "scheduled";
  if (states.includes(how as StateName)) return how as StateName;
  switch (how) {
    case "lost":
    case "timeout": return "failed";
    case "snoozed":
    case "released": return "scheduled";
  }
  return "running";
}

/** The row at a height, by halving. */
export function rowAt(rows: readonly TimeRow[], y: number): number {
  let lo = 0;
  let hi = rows.length - 1;
  while (lo < hi) {
    const mid = (lo + hi + 1) >> 1;
    if (rows[mid]!.top <= y) lo = mid;
    else hi = mid - 1;
  }
  const r = rows[lo];
  return r && y >= r.top && y < r.top + r.height ? lo : -1;
}
