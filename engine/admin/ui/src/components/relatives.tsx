import type { JSX } from "preact";
import { number } from "../format.ts";
import type { Relative } from "../gen/api.ts";
import { href } from "../router.ts";
import { StateBadge } from "./state.tsx";

const outcomes = [[1, "succeeded"], [2, "failed"], [4, "cancelled"], [8, "skipped"]] as const;

/** The condition of an edge in words: "" for the usual one. */
export function condition(on: number | undefined): string {
  switch (on ?? 1) {
    case 0:
    case 1: return "";
    case 2: return "on failure";
    case 7: return "when finished";
    case 15: return "always";
    default: return "when " + outcomes.filter(([bit]) => ((on ?? 1) & bit) !== 0).map(([, word]) => word).join(" or ");
  }
}

/** The page of a node: a job has a kind, a batch has none. */
export function nodeHref(workflowId: string, node: number, isJob: boolean): string {
  return href(`/${isJob ? "jobs" : "batches"}/${workflowId}/${node}`);
}

/** Nodes at the other end of edges. */
export function Relatives({ workflowId, list, total, none }: { workflowId: string; list: Relative[] | undefined; total: number; none: string }): JSX.Element {
  if (!list?.length) return <p class="body muted">{none}</p>;
  return (
    <>
      <ul class="list">
        {list.map((r) => (
          <li key={r.node}>
            <a class="grow clip" href={nodeHref(workflowId, r.node ?? 0, !!r.kind)}>{r.name || r.kind || "batch"} <span class="muted">{r.kind ? (r.name ? r.kind : `#${r.node}`) : "batch"}</span></a>
            {condition(r.on) ? <span class="tag">{condition(r.on)}</span> : null}
            {r.died ? <span class="tag" title="This edge cannot fire any more">died</span> : null}
            <StateBadge state={r.state} />
          </li>
        ))}
      </ul>
      {total > list.length ? <p class="body muted">The first {number(list.length)} of {number(total)}.</p> : null}
    </>
  );
}
