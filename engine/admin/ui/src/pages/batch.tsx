import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { isOperator } from "../access.ts";
import { batchActions, workflowActions } from "../actions.ts";
import { batchColumns, batchHref, batchLabel, batchProgress, BatchTags } from "../batchrow.tsx";
import { ActionBar } from "../components/actions.tsx";
import { BulkBar } from "../components/bulk.tsx";
import { Loading } from "../components/notice.tsx";
import { Fresh, Pager } from "../components/pager.tsx";
import { Relatives } from "../components/relatives.tsx";
import { Legend, StackedBar, StateBadge } from "../components/state.tsx";
import { Table } from "../components/table.tsx";
import { Tabs } from "../components/tabs.tsx";
import { At, Took } from "../components/time.tsx";
import { statesOf } from "../filter.ts";
import { duration, lengthOf, number, pace } from "../format.ts";
import { firstLine } from "../components/failure.tsx";
import type { BatchServiceGetResponse, Job } from "../gen/api.ts";
import { jobColumns, jobHref, JobName, JobTime } from "../jobrow.tsx";
import { useLoad } from "../load.ts";
import { useList } from "../page.ts";
import { href, param, withQuery } from "../router.ts";
import { call } from "../rpc.ts";
import { ended, openStates, stateName, states, tally } from "../state.ts";

export function BatchPage({ workflowId, node }: { workflowId: string; node: number }): JSX.Element {
  const read = useLoad(`batch ${workflowId} ${node}`, (signal) => call("BatchService/Get", { workflowId, node }, signal), 2000);
  return (
    <Loading of={read}>
      {(data) => {
        const b = data.batch?.batch ?? {};
        const label = batchLabel(b);
        const t = tally(b.members);
        const state = stateName(b.state);
        const target = { workflowId, node, label, state, failed: t.failed + t.cancelled, open: b.open ?? false };
        const held = (b.hold ?? false) && state === "failed" && (data.after ?? []).some((r) => !r.fired && !r.died);
        return (
          <>
            <nav aria-label="Where the batch stands">
              <ol class="crumbs">
                <li><a href={href("/batches")}>Batches</a></li>
                <li><a href={href(`/workflows/${workflowId}`)}>{data.batch?.workflow || "workflow"}</a></li>
                {b.parent ? <li><a href={href(`/batches/${workflowId}/${b.parent}`)}>{parentPath(label, b.parent)}</a></li> : null}
                <li>{b.name || label}</li>
              </ol>
            </nav>
            <div class="heading">
              <h1>{label}</h1>
              <StateBadge state={b.state} />
              <BatchTags b={b} />
              <div class="aside row">
                <a class="button" href={href(`/workflows/${workflowId}`, { sel: node })}>Show in the graph</a>
                <ActionBar actions={node === 0 ? workflowActions({ ...target, paused: false }) : batchActions({ ...target, held })} />
              </div>
            </div>
            <Progress data={data} />
            <Blockers data={data} workflowId={workflowId} />
            <div class="columns">
              <section class="panel" aria-labelledby="before">
                <header><h2 id="before">Comes after</h2></header>
                <Relatives workflowId={workflowId} list={data.before} total={data.before?.length ?? 0} none="Nothing comes before it." />
              </section>
              <section class="panel" aria-labelledby="after">
                <header><h2 id="after">Continues with</h2></header>
                <Relatives workflowId={workflowId} list={data.after} total={data.after?.length ?? 0} none="Nothing waits for it." />
              </section>
            </div>
            {data.nested?.length ? (
              <section class="panel" aria-labelledby="nested">
                <header><h2 id="nested">Batches inside</h2></header>
                <Table label="Batches inside" columns={batchColumns(true)} rows={data.nested.map((n) => ({ workflowId, batch: n }))} id={(n) => String(n.batch?.node)} link={batchHref} />
              </section>
            ) : null}
            {t.total > (data.nested?.length ?? 0) || t.total === 0 ? <Members workflowId={workflowId} node={node} data={data} /> : null}
          </>
        );
      }}
    </Loading>
  );
}

function parentPath(path: string, parent: number): string {
  const cut = path.lastIndexOf("/");
  return cut > 0 ? path.slice(0, cut) : `batch ${parent}`;
}

function Progress({ data }: { data: BatchServiceGetResponse }): JSX.Element {
  const b = data.batch?.batch ?? {};
  const open = stateName(b.state) === "running";
  return (
    <section class="panel" aria-label="Progress">
      <div class="body stack tight">
        <div class="row">
          <b class="num">{batchProgress(b)}</b> <span class="muted">members ended</span>
          <span class="grow" />
          {open && data.rate ? <span class="num">{pace(data.rate)} per second</span> : null}
          {open && data.left ? <span class="muted num">about {duration(lengthOf(data.left))} left</span> : null}
          {!open && b.startedAt ? <span class="muted">took <Took from={b.startedAt} to={b.finishedAt} /></span> : null}
        </div>
        <StackedBar counts={b.members} class="thick" />
        <Legend counts={b.members} link={(s) => withQuery({ state: s, page: null })} />
        <p class="muted">{b.startedAt ? <>Started <At at={b.startedAt} /></> : "Not started yet"}{b.finishedAt ? <>, ended <At at={b.finishedAt} /></> : null}</p>
      </div>
    </section>
  );
}

/** What keeps the batch from ending, failures first. */
function Blockers({ data, workflowId }: { data: BatchServiceGetResponse; workflowId: string }): JSX.Element | null {
  const all = data.blockers ?? [];
  // All failures, but of those that only wait the few that wait longest.
  const failed = all.filter((j) => ended(stateName(j.state)));
  const list = [...failed, ...all.filter((j) => !failed.includes(j)).slice(0, 5)];
  if (list.length === 0) return null;
  const open = openStates.includes(stateName(data.batch?.batch?.state));
  return (
    <section class="panel" aria-labelledby="blockers">
      <header><h2 id="blockers">{open ? "In its way" : "What went wrong"}</h2>{failed.length > 0 ? <a href={href("/jobs", { q: `workflow:${workflowId} batch:${data.batch?.batch?.node ?? 0}`, state: "failed" })}>All failed members</a> : null}</header>
      <ul class="list">
        {list.map((j) => (
          <li key={j.id}>
            <StateBadge state={j.state} />
            <a href={jobHref(j)}><JobName job={j} /></a>
            <span class="grow clip mono muted" title={j.error}>{firstLine(j.error)}</span>
            <span class="muted nowrap"><JobTime job={j} /></span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Members({ workflowId, node, data }: { workflowId: string; node: number; data: BatchServiceGetResponse }): JSX.Element {
  const state = param("state");
  const key = `members ${workflowId} ${node} ${state}`;
  const filter = { workflowId, batch: node, states: statesOf(state) };
  const list = useList<Job>(key, async (page, signal) => {
    const answer = await call("JobService/List", { ...page, filter }, signal);
    return { rows: answer.jobs ?? [], next: answer.nextPageToken ?? "", searchedBackTo: answer.searchedBackTo };
  }, (j) => j.id ?? "");
  const [choice, setChoice] = useState<{ key: string; ids: ReadonlySet<string>; all: boolean }>({ key, ids: new Set(), all: false });
  const chosen = choice.key === key ? choice : { key, ids: new Set<string>(), all: false };
  const page = list.rows.map((r) => r.row.id ?? "");
  const t = tally(data.batch?.batch?.members);
  const tabs = [
    { value: "", label: "All" },
    ...states.filter((s) => t[s] > 0 || s === state).map((s) => ({ value: s, label: <StateBadge state={s} />, count: number(t[s]) })),
  ];
  return (
    <section class="panel" aria-labelledby="members">
      <header><h2 id="members">Jobs directly inside</h2><Fresh list={list} word="job" /></header>
      <Tabs name="state" label="Members by state" now={state} tabs={tabs} />
      <Loading of={list.read}>
        {() => (
          <div>
            {list.rows.length === 0 ? <p class="body muted">{state ? `No job directly inside is ${state}.` : "No jobs directly inside."}</p> : (
              <Table
                label="Members" columns={jobColumns(true)} rows={list.rows} id={(j) => j.id ?? ""} link={jobHref}
                choice={isOperator.value ? { ids: chosen.all ? new Set(page) : chosen.ids, set: (ids) => setChoice({ key, ids, all: false }) } : undefined}
              />
            )}
            <Pager list={list} />
          </div>
        )}
      </Loading>
      <BulkBar
        ids={chosen.ids} all={chosen.all} filter={filter} states={filter.states.map(stateName)} more={list.next !== "" || param("page") !== ""}
        setAll={(all) => setChoice({ key, ids: all ? new Set(page) : chosen.ids, all })} clear={() => setChoice({ key, ids: new Set(), all: false })}
      />
    </section>
  );
}
