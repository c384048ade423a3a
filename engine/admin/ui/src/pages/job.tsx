import type { JSX } from "preact";
import { jobActions, remove, type Action } from "../actions.ts";
import { isOperator, me } from "../access.ts";
import { ActionBar } from "../components/actions.tsx";
import { JobHistory } from "../components/history.tsx";
import { JsonView } from "../components/json.tsx";
import { Loading } from "../components/notice.tsx";
import { nodeHref, Relatives } from "../components/relatives.tsx";
import { StateBadge } from "../components/state.tsx";
import { At } from "../components/time.tsx";
import { ErrorText, firstLine } from "../components/failure.tsx";
import { Icon } from "../components/icon.tsx";
import { duration, lengthOf, millis } from "../format.ts";
import { useCopy } from "../frame.tsx";
import type { Job, JobServiceExplainResponse, JobServiceRelativesResponse } from "../gen/api.ts";
import { jobLabel, tries } from "../jobrow.tsx";
import { useLoad } from "../load.ts";
import { href } from "../router.ts";
import { call } from "../rpc.ts";
import { ended, stateName } from "../state.ts";

export function JobPage({ id }: { id: string }): JSX.Element {
  const read = useLoad(`job ${id}`, async (signal) => (await call("JobService/Get", { id }, signal)).job ?? {}, 2000);
  const job = read.data;
  const state = job && stateName(job.state);
  // What stands around a job changes with it; both are read again with its state.
  const around = useLoad(job ? `relatives ${id} ${state}` : "", (signal) => call("JobService/Relatives", { id }, signal));
  const why = useLoad(state && !ended(state) && state !== "running" ? `explain ${id} ${state}` : "", (signal) => call("JobService/Explain", { id }, signal), 5000);
  const copy = useCopy(job?.id ?? id);
  return (
    <Loading of={read}>
      {(j) => (
        <>
          <Crumbs j={j} around={around.data} />
          <div class="heading">
            <h1>{jobLabel(j)}</h1>
            <StateBadge state={j.state} />
            {j.cancelRequested && !ended(stateName(j.state)) ? <span class="tag warn">cancel requested</span> : null}
            <div class="aside"><ActionBar actions={actions(j, around.data)} shown={4} /></div>
          </div>
          <Why of={why.data} workflowId={j.workflowId ?? ""} shown={why.data !== undefined && !ended(stateName(j.state)) && stateName(j.state) !== "running"} />
          <div class="columns side">
            <div class="stack">
              <section class="panel" aria-labelledby="history"><header><h2 id="history">History</h2></header><div class="body"><JobHistory job={j} /></div></section>
              {j.error && !(j.attempts ?? []).some((a) => firstLine(a.error) === firstLine(j.error))
                ? <section class="panel" aria-labelledby="error"><header><h2 id="error">Error</h2></header><div class="body"><ErrorText text={j.error} /></div></section> : null}
              <Payload title="Arguments" text={j.argsJson} raw={j.args} />
              {ended(stateName(j.state)) ? <Payload title="Result" text={j.resultJson} raw={j.result} /> : null}
            </div>
            <div class="stack">
              <section class="panel" aria-labelledby="facts">
                <header><h2 id="facts">Job</h2><button type="button" class="quiet small" onClick={copy} aria-label="Copy the id" title="Copy the id (c)"><Icon name="copy" /></button></header>
                <div class="body"><Facts j={j} /></div>
              </section>
              <section class="panel" aria-labelledby="before">
                <header><h2 id="before">Comes after</h2></header>
                {around.error ? <p class="body muted">{around.error.message}</p> : <Relatives workflowId={j.workflowId ?? ""} list={around.data?.before} total={around.data?.beforeTotal ?? 0} none="Nothing comes before it." />}
              </section>
              <section class="panel" aria-labelledby="after">
                <header><h2 id="after">Continues with</h2></header>
                <Relatives workflowId={j.workflowId ?? ""} list={around.data?.after} total={around.data?.afterTotal ?? 0} none="Nothing waits for it." />
              </section>
            </div>
          </div>
        </>
      )}
    </Loading>
  );
}

function actions(j: Job, around: JobServiceRelativesResponse | undefined): Action[] {
  const state = stateName(j.state);
  const t = {
    workflowId: j.workflowId ?? "", node: j.node ?? 1, label: jobLabel(j), state,
    held: state === "failed" && (around?.after ?? []).some((r) => !r.fired && !r.died),
  };
  const list = jobActions(t);
  if (isOperator.value && ended(state) && around && isLone(around)) list.push(remove(t, "job"));
  return list;
}

/** A lone job has no batches around it: it is its own workflow. */
function isLone(around: JobServiceRelativesResponse): boolean {
  return (around.around ?? []).length === 0;
}

function Crumbs({ j, around }: { j: Job; around: JobServiceRelativesResponse | undefined }): JSX.Element {
  return (
    <nav aria-label="Where the job stands">
      <ol class="crumbs">
        <li><a href={href("/jobs")}>Jobs</a></li>
        {(around?.around ?? []).map((b) => (
          <li key={b.node ?? 0}>
            <a href={b.node ? nodeHref(j.workflowId ?? "", b.node, false) : href(`/workflows/${j.workflowId}`)}>{b.name || (b.node ? `batch ${b.node}` : "workflow")}</a>
          </li>
        ))}
        <li>{jobLabel(j)}</li>
      </ol>
    </nav>
  );
}

/** Why a job is not running, in words. */
function Why({ of, workflowId, shown }: { of: JobServiceExplainResponse | undefined; workflowId: string; shown: boolean }): JSX.Element | null {
  if (!of?.reasons?.length || !shown) return null;
  return (
    <section class="panel" aria-labelledby="why">
      <header><h2 id="why">Why it is not running</h2></header>
      <ul class="list">
        {of.reasons.map((r) => (
          <li key={r.code}>
            <span class="grow">{r.text ? r.text.charAt(0).toUpperCase() + r.text.slice(1) : r.code}
              {r.nodes?.length ? <span class="muted">: {r.nodes.slice(0, 20).map((n, i) => <>{i > 0 ? ", " : ""}<a href={href(`/workflows/${workflowId}`, { sel: n })}>node {n}</a></>)}{r.nodes.length > 20 ? ` and ${r.nodes.length - 20} more` : ""}</span> : null}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Payload({ title, text, raw }: { title: string; text: string | undefined; raw: string | undefined }): JSX.Element {
  const id = title.toLowerCase();
  return (
    <section class="panel" aria-labelledby={id}>
      <header><h2 id={id}>{title}</h2></header>
      <div class="body">{me.value?.payloadsHidden ? <p class="muted">This engine does not show arguments and results to you.</p> : <JsonView text={text} raw={raw} label={title} />}</div>
    </section>
  );
}

function Facts({ j }: { j: Job }): JSX.Element {
  const o = j.options ?? {};
  const limits = ([["Attempt limit", o.timeout], ["Silence limit", o.heartbeatTimeout], ["Queue limit", o.waitTimeout], ["Deadline", o.deadline], ["Delay", o.delay]] as const).filter(([, d]) => d);
  return (
    <dl class="facts">
      <dt>Kind</dt><dd><a href={href("/jobs", { q: `kind:${j.kind}` })}>{j.kind}</a></dd>
      {j.name ? <><dt>Name</dt><dd>{j.name}</dd></> : null}
      <dt>Queue</dt><dd><a href={href("/jobs", { q: `queue:${j.queue}` })}>{j.queue}</a>, priority {j.priority ?? 0}</dd>
      {j.key ? <><dt>Key</dt><dd>{j.key}</dd></> : null}
      <dt>Attempts</dt><dd class="num">{tries(j)} of {j.maxAttempts ?? 0}</dd>
      {j.worker ? <><dt>Worker</dt><dd>{j.worker}</dd></> : null}
      <dt>Created</dt><dd><At at={j.createdAt} /></dd>
      {(millis(j.runAt) ?? 0) > (millis(j.createdAt) ?? 0) + 1000 ? <><dt>Not before</dt><dd><At at={j.runAt} /></dd></> : null}
      {j.startedAt ? <><dt>Started</dt><dd><At at={j.startedAt} /></dd></> : null}
      {j.finishedAt ? <><dt>Ended</dt><dd><At at={j.finishedAt} /></dd></> : null}
      {j.releasedBy ? <><dt>Released by</dt><dd><a href={href(`/workflows/${j.workflowId}`, { sel: j.releasedBy })}>node {j.releasedBy}</a></dd></> : null}
      {limits.map(([name, d]) => <><dt>{name}</dt><dd>{duration(lengthOf(d))}</dd></>)}
      {o.tags?.length ? <><dt>Tags</dt><dd class="row">{o.tags.map((t) => <a key={t} class="tag" href={href("/jobs", { q: `tag:${t}` })}>{t}</a>)}</dd></> : null}
      {Object.entries(o.headers ?? {}).map(([k, v]) => <><dt>{k}</dt><dd class="mono">{v}</dd></>)}
      <dt>Id</dt><dd class="mono">{j.id}</dd>
    </dl>
  );
}
