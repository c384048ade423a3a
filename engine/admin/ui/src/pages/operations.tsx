import type { JSX } from "preact";
import { Loading } from "../components/notice.tsx";
import { Fresh, Pager } from "../components/pager.tsx";
import { OperationBar } from "../components/progress.tsx";
import { Table } from "../components/table.tsx";
import { Tabs } from "../components/tabs.tsx";
import { Ago, Took } from "../components/time.tsx";
import { number } from "../format.ts";
import type { Operation } from "../gen/api.ts";
import { useList } from "../page.ts";
import { href, param } from "../router.ts";
import { progressOf, verb } from "../operations.ts";
import { call } from "../rpc.ts";

export function OperationsPage(): JSX.Element {
  const running = param("state") === "running";
  const list = useList<Operation>(`operations ${running}`, async (page, signal) => {
    const answer = await call("OperationService/List", { ...page, running }, signal);
    return { rows: answer.operations ?? [], next: answer.nextPageToken ?? "" };
  }, (o) => o.id ?? "", 2000);
  return (
    <>
      <div class="heading"><h1>Operations</h1><Fresh list={list} word="operation" /></div>
      <Tabs name="state" label="Operations" now={running ? "running" : ""} tabs={[{ value: "", label: "All" }, { value: "running", label: "Running" }]} />
      <Loading of={list.read}>
        {() => (list.rows.length === 0 && !list.next ? (
          <div class="panel empty">
            <h2>{running ? "No operation is running" : "No operations yet"}</h2>
            <p>An operation does one thing to many jobs: choose rows under <a href={href("/jobs")}>Jobs</a>, or all that match a filter, and retry, cancel, dismiss, run or delete them. It works in chunks, can be stopped, and its record stays here.</p>
          </div>
        ) : (
          <div class="panel">
            <Table
              label="Operations" rows={list.rows} id={(o) => o.id ?? ""} link={(o) => href(`/operations/${o.id}`)}
              columns={[
                { head: "Operation", class: "bare", cell: (o) => <b>{verb(o.action)}</b> },
                { head: "State", class: "bare", cell: progressOf },
                { head: "Done", class: "num", cell: (o) => `${number(o.done ?? 0)} of ${number(o.total ?? 0)}${o.more ? "+" : ""}` },
                { head: "-Progress", class: "bare whole wide", cell: (o) => <OperationBar of={o} /> },
                { head: "By", class: "", cell: (o) => o.author },
                { head: "Started", class: "bare nowrap", cell: (o) => <Ago at={o.createdAt} /> },
                { head: "Took", class: "num", cell: (o) => <Took from={o.createdAt} to={o.finishedAt} /> },
                { head: "Note", class: "bare whole", cell: (o) => <span class="muted">{o.note}</span> },
              ]}
            />
            <Pager list={list} />
          </div>
        ))}
      </Loading>
    </>
  );
}
