// How a card fares, as the page shows it: from its counts.
import type { CardCounts, Counts, State } from "../gen/api.ts";
import { ended, openStates, stateName, states, tally, type StateName } from "../state.ts";
import { number, short } from "../format.ts";
import type { Card } from "./graph.ts";

export interface Look {
  /** The state that leads: of a single node its own, else what matters most. */
  state: StateName;
  counts: Record<StateName, number> & { total: number };
  /** Of a batch: its own state beside that of its members. */
  own: StateName | undefined;
}

export function lookOf(card: Card, counts: Counts | undefined, state: State | undefined): Look {
  const t = tally(counts);
  const own = state && state !== "STATE_UNSPECIFIED" ? stateName(state) : undefined;
  return { state: card.node !== 0 && own ? own : leading(t), counts: t, own: card.isBatch ? own : undefined };
}

export function lookOfLive(card: Card, c: CardCounts): Look {
  return lookOf(card, c.counts, c.state);
}

/** The state of many: what happens now, then what went wrong, then how it ended. */
export function leading(t: Record<StateName, number>): StateName {
  for (const s of ["running", "retryable", "available"] as const) if (t[s] > 0) return s;
  if (openStates.every((s) => t[s] === 0)) {
    for (const s of ["failed", "cancelled", "succeeded", "skipped"] as const) if (t[s] > 0) return s;
    return "succeeded";
  }
  if (t.failed > 0 && t.blocked + t.scheduled === 0) return "failed";
  return t.scheduled > 0 ? "scheduled" : "blocked";
}

/** How many have ended. */
export function endedOf(t: Record<StateName, number>): number {
  return t.succeeded + t.failed + t.cancelled + t.skipped;
}

/** The second line of a card. */
export function subtitle(card: Card, look: Look): string {
  const t = look.counts;
  if (card.node !== 0 && !card.isBatch) return card.kind && card.kind !== card.label ? `${look.state} · ${card.kind}` : look.state;
  if (t.total === 0) return look.own ?? "nothing in it";
  const done = endedOf(t);
  const parts: string[] = [];
  if (card.isBatch && look.own) parts.push(look.own);
  if (done < t.total) {
    parts.unshift(`${short(done)} of ${short(t.total)}`);
    if (t.failed > 0) parts.push(`${short(t.failed)} failed`);
    else if (t.retryable > 0) parts.push(`${short(t.retryable)} retryable`);
  } else if (t.succeeded === t.total) parts.push(`all ${short(done)} succeeded`);
  else for (const s of ["failed", "cancelled", "succeeded", "skipped"] as const) if (t[s] > 0) parts.push(`${short(t[s])} ${s}`);
  return parts.slice(0, 2).join(" · ");
}

/** All there is to say of a card, for screen readers and titles. */
export function describe(card: Card, look: Look, before: readonly string[]): string {
  const what = card.isBatch ? (card.node ? "batch" : "batches") : card.node ? `job, kind ${card.kind}` : "jobs";
  const counts = card.node !== 0 && !card.isBatch ? look.state
    : states.filter((s) => look.counts[s] > 0).map((s) => `${number(look.counts[s])} ${s}`).join(", ") || "nothing in it";
  const own = look.own && card.isBatch ? `${look.own}, ` : "";
  const after = before.length === 0 ? "" : `; after ${before.slice(0, 3).join(", ")}${before.length > 3 ? ` and ${before.length - 3} more` : ""}`;
  return `${card.label}, ${card.size > 1 ? number(card.size) + " " : ""}${what}: ${own}${counts}${after}`;
}

/** Whether a card has nothing left to tell: all of it succeeded. */
export function allSucceeded(look: Look): boolean {
  if (look.own && look.own !== "succeeded") return false;
  return look.counts.total > 0 ? look.counts.succeeded === look.counts.total : look.state === "succeeded";
}

export function isOver(look: Look): boolean {
  return look.own ? ended(look.own) : look.counts.total > 0 ? endedOf(look.counts) === look.counts.total : ended(look.state);
}

/** Shares of a bar by state, in the order of bars; 0 to 1. */
export function shares(t: Record<StateName, number>): { state: StateName; from: number; to: number }[] {
  const all = states.reduce((sum, s) => sum + t[s], 0);
  const out: { state: StateName; from: number; to: number }[] = [];
  let at = 0;
  for (const s of states) {
    if (t[s] === 0) continue;
    out.push({ state: s, from: at / all, to: (at + t[s]) / all });
    at += t[s];
  }
  return out;
}
