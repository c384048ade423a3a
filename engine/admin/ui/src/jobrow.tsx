// How a job stands in a list, the same on every page.
import type { JSX } from "preact";
import type { Column } from "./components/table.tsx";
import { firstLine } from "./components/failure.tsx";
import { StateBadge } from "./components/state.tsx";
import { Ago, Took } from "./components/time.tsx";
import type { Job } from "./gen/api.ts";
import { href, withQuery } from "./router.ts";
import { shortId } from "./format.ts";
import { stateName } from "./state.ts";

/** The page of a job. */
export function jobHref(j: Job): string {
  return href(`/jobs/${j.id}`);
}

/** What people call a job. */
export function jobLabel(j: Job): string {
  return j.name || j.kind || j.id || "job";
}

/** Kind and name of a job. */
export function JobName({ job }: { job: Job }): JSX.Element {
  return <><b>{job.kind}</b>{job.name ? <span class="muted"> {job.name}</span> : null}</>;
}

/** The time that says most about a job in its state. */
export function JobTime({ job }: { job: Job }): JSX.Element {
  switch (stateName(job.state)) {
    case "running": return <>for <Took from={job.startedAt} /></>;
    case "scheduled":
    case "retryable": return <>due <Ago at={job.runAt} /></>;
    case "available": return <>due <Ago at={job.runAt ?? job.createdAt} /></>;
    case "blocked": return <>created <Ago at={job.createdAt} /></>;
    default: return <>ended <Ago at={job.finishedAt} /></>;
  }
}

/** Attempts of a job, the one that runs included. */
export function tries(j: Job): number {
  return (j.attempt ?? 0) + (stateName(j.state) === "running" ? 1 : 0);
}

/** Columns of a list of jobs; one that is inside a workflow needs no column for it. */
export function jobColumns(inWorkflow: boolean): Column<Job>[] {
  return [
    { head: "Job", class: "bare whole", cell: (j) => <JobName job={j} /> },
    { head: "State", class: "bare", cell: (j) => <StateBadge state={j.state} /> },
    { head: "Queue", class: "", cell: (j) => (inWorkflow ? j.queue : <a href={withQuery({ q: `queue:${j.queue}`, page: null })}>{j.queue}</a>) },
    ...(inWorkflow ? [] : [{
      head: "Workflow", class: "", cell: (j: Job) => <a class="mono" href={href(`/workflows/${j.workflowId}`)} title={j.workflowId}>{shortId(j.workflowId ?? "")}</a>,
    }]),
    { head: "Attempt", class: "num", cell: (j) => `${tries(j)} of ${j.maxAttempts ?? 0}` },
    { head: "Time", class: "bare nowrap", cell: (j) => <JobTime job={j} /> },
    { head: "Error or worker", class: "bare whole wide", cell: (j) => (j.error ? <span class="error-line mono">{firstLine(j.error)}</span> : j.worker ? <span class="muted">{j.worker}</span> : null) },
  ];
}
