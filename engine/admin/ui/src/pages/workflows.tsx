import type { JSX } from "preact";
import { Fresh, Pager } from "../components/pager.tsx";
import { Loading } from "../components/notice.tsx";
import { Table } from "../components/table.tsx";
import { Tabs } from "../components/tabs.tsx";
import { shortCount } from "../format.ts";
import type { Workflow } from "../gen/api.ts";
import { totals } from "../live.ts";
import { useList } from "../page.ts";
import { param, setQuery, withQuery } from "../router.ts";
import { call } from "../rpc.ts";
import { statesOf } from "../filter.ts";
import { workflowColumns, workflowHref } from "../workflowrow.tsx";
import { FirstJob } from "./first.tsx";
import { NameFilter } from "../components/namefilter.tsx";

export function WorkflowsPage(): JSX.Element {
  const [state, name] = [param("state"), param("name")];
  const list = useList<Workflow>(`workflows ${state} ${name}`, async (page, signal) => {
    const answer = await call("WorkflowService/List", { ...page, states: statesOf(state), name }, signal);
    return { rows: answer.workflows ?? [], next: answer.nextPageToken ?? "" };
  }, (w) => w.id ?? "");
  const filtered = state !== "" || name !== "";
  const tabs = [
    { value: "", label: "All" }, { value: "running", label: "Running", count: totals.value ? shortCount(totals.value.workflows) : undefined },
    { value: "succeeded", label: "Succeeded" }, { value: "failed", label: "Failed" }, { value: "cancelled", label: "Cancelled" },
  ];
  return (
    <>
      <h1>Workflows</h1>
      <Tabs name="state" label="Workflows by state" now={state} tabs={tabs} />
      <div class="row"><NameFilter value={name} label="Name of the workflow" set={(v) => setQuery({ name: v, page: null })} /><Fresh list={list} word="workflow" /></div>
      <Loading of={list.read}>
        {() => (list.rows.length === 0 && !list.next
          ? filtered || param("page") ? <Nothing state={state} name={name} /> : <FirstJob />
          : (
            <div class="panel">
              <Table label="Workflows" columns={workflowColumns} rows={list.rows} id={(w) => w.id ?? ""} link={workflowHref} />
              {list.rows.length === 0 ? <p class="body muted">None in this stretch of time.</p> : null}
              <Pager list={list} />
            </div>
          ))}
      </Loading>
    </>
  );
}

function Nothing({ state, name }: { state: string; name: string }): JSX.Element {
  return (
    <div class="panel empty">
      <h2>No workflow matches</h2>
      <p>{[state && `state ${state}`, name && `name ${name}`].filter(Boolean).join(", ") || "This page is past the end."}</p>
      <div class="row"><a class="button" href={withQuery({ state: null, name: null, page: null })}>Show all</a></div>
    </div>
  );
}
