// How a workflow stands in a list.
import type { JSX } from "preact";
import { StackedBar, StateBadge } from "./components/state.tsx";
import type { Column } from "./components/table.tsx";
import { Ago, Took } from "./components/time.tsx";
import { number, shortId } from "./format.ts";
import type { Workflow } from "./gen/api.ts";
import { href } from "./router.ts";
import { tally } from "./state.ts";

export function workflowHref(w: Workflow): string {
  return href(`/workflows/${w.id}`);
}

/** Name of a workflow, or the end of its id. */
export function WorkflowName({ of }: { of: Workflow }): JSX.Element {
  return <><b>{of.name || "unnamed"}</b> <span class="muted mono" title={of.id}>{shortId(of.id ?? "")}</span></>;
}

/** "812 of 1,000": jobs that have ended. */
export function progress(w: Workflow): string {
  const t = tally(w.jobs);
  return `${number(t.succeeded + t.failed + t.cancelled + t.skipped)} of ${number(t.total)}`;
}

export const workflowColumns: Column<Workflow>[] = [
  { head: "Workflow", class: "bare whole", cell: (w) => <WorkflowName of={w} /> },
  { head: "State", class: "bare", cell: (w) => <StateBadge state={w.state} paused={w.paused ?? false} /> },
  { head: "Jobs", class: "num", cell: progress },
  { head: "-By state", class: "bare whole wide", cell: (w) => <StackedBar counts={w.jobs} /> },
  { head: "Started", class: "nowrap", cell: (w) => <Ago at={w.createdAt} /> },
  { head: "Took", class: "num", cell: (w) => <Took from={w.createdAt} to={w.finishedAt} /> },
];
