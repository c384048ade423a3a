import type { JSX } from "preact";
import { batchColumns, batchHref } from "../batchrow.tsx";
import { NameFilter } from "../components/namefilter.tsx";
import { Loading } from "../components/notice.tsx";
import { Fresh, Pager } from "../components/pager.tsx";
import { Table } from "../components/table.tsx";
import { Tabs } from "../components/tabs.tsx";
import { statesOf } from "../filter.ts";
import { shortCount } from "../format.ts";
import type { BatchOf } from "../gen/api.ts";
import { totals } from "../live.ts";
import { useList } from "../page.ts";
import { param, setQuery, withQuery } from "../router.ts";
import { call } from "../rpc.ts";

export function BatchesPage(): JSX.Element {
  const [state, name, workflowId] = [param("state"), param("name"), param("workflow")];
  const list = useList<BatchOf>(`batches ${state} ${name} ${workflowId}`, async (page, signal) => {
    const answer = await call("BatchService/List", { ...page, states: statesOf(state), name, workflowId }, signal);
    return { rows: answer.batches ?? [], next: answer.nextPageToken ?? "" };
  }, (b) => `${b.workflowId}/${b.batch?.node}`);
  const tabs = [
    { value: "", label: "All" }, { value: "running", label: "Running", count: totals.value ? shortCount(totals.value.batches) : undefined },
    { value: "blocked", label: "Blocked" }, { value: "succeeded", label: "Succeeded" }, { value: "failed", label: "Failed" },
    { value: "cancelled", label: "Cancelled" }, { value: "skipped", label: "Skipped" },
  ];
  const filtered = state !== "" || name !== "" || workflowId !== "" || param("page") !== "";
  return (
    <>
      <h1>Batches</h1>
      <Tabs name="state" label="Batches by state" now={state} tabs={tabs} />
      <div class="row"><NameFilter value={name} label="Name of the batch" set={(v) => setQuery({ name: v, page: null })} /><Fresh list={list} word="batch" words="batches" /></div>
      <Loading of={list.read}>
        {() => (list.rows.length === 0 && !list.next ? (
          <div class="panel empty">
            {filtered ? (
              <>
                <h2>No batch matches</h2>
                <p>{[state && `state ${state}`, name && `name ${name}`, workflowId && `workflow ${workflowId}`].filter(Boolean).join(", ")}</p>
                <div class="row"><a class="button" href={withQuery({ state: null, name: null, workflow: null, page: null })}>Show all</a></div>
              </>
            ) : (
              <>
                <h2>No batches yet</h2>
                <p>A batch is a group of nodes of a workflow that ends when all its members have ended. What comes after it waits for all of them, and it can tolerate some failures.</p>
                <pre class="code" tabIndex={0} aria-label="A batch in Go">{`wf := heddle.NewWorkflow("campaign")
emails := wf.Batch("emails", heddle.BatchOptions{Tolerance: heddle.Percent(2)})
emails.AddAll(oneJobPerRecipient)
wf.Add(Report.Job(campaign)).After(emails.On(heddle.Finished))`}</pre>
              </>
            )}
          </div>
        ) : (
          <div class="panel">
            <Table label="Batches" columns={batchColumns(false)} rows={list.rows} id={(b) => `${b.workflowId}/${b.batch?.node}`} link={batchHref} />
            {list.rows.length === 0 ? <p class="body muted">None in this stretch of time; older ones may match.</p> : null}
            <Pager list={list} />
          </div>
        ))}
      </Loading>
    </>
  );
}
