// The nodes of a workflow as a table, by number.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { isOperator } from "../access.ts";
import { batchProgress, BatchTags } from "../batchrow.tsx";
import { BulkBar } from "../components/bulk.tsx";
import { firstLine } from "../components/failure.tsx";
import { Loading } from "../components/notice.tsx";
import { Pager } from "../components/pager.tsx";
import { StackedBar, StateBadge, StateIcon } from "../components/state.tsx";
import { Table, type Column } from "../components/table.tsx";
import { Took } from "../components/time.tsx";
import type { Batch, Job, JobFilter } from "../gen/api.ts";
import { JobTime } from "../jobrow.tsx";
import { useList } from "../page.ts";
import { param, setQuery, withQuery } from "../router.ts";
import { call } from "../rpc.ts";
import { stateOf, states, tally } from "../state.ts";
import { chosen } from "./choice.ts";
import type { Model } from "./model.ts";
import { statesShown, toggleState } from "./opened.tsx";

interface Row {
  node: number;
  job?: Job;
  batch?: Batch;
}

export function NodesView({ id, model }: { id: string; model: Model }): JSX.Element {
  const shown = statesShown();
  const sel = chosen()?.node;
  const wanted = [...shown].map(stateOf).filter((s) => s !== undefined);
  const within = param("batch");
  const key = `nodes ${id} ${within} ${wanted.join()}`;
  const list = useList<Row>(key, async (page, s) => {
    const a = await call("WorkflowService/Nodes", { workflowId: id, batch: within, states: wanted, ...page }, s);
    const rows: Row[] = [
      ...(a.jobs ?? []).map((job) => ({ node: job.node ?? 0, job })),
      ...(a.batches ?? []).map((batch) => ({ node: batch.node ?? 0, batch })),
    ];
    return { rows: rows.sort((x, y) => x.node - y.node), next: a.nextPageToken ?? "" };
  }, (r) => String(r.node), model.running ? 2500 : 15_000);
  const [choice, setChoice] = useState<{ key: string; ids: ReadonlySet<string>; all: boolean }>({ key, ids: new Set(), all: false });
  const mine = choice.key === key ? choice : { key, ids: new Set<string>(), all: false };
  const page = list.rows.filter((r) => r.row.job).map((r) => String(r.row.node));
  const batches = model.workflow?.batches ?? [];
  const inBatch = batches.find((b) => b.path === within || String(b.node) === within);
  const filter: JobFilter = { workflowId: id, states: wanted, ...(within ? { batch: inBatch?.node ?? 0 } : {}) };
  const counts = tally(within ? inBatch?.members : model.workflow?.jobs);
  return (
    <div class="wf-view wf-list">
      <div class="row">
        <div class="wf-states" role="group" aria-label="Show only">
          {states.filter((s) => counts[s] > 0 || shown.has(s)).map((s) => (
            <button key={s} type="button" class={shown.has(s) ? "small on" : "small"} aria-pressed={shown.has(s)} onClick={() => toggleState(s)}><StateIcon state={s} />{s}</button>
          ))}
          {shown.size > 0 ? <button type="button" class="small quiet" onClick={() => setQuery({ state: null, page: null }, { replace: true })}>All states</button> : null}
        </div>
        <span class="grow" />
        {batches.length > 0 ? (
          <label class="row muted">Directly in
            <select value={inBatch?.path ?? within} onChange={(e) => setQuery({ batch: e.currentTarget.value, page: null })}>
              <option value="">any batch</option>
              {batches.map((b) => <option key={b.node} value={b.path}>{b.path}</option>)}
            </select>
          </label>
        ) : null}
      </div>
      <Loading of={list.read}>
        {() => (
          <div class="panel">
            {list.rows.length === 0
              ? <p class="empty muted">{shown.size > 0 || within ? "No node matches." : "No nodes here."}</p>
              : (
                <Table<Row>
                  label="Nodes" columns={columns} rows={list.rows} id={(r) => String(r.node)} link={(r) => withQuery({ sel: r.node })} now={(r) => r.node === sel}
                  choice={isOperator.value ? { ids: mine.all ? new Set(page) : mine.ids, set: (ids) => setChoice({ key, ids, all: false }), can: (r) => r.job !== undefined } : undefined}
                />
              )}
            <Pager list={list} />
          </div>
        )}
      </Loading>
      <BulkBar
        ids={new Set([...mine.ids].map((n) => `${id}/${n}`))} all={mine.all} filter={filter} states={[...shown]} more={list.next !== "" || param("page") !== ""}
        setAll={(all) => setChoice({ key, ids: all ? new Set(page) : mine.ids, all })} clear={() => setChoice({ key, ids: new Set(), all: false })}
      />
    </div>
  );
}

const columns: Column<Row>[] = [
  { head: "Node", class: "bare whole", cell: (r) => <><span class="muted num wf-number">{r.node}</span> <b>{r.job ? r.job.name || r.job.kind : r.batch?.path || r.batch?.name || `batch ${r.node}`}</b>{r.job?.name ? <span class="muted"> {r.job.kind}</span> : null}{r.batch ? <span class="muted"> batch</span> : null}</> },
  { head: "State", class: "bare", cell: (r) => <StateBadge state={(r.job ?? r.batch)?.state} /> },
  { head: "Attempt", class: "num", cell: (r) => (r.job ? `${r.job.attempt ?? 0} of ${r.job.maxAttempts ?? 0}` : batchProgress(r.batch)) },
  { head: "Time", class: "bare nowrap", cell: (r) => (r.job ? <JobTime job={r.job} /> : r.batch?.startedAt ? <>ran <Took from={r.batch.startedAt} to={r.batch.finishedAt} /></> : null) },
  { head: "Error or worker", class: "bare whole wide", cell: (r) => (r.batch ? <><StackedBar counts={r.batch.members} /><BatchTags b={r.batch} /></> : r.job?.error ? <span class="error-line mono">{firstLine(r.job.error)}</span> : r.job?.worker ? <span class="muted">{r.job.worker}</span> : null) },
];
