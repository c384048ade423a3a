import type { JSX } from "preact";
import { isOperator } from "../access.ts";
import { perform, type Action } from "../actions.ts";
import { ActionBar } from "../components/actions.tsx";
import { confirm } from "../components/dialog.tsx";
import { Loading, Notice } from "../components/notice.tsx";
import { Table, type Column } from "../components/table.tsx";
import { Took } from "../components/time.tsx";
import { number, pace } from "../format.ts";
import type { Queue, Session } from "../gen/api.ts";
import { useLoad } from "../load.ts";
import { href } from "../router.ts";
import { call } from "../rpc.ts";

/** What can be done to a queue. */
function queueActions(q: Queue): Action[] {
  if (!isOperator.value) return [];
  const name = q.name ?? "";
  if (q.paused) return [{ label: "Resume", run: () => void perform(() => call("QueueService/Resume", { queue: name }), () => `Resumed ${name}`) }];
  return [{
    label: "Pause",
    run: () => void confirm({ title: `Pause the queue ${name}?`, text: "None of its jobs starts until it is resumed. Running jobs finish.", action: "Pause" })
      .then((a) => a && perform(() => call("QueueService/Pause", { queue: name }), () => `Paused ${name}`)),
  }];
}

export function queueColumns(steer: boolean, sessions?: Session[]): Column<Queue>[] {
  const served = (q: Queue): number => (sessions ?? []).filter((s) => s.queues?.includes(q.name ?? "")).length;
  return [
    { head: "Queue", class: "bare", cell: (q) => <><a href={href("/jobs", { q: `queue:${q.name}` })} data-open=""><b>{q.name}</b></a>{q.paused ? <> <span class="tag warn">paused</span></> : null}</> },
    { head: "Waiting", class: "num", cell: (q) => <a href={href("/jobs", { state: "available", q: `queue:${q.name}` })}>{number(q.available ?? 0)}{q.more ? "+" : ""}</a> },
    { head: "Oldest waits", class: "num", cell: (q) => (q.oldest ? <Took from={q.oldest} /> : <span class="muted">–</span>) },
    { head: "Ended", class: "num", cell: (q) => <span title="Jobs ended per second, over the last one to two minutes">{pace(q.rate ?? 0)}/s</span> },
    { head: "Running", class: "num", cell: (q) => <a href={href("/jobs", { state: "running", q: `queue:${q.name}` })}>{number(q.running ?? 0)}</a> },
    ...(sessions ? [{
      head: "Workers", class: "num", cell: (q: Queue) => (served(q) > 0 ? number(served(q)) : <span class={Number(q.available ?? 0) > 0 ? "tag danger" : "muted"}>{Number(q.available ?? 0) > 0 ? "none serves it" : "none"}</span>),
    }] : []),
    ...(steer ? [{ head: "-Actions", class: "bare fit", cell: (q: Queue) => <ActionBar actions={queueActions(q)} small label={`Actions on ${q.name}`} /> }] : []),
  ];
}

export function QueuesPage(): JSX.Element {
  const read = useLoad("queues", (signal) => call("QueueService/List", {}, signal), 2000);
  const workers = useLoad("queue workers", (signal) => call("SessionService/List", {}, signal), 5000);
  return (
    <>
      <h1>Queues</h1>
      <Loading of={read}>
        {(data) => {
          const queues = [...(data.queues ?? [])].sort((a, b) => (a.name ?? "").localeCompare(b.name ?? ""));
          if (queues.length === 0) {
            return (
              <div class="panel empty">
                <h2>No queues yet</h2>
                <p>A queue is there as soon as a job names it: <code>{`heddle.JobOptions{Queue: "bulk"}`}</code>. Jobs that name none go to <code>default</code>.</p>
              </div>
            );
          }
          const sessions = workers.data && (workers.data.sessions ?? []);
          const unserved = sessions ? queues.filter((q) => Number(q.available ?? 0) > 0 && !sessions.some((s) => s.queues?.includes(q.name ?? ""))) : [];
          return (
            <>
              {unserved.length > 0 ? <Notice kind="warn">No connected worker serves {unserved.map((q) => q.name).join(", ")}. Jobs in there wait until one does.</Notice> : null}
              <div class="panel"><Table label="Queues" columns={queueColumns(true, sessions)} rows={queues} id={(q) => q.name ?? ""} /></div>
              <p class="muted">Waiting counts jobs that are due, up to 10,000. Those for later stand under <a href={href("/jobs", { state: "scheduled" })}>scheduled</a>.</p>
            </>
          );
        }}
      </Loading>
    </>
  );
}
