import type { JSX } from "preact";
import { me } from "../access.ts";
import { jobActions } from "../actions.ts";
import { now } from "../clock.ts";
import { ActionBar } from "../components/actions.tsx";
import { ErrorText } from "../components/failure.tsx";
import { JobHistory } from "../components/history.tsx";
import { Icon } from "../components/icon.tsx";
import { JsonView } from "../components/json.tsx";
import { Failure } from "../components/notice.tsx";
import { StateBadge } from "../components/state.tsx";
import { duration, millis } from "../format.ts";
import type { Job } from "../gen/api.ts";
import { jobHref, jobLabel } from "../jobrow.tsx";
import { useLoad } from "../load.ts";
import { call } from "../rpc.ts";
import { href } from "../router.ts";
import { ended, stateName } from "../state.ts";
import type { Card } from "./graph.ts";
import { InspectBatch } from "./inspect_batch.tsx";
import { Around, Inside, Isolate, NodeLink, Part } from "./inspect_parts.tsx";
import type { Model } from "./model.ts";

export function InspectJob({ id, node, model, card }: { id: string; node: number; model: Model; card: Card | undefined }): JSX.Element {
  const name = `${id}/${node}`;
  const read = useLoad(`job ${name}`, async (s) => (await call("JobService/Get", { id: name }, s)).job ?? {}, model.running ? 1500 : 5000);
  const job = read.data;
  const state = job && stateName(job.state);
  const waits = state !== undefined && !ended(state) && state !== "running";
  const around = useLoad(state ? `relatives ${name} ${state}` : "", (s) => call("JobService/Relatives", { id: name }, s));
  const why = useLoad(waits ? `explain ${name} ${state}` : "", (s) => call("JobService/Explain", { id: name }, s), 4000);
  if (read.error?.code === "not_found" && !job) return <InspectBatch id={id} node={node} model={model} />;
  if (!job || !state) return read.error ? <Failure error={read.error} retry={read.reload} /> : <p class="loading" role="status">Loading…</p>;
  const label = job.name || (card && card.node === 0 ? `${job.kind ?? "job"} ${node}` : jobLabel(job));
  const held = state === "failed" && (around.data?.after ?? []).some((r) => !r.fired && !r.died);
  const took = millis(job.startedAt) !== undefined ? Math.max(0, (millis(job.finishedAt) ?? now.value) - millis(job.startedAt)!) : undefined;
  const shownError = job.error && !(job.attempts ?? []).some((a) => a.error === job.error);
  return (
    <>
      <div class="wf-what">
        <h2>{label}</h2>
        <p class="row"><StateBadge state={job.state} />{job.cancelRequested && !ended(state) ? <span class="tag warn">cancel requested</span> : null}{held ? <span class="tag warn">held</span> : null}</p>
        <Inside around={around.data?.around} />
      </div>
      <div class="row">
        <ActionBar small shown={3} label={`Actions on ${label}`} actions={jobActions({ workflowId: id, node, label, state, held })} />
        <Isolate node={node} />
        <a class="button small" href={jobHref(job)}>Job page<Icon name="out" /></a>
      </div>
      {waits && why.data?.reasons?.length ? (
        <Part title="Why it is not running">
          <ul class="wf-why">
            {why.data.reasons.map((r) => (
              <li key={r.code}>{r.text}{r.nodes?.length ? <span class="muted">: {r.nodes.slice(0, 8).map((n, i) => <>{i > 0 ? ", " : ""}<NodeLink node={n}>node {n}</NodeLink></>)}{r.nodes.length > 8 ? ` and ${r.nodes.length - 8} more` : ""}</span> : null}</li>
            ))}
          </ul>
        </Part>
      ) : null}
      {shownError ? <Part title="Error"><ErrorText text={job.error!} /></Part> : null}
      <dl class="facts">
        <dt>Kind</dt><dd><a href={href("/jobs", { q: `kind:${job.kind}` })}>{job.kind}</a></dd>
        <dt>Queue</dt><dd>{job.queue}, priority {job.priority ?? 0}</dd>
        <dt>Attempts</dt><dd class="num">{job.attempt ?? 0} of {job.maxAttempts ?? 0}</dd>
        {took !== undefined ? <><dt>{state === "running" ? "Runs for" : "Ran"}</dt><dd class="num">{duration(took)}</dd></> : null}
        {job.worker ? <><dt>Worker</dt><dd>{job.worker}</dd></> : null}
        {job.releasedBy ? <><dt>Released by</dt><dd><NodeLink node={job.releasedBy}>node {job.releasedBy}</NodeLink></dd></> : null}
        <dt>Node</dt><dd class="num">{node}</dd>
      </dl>
      <Part title="History"><JobHistory job={shownError ? { ...job, error: "" } : job} /></Part>
      <Around title="Comes after" list={around.data?.before} total={around.data?.beforeTotal ?? 0} />
      <Around title="Continues with" list={around.data?.after} total={around.data?.afterTotal ?? 0} />
      {me.value?.payloadsHidden ? <p class="muted">This engine does not show arguments and results to you.</p> : <Payloads job={job} over={ended(state)} />}
    </>
  );
}

function Payloads({ job, over }: { job: Job; over: boolean }): JSX.Element {
  return (
    <>
      <Part title="Arguments"><JsonView text={job.argsJson} raw={job.args} label="Arguments" /></Part>
      {over ? <Part title="Result"><JsonView text={job.resultJson} raw={job.result} label="Result" /></Part> : null}
    </>
  );
}
