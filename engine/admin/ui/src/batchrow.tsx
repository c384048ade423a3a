// How a batch stands in a list.
import type { JSX } from "preact";
import { StackedBar, StateBadge } from "./components/state.tsx";
import type { Column } from "./components/table.tsx";
import { Ago, Took } from "./components/time.tsx";
import { number } from "./format.ts";
import type { Batch, BatchOf } from "./gen/api.ts";
import { href } from "./router.ts";
import { tally } from "./state.ts";

export function batchLabel(b: Batch | undefined): string {
  return b?.path || b?.name || `batch ${b?.node ?? 0}`;
}

/** "12 of 40": members that have ended. */
export function batchProgress(b: Batch | undefined): string {
  const t = tally(b?.members);
  return `${number(t.succeeded + t.failed + t.cancelled + t.skipped)} of ${number(t.total)}`;
}

/** What is special about a batch. */
export function BatchTags({ b }: { b: Batch | undefined }): JSX.Element {
  const tolerance = b?.toleranceCount ? `tolerates ${number(b.toleranceCount)}` : b?.tolerancePercent ? `tolerates ${b.tolerancePercent} %` : "";
  return <>{b?.open ? <span class="tag">open</span> : null}{b?.hold ? <span class="tag">holds</span> : null}{tolerance ? <span class="tag" title="Failures that do not spoil it">{tolerance}</span> : null}</>;
}

export function batchColumns(inWorkflow: boolean): Column<BatchOf>[] {
  return [
    { head: "Batch", class: "bare whole", cell: (b) => <span class="row"><b>{batchLabel(b.batch)}</b><BatchTags b={b.batch} /></span> },
    { head: "State", class: "bare", cell: (b) => <StateBadge state={b.batch?.state} /> },
    ...(inWorkflow ? [] : [{ head: "Workflow", class: "", cell: (b: BatchOf) => <a href={href(`/workflows/${b.workflowId}`)}>{b.workflow || b.workflowId?.slice(-8)}</a> }]),
    { head: "Members", class: "num", cell: (b) => batchProgress(b.batch) },
    { head: "-By state", class: "bare whole wide", cell: (b) => <StackedBar counts={b.batch?.members} /> },
    { head: "Started", class: "nowrap", cell: (b) => <Ago at={b.batch?.startedAt} none="not yet" /> },
    { head: "Took", class: "num", cell: (b) => <Took from={b.batch?.startedAt} to={b.batch?.finishedAt} /> },
  ];
}

export function batchHref(b: BatchOf): string {
  return href(`/batches/${b.workflowId}/${b.batch?.node ?? 0}`);
}
