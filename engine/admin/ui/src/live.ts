// What changes while someone looks: one stream per tab that is seen. A browser
// holds few connections to one host, so tabs share three slots for streams;
// a tab without a slot asks once a second instead.
import { batch, effect, signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { heardTime } from "./clock.ts";
import { millis } from "./format.ts";
import type { CardCounts, Health, Overview, Sight, Totals, View, Workflow } from "./gen/api.ts";
import { base, call, explain, isAbort, RpcError, stream } from "./rpc.ts";

/** How the page hears of changes. */
export type Connection = "connecting" | "live" | "polling" | "reconnecting" | "paused" | "off";

export const connection = signal<Connection>("off");
/** Date.now() of the last message; 0 before the first. */
export const heardAt = signal(0);
/** Why the connection is down. */
export const connectionError = signal("");

export const totals = signal<Totals | undefined>(undefined);
export const health = signal<Health | undefined>(undefined);
export const overview = signal<Overview | undefined>(undefined);

/** What is known live of the workflow that the page shows. */
export interface WorkflowLive {
  id: string;
  maxCards: number;
  workflow: Workflow;
  /** Counts of all cards, by group: a new map with each change. */
  cards: ReadonlyMap<number, CardCounts>;
  /** The cards of the last message only. */
  changed: readonly CardCounts[];
  graphVersion: number;
}

export const workflowLive = signal<WorkflowLive | undefined>(undefined);

/** Set by the person: no live data until taken back. */
export const paused = signal(false);

/** Counts up when everything shown shall be read again ("r"). */
export const refreshes = signal(0);

const wanted = signal<View>({});
const enabled = signal(false);
const visible = signal(true);
let cursor = "0";
let lookOnce: AbortController | undefined;

/** Says what the page looks at, as long as the component is there. */
export function useView(view: View): void {
  const key = JSON.stringify(view);
  useEffect(() => {
    wanted.value = JSON.parse(key) as View;
    return () => {
      if (JSON.stringify(wanted.peek()) === key) wanted.value = {};
    };
  }, [key]);
}

/** Looks once more, also while paused. */
export function refresh(): void {
  refreshes.value++;
  if (!paused.peek()) return;
  lookOnce?.abort();
  lookOnce = new AbortController();
  call("LiveService/Look", { view: request() }, lookOnce.signal).then((a) => apply(a.sight), () => {});
}

/** Starts the live data; call it once someone is logged in, and stopLive when no more. */
export function startLive(): void {
  enabled.value = true;
}

export function stopLive(): void {
  enabled.value = false;
}

/** Wires the stream to the tab. Call it once. */
export function connectLive(): void {
  visible.value = document.visibilityState === "visible";
  document.addEventListener("visibilitychange", () => {
    visible.value = document.visibilityState === "visible";
  });
  effect(() => {
    JSON.stringify(wanted.value);
    if (!enabled.value || paused.value || !visible.value) {
      connection.value = paused.value ? "paused" : "off";
      return undefined;
    }
    const stop = new AbortController();
    // A change of pages sets the view twice in a row: only the last one counts.
    const timer = window.setTimeout(() => void follow(stop.signal), 20);
    return () => {
      window.clearTimeout(timer);
      stop.abort();
    };
  });
}

async function follow(stop: AbortSignal): Promise<void> {
  if (connection.peek() !== "live" && connection.peek() !== "polling") connection.value = "connecting";
  let wait = 500;
  let mute = 0; // streams that brought nothing although the engine answers
  while (!stop.aborted) {
    const before = heardAt.peek();
    try {
      if (mute >= 2 || !(await inSlot(stop, watch))) await poll(stop);
    } catch (e) {
      if (stop.aborted || isAbort(e)) return;
      mute += heardAt.peek() === before && !(e instanceof RpcError && e.code === "offline") ? 1 : 0;
      connectionError.value = explain(e);
      connection.value = "reconnecting";
    }
    if (heardAt.peek() !== before) wait = 500;
    await sleep(wait * (0.7 + 0.6 * Math.random()), stop);
    wait = Math.min(wait * 2, 5000);
  }
}

/** Runs f while this tab holds a slot for a stream; false if all are taken. */
async function inSlot(stop: AbortSignal, f: (stop: AbortSignal) => Promise<void>): Promise<boolean> {
  if (!navigator.locks) return false; // only pages served safely have them
  for (let slot = 0; slot < 3; slot++) {
    const got = await navigator.locks.request(`heddle stream ${base} ${slot}`, { ifAvailable: true }, async (lock) => {
      if (!lock || stop.aborted) return false;
      await f(stop);
      return true;
    });
    if (got || stop.aborted) return true;
  }
  return false;
}

async function watch(stop: AbortSignal): Promise<void> {
  const inner = new AbortController();
  const abort = (): void => inner.abort();
  stop.addEventListener("abort", abort);
  // A message is due every 10 s: a stream that says nothing for long is broken,
  // or something on the way holds it back.
  let silence = window.setTimeout(abort, 8000);
  try {
    for await (const m of stream("LiveService/Watch", { view: request() }, inner.signal)) {
      window.clearTimeout(silence);
      silence = window.setTimeout(abort, 25_000);
      connection.value = "live";
      apply(m.sight);
    }
  } catch (e) {
    if (isAbort(e) && !stop.aborted) throw new RpcError("unavailable", "the stream fell silent");
    throw e;
  } finally {
    window.clearTimeout(silence);
    stop.removeEventListener("abort", abort);
  }
}

/** Asks once a second, for a while; then it is time to try for a slot again. */
async function poll(stop: AbortSignal): Promise<void> {
  for (let i = 0; i < 10 && !stop.aborted; i++) {
    const answer = await call("LiveService/Look", { view: request() }, stop);
    connection.value = "polling";
    apply(answer.sight);
    await sleep(1000, stop);
  }
}

function request(): View {
  const view = wanted.peek();
  const known = workflowLive.peek();
  const same = known !== undefined && known.id === view.workflowId && known.maxCards === (view.maxCards ?? 0);
  return same ? { ...view, since: cursor } : view;
}

function apply(sight: Sight | undefined): void {
  if (!sight) return;
  const view = wanted.peek();
  batch(() => {
    heardAt.value = Date.now();
    connectionError.value = "";
    const at = millis(sight.at);
    if (at !== undefined) heardTime(at);
    if (sight.totals) totals.value = sight.totals;
    if (sight.health) health.value = sight.health;
    if (sight.overview) overview.value = sight.overview;
    const next = mergeWorkflow(workflowLive.peek(), view, sight);
    if (!next) return;
    cursor = sight.cursor ?? "0";
    workflowLive.value = next;
  });
}

/** What is known of a workflow after a message; undefined if the message is not about what the page looks at. */
export function mergeWorkflow(known: WorkflowLive | undefined, view: View, sight: Sight): WorkflowLive | undefined {
  const workflow = sight.workflow?.workflow;
  if (!workflow?.id || workflow.id !== view.workflowId) return undefined;
  const maxCards = view.maxCards ?? 0;
  const changed = sight.workflow?.cards ?? [];
  let cards: ReadonlyMap<number, CardCounts> = known?.id === workflow.id && known.maxCards === maxCards ? known.cards : new Map<number, CardCounts>();
  if (changed.length > 0) {
    const next = new Map(cards);
    for (const c of changed) next.set(c.group ?? 0, c);
    cards = next;
  }
  return { id: workflow.id, maxCards, workflow, cards, changed, graphVersion: sight.workflow?.graphVersion ?? 0 };
}

function sleep(ms: number, stop: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (stop.aborted) return done();
    const timer = window.setTimeout(end, ms);
    function end(): void {
      window.clearTimeout(timer);
      stop.removeEventListener("abort", end);
      done();
    }
    stop.addEventListener("abort", end);
  });
}
