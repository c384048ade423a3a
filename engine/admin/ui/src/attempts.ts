// A job's life as stretches of time, read from its row and its attempts.
import { millis } from "./format.ts";
import type { Attempt, Job } from "./gen/api.ts";
import { ended, stateName, type StateName } from "./state.ts";

export interface Stretch {
  /** The state whose icon and colour it has. */
  state: StateName;
  what: string;
  from: number;
  /** Undefined: not over. */
  to: number | undefined;
  /** Time passes without the job running. */
  waits: boolean;
  worker?: string;
  error?: string;
}

/** The stretches of a job's life, oldest first. */
export function stretches(j: Job): Stretch[] {
  const out: Stretch[] = [];
  const state = stateName(j.state);
  const created = millis(j.createdAt);
  const finished = millis(j.finishedAt);
  const tries = [...(j.attempts ?? [])].sort((a, b) => (millis(a.startedAt) ?? 0) - (millis(b.startedAt) ?? 0));
  const started = millis(j.startedAt);
  // The last try has no attempt of its own while it runs, and none once it succeeded.
  const recorded = tries.some((a) => millis(a.startedAt) === started || (finished !== undefined && millis(a.finishedAt) === finished));
  let at = created;
  let n = 0;
  for (const a of tries) {
    const from = millis(a.startedAt);
    if (from === undefined) continue;
    if (at !== undefined && from > at) out.push(wait(n === 0 ? "Waited to start" : "Waited for the next attempt", at, from));
    out.push({ ...tried(a), from, to: millis(a.finishedAt) });
    at = millis(a.finishedAt) ?? from;
    n++;
  }
  const own = started !== undefined && !recorded && (state === "running" || ended(state));
  if (own) {
    if (at !== undefined && started > at) out.push(wait(n === 0 ? "Waited to start" : "Waited for the next attempt", at, started));
    out.push({
      state, from: started, to: state === "running" ? undefined : finished, waits: false,
      what: state === "running" ? `Attempt ${(j.attempt ?? 0) + 1} runs` : `Attempt ${Math.max(1, j.attempt ?? 0, n + 1)} ${state}`,
      ...(j.worker ? { worker: j.worker } : {}),
      ...(j.error && state !== "running" ? { error: j.error } : {}),
    });
  } else if (!ended(state) && state !== "running" && at !== undefined) {
    out.push({ state, what: waitsFor[state] ?? "Waits", from: at, to: undefined, waits: true });
  } else if (ended(state) && finished !== undefined && at !== undefined && finished > at && !recorded) {
    out.push(wait("Waited", at, finished));
  }
  return out;
}

const waitsFor: Partial<Record<StateName, string>> = {
  blocked: "Waits for what comes before it",
  scheduled: "Waits for its time",
  available: "Due, waits for a worker",
  retryable: "Waits for the next attempt",
};

function wait(what: string, from: number, to: number): Stretch {
  return { state: "blocked", what, from, to, waits: true };
}

function tried(a: Attempt): Omit<Stretch, "from" | "to"> {
  const how = a.how ?? "failed";
  const state: StateName = how === "snoozed" ? "scheduled" : how === "released" ? "available" : "failed";
  return { state, what: `Attempt ${a.attempt ?? 0} ${how}`, waits: false, ...(a.worker ? { worker: a.worker } : {}), ...(a.error ? { error: a.error } : {}) };
}
