// The states of nodes: word, icon, order and colour. The colours are custom
// properties of theme.css, --state-running and so on, for both themes.
import type { Counts, State } from "./gen/api.ts";

/** A state by its word. */
export type StateName =
  | "succeeded" | "running" | "available" | "retryable" | "blocked" | "scheduled" | "skipped" | "cancelled" | "failed";

/** All states in the order in which bars show them. */
export const states: readonly StateName[] = [
  "succeeded", "running", "available", "retryable", "blocked", "scheduled", "skipped", "cancelled", "failed",
];

/** States that a node can leave by itself. */
export const openStates: readonly StateName[] = ["blocked", "scheduled", "available", "running", "retryable"];

const names: Record<State, StateName | undefined> = {
  STATE_UNSPECIFIED: undefined,
  STATE_BLOCKED: "blocked",
  STATE_SCHEDULED: "scheduled",
  STATE_AVAILABLE: "available",
  STATE_RUNNING: "running",
  STATE_RETRYABLE: "retryable",
  STATE_SUCCEEDED: "succeeded",
  STATE_FAILED: "failed",
  STATE_CANCELLED: "cancelled",
  STATE_SKIPPED: "skipped",
};

/** The word of a state; an engine that knows more states than this page is shown as blocked. */
export function stateName(s: State | undefined): StateName {
  return (s && names[s]) || "blocked";
}

/** The state of a word in the API. */
export function stateOf(name: string): State | undefined {
  const s = `STATE_${name.toUpperCase()}` as State;
  return names[s] ? s : undefined;
}

/** The state by its number in the API, as in a mosaic. */
export function stateByNumber(n: number): StateName {
  return Object.values(names)[n] ?? "blocked";
}

/** Whether a node in this state has ended. */
export function ended(name: StateName): boolean {
  return !openStates.includes(name);
}

/** Drawings of the icons, in a box of 16 by 16, to be stroked. */
export const stateIcons: Record<StateName, string> = {
  succeeded: "M3 8.5 6.5 12 13 4.5",
  running: "M5 3.2v9.6L12.8 8Z",
  available: "M8 3.5a4.5 4.5 0 1 0 .01 0Z",
  retryable: "M12.6 9.5A4.8 4.8 0 1 1 12 5M12.8 2.2v3.4H9.4",
  blocked: "M4 7.5h8v5.5H4ZM5.5 7.5V5.4a2.5 2.5 0 0 1 5 0v2.1",
  scheduled: "M8 2.5a5.5 5.5 0 1 0 .01 0ZM8 5v3.2l2.2 1.4",
  skipped: "M3 4l5 4-5 4ZM8.2 4l5 4-5 4Z",
  cancelled: "M8 2.5a5.5 5.5 0 1 0 .01 0ZM4.2 4.2l7.6 7.6",
  failed: "M4 4l8 8M12 4l-8 8",
};

/** The counts of a message, by state, as numbers. */
export function tally(c: Counts | undefined): Record<StateName, number> & { total: number } {
  const out = { total: Number(c?.total ?? 0) } as Record<StateName, number> & { total: number };
  for (const s of states) out[s] = Number(c?.[s] ?? 0);
  return out;
}
