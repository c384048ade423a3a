// The critical path: what released what, back from the node that ended last.
import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { thisInstant } from "../clock.ts";
import { duration, millis, number } from "../format.ts";
import type { PathStep } from "../gen/api.ts";
import { useLoad } from "../load.ts";
import { call } from "../rpc.ts";
import { choose } from "./choice.ts";
import type { Edge, Graph } from "./graph.ts";
import { within } from "./graph.ts";
import { MAX_CARDS } from "./model.ts";

export interface Critical {
  groups: ReadonlySet<number>;
  edges: ReadonlySet<Edge>;
  summary: JSX.Element | null;
}

const nothing: Critical = { groups: new Set(), edges: new Set(), summary: null };

export function useCritical(id: string, g: Graph, on: boolean, running: boolean): Critical {
  const read = useLoad(on ? `critical ${id}` : "", (s) => call("WorkflowService/CriticalPath", { workflowId: id, maxCards: MAX_CARDS }, s), running ? 3000 : undefined);
  const answer = on ? read.data : undefined;
  return useMemo((): Critical => {
    if (!on) return nothing;
    if (read.error) return { ...nothing, summary: <p class="wf-note error" role="alert">{read.error.message}</p> };
    if (!answer) return nothing;
    const steps = answer.steps ?? [];
    const groups = new Set(steps.map((s) => s.group ?? 0));
    return { groups, edges: along(g, steps), summary: <Summary steps={steps} more={answer.more ?? false} /> };
  }, [on, g, answer, read.error]);
}

/** The edges that lead from step to step: between the cards, or the boxes around them. */
function along(g: Graph, steps: readonly PathStep[]): Set<Edge> {
  const out = new Set<Edge>();
  const covers = (end: number, card: number): boolean => end === card || within(g, card, end);
  for (let i = 1; i < steps.length; i++) {
    const [a, b] = [steps[i - 1]!.group ?? 0, steps[i]!.group ?? 0];
    for (const e of g.edges) if (covers(e.from, a) && covers(e.to, b) && a !== b) out.add(e);
  }
  return out;
}

interface Stretch {
  step: PathStep;
  ran: number;
  waited: number;
}

function stretches(steps: readonly PathStep[], now: number): Stretch[] {
  return steps.map((step) => {
    const released = millis(step.releasedAt);
    const started = millis(step.startedAt);
    const finished = millis(step.finishedAt);
    const end = finished ?? (started !== undefined || released !== undefined ? now : undefined);
    return {
      step,
      ran: started !== undefined && end !== undefined && !step.isBatch ? Math.max(0, end - started) : 0,
      waited: released !== undefined && !step.isBatch ? Math.max(0, (started ?? end ?? released) - released) : 0,
    };
  });
}

function Summary({ steps, more }: { steps: readonly PathStep[]; more: boolean }): JSX.Element {
  const all = stretches(steps, thisInstant());
  const [ran, waited] = [all.reduce((n, s) => n + s.ran, 0), all.reduce((n, s) => n + s.waited, 0)];
  const longest = [...all].sort((a, b) => b.ran + b.waited - a.ran - a.waited).slice(0, 3).filter((s) => s.ran + s.waited > 0);
  if (steps.length === 0) return <p class="wf-note">Nothing has been released yet: there is no path.</p>;
  return (
    <div class="wf-note wf-critical">
      <span><b>Critical path</b> · {more ? "last " : ""}{number(steps.length)} steps · ran {duration(ran)} · waited {duration(waited)}</span>
      {longest.length > 0 ? <span class="muted">longest:</span> : null}
      {longest.map((s) => (
        <button key={s.step.node} type="button" class="link" onClick={() => choose({ node: s.step.node ?? 0 })}>
          {s.step.name || s.step.kind || `node ${s.step.node}`} <span class="num">{duration(s.ran + s.waited)}</span>
        </button>
      ))}
    </div>
  );
}
