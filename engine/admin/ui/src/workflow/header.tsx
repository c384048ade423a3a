// What stands above every view of a workflow: what it is, how it fares, what can
// be done to it.
import type { JSX } from "preact";
import { useRef } from "preact/hooks";
import { workflowActions } from "../actions.ts";
import { now } from "../clock.ts";
import { ActionBar } from "../components/actions.tsx";
import { Legend, StackedBar, StateBadge } from "../components/state.tsx";
import { Ago, Took } from "../components/time.tsx";
import { duration, number, pace as paceText } from "../format.ts";
import type { Workflow } from "../gen/api.ts";
import { useLoad } from "../load.ts";
import { isOperator } from "../access.ts";
import { call } from "../rpc.ts";
import { href, withQuery } from "../router.ts";
import { tally } from "../state.ts";
import { endedOf } from "./look.ts";
import type { Model } from "./model.ts";
import { Pacer } from "./rate.ts";

export function Header({ id, model }: { id: string; model: Model }): JSX.Element {
  const w = model.workflow;
  const t = tally(w?.jobs);
  const lone = model.scene?.graph.cards.length === 1 ? model.scene.graph.cards[0] : undefined;
  const name = w?.name || (lone?.size === 1 ? lone.label : "") || "workflow";
  // The workflow is its root batch, which alone knows whether it is open.
  const root = useLoad(model.running && isOperator.value && w?.name ? `root ${id}` : "", (s) => call("BatchService/Get", { workflowId: id, node: 0 }, s));
  const open = model.running && (root.data?.batch?.batch?.open ?? false);
  const actions = w ? workflowActions({ workflowId: id, label: name, state: model.state, paused: w.paused ?? false, failed: t.failed + t.cancelled, open }) : [];
  return (
    <header class="wf-head">
      <div class="wf-title">
        <p class="wf-crumb"><a href={href("/workflows")}>Workflows</a></p>
        <div class="row">
          <h1 class="clip">{name}</h1>
          {w ? <StateBadge state={model.state} paused={w.paused ?? false} /> : null}
          {open ? <span class="tag">open</span> : null}
        </div>
        <p class="wf-facts muted">
          <code class="clip" title={id}>{id}</code>
          {w ? <span>submitted <Ago at={w.createdAt} /></span> : null}
          {w ? <span>{model.running ? "running for" : "took"} <Took from={w.createdAt} to={w.finishedAt} /></span> : null}
          {model.running ? <Speed id={id} workflow={w} /> : null}
        </p>
      </div>
      <div class="wf-do"><ActionBar actions={actions} label={`Actions on ${name}`} shown={3} /></div>
      <div class="wf-counts">
        <StackedBar counts={w?.jobs} class="thick" />
        <div class="row wf-legend">
          <span class="num"><b>{number(endedOf(t))}</b> <span class="muted">of {number(t.total)} jobs</span></span>
          <Legend counts={w?.jobs} link={(s) => withQuery({ view: "table", state: s, page: null })} />
        </div>
      </div>
    </header>
  );
}

/** Jobs ended per second and the time left, as long as that is to be seen. */
function Speed({ id, workflow }: { id: string; workflow: Workflow | undefined }): JSX.Element | null {
  const pacer = useRef<Pacer>(undefined);
  pacer.current ??= new Pacer();
  const pace = pacer.current.note(id, workflow?.jobs, now.value);
  if (!pace) return null;
  const rate = paceText(pace.rate);
  return (
    <span class="num">{rate} jobs/s{pace.left !== undefined ? ` · about ${pace.left < 59_500 ? `${Math.ceil(pace.left / 1000)} s` : duration(pace.left)} left` : ""}</span>
  );
}
