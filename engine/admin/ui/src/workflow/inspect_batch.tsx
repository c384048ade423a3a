import type { JSX } from "preact";
import { batchActions } from "../actions.ts";
import { BatchTags, batchLabel } from "../batchrow.tsx";
import { ActionBar } from "../components/actions.tsx";
import { firstLine } from "../components/failure.tsx";
import { Icon } from "../components/icon.tsx";
import { Failure } from "../components/notice.tsx";
import { Legend, StackedBar, StateBadge, StateIcon } from "../components/state.tsx";
import { At, Took } from "../components/time.tsx";
import { duration, lengthOf, number, pace } from "../format.ts";
import { jobLabel } from "../jobrow.tsx";
import { useLoad } from "../load.ts";
import { call } from "../rpc.ts";
import { href, withQuery } from "../router.ts";
import { stateName, tally } from "../state.ts";
import { Around, Isolate, NodeLink, Part } from "./inspect_parts.tsx";
import { endedOf } from "./look.ts";
import type { Model } from "./model.ts";

export function InspectBatch({ id, node, model }: { id: string; node: number; model: Model }): JSX.Element {
  const read = useLoad(`batch ${id} ${node}`, (s) => call("BatchService/Get", { workflowId: id, node }, s), model.running ? 1500 : 5000);
  const data = read.data;
  const b = data?.batch?.batch;
  if (!b) return read.error ? <Failure error={read.error} retry={read.reload} /> : <p class="loading" role="status">Loading…</p>;
  const state = stateName(b.state);
  const t = tally(b.members);
  const label = batchLabel(b);
  const held = (b.hold ?? false) && state === "failed" && (data.after ?? []).some((r) => !r.fired && !r.died);
  const blockers = data.blockers ?? [];
  return (
    <>
      <div class="wf-what">
        <h2>{b.name || label}</h2>
        <p class="row"><StateBadge state={b.state} /><BatchTags b={b} />{held ? <span class="tag warn">held</span> : null}</p>
        {b.path && b.path !== b.name ? <p class="wf-inside muted">{b.path}</p> : null}
      </div>
      <div class="row">
        <ActionBar small shown={3} label={`Actions on ${label}`} actions={batchActions({ workflowId: id, node, label, state, failed: t.failed + t.cancelled, open: b.open ?? false, held })} />
        <Isolate node={node} />
        <a class="button small" href={href(`/batches/${id}/${node}`)}>Batch page<Icon name="out" /></a>
      </div>
      <Part title="Members" count={`${number(endedOf(t))} of ${number(t.total)}`}>
        <StackedBar counts={b.members} />
        <Legend counts={b.members} link={(s) => withQuery({ view: "table", state: s, batch: b.path || node, page: null })} />
        {data.rate ? <p class="muted num">{pace(data.rate)} per second{data.left ? `, about ${duration(lengthOf(data.left))} left` : ""}</p> : null}
      </Part>
      {blockers.length > 0 ? (
        <Part title="In its way">
          <ul class="wf-nodes">
            {blockers.map((j) => (
              <li key={j.node}>
                <StateIcon state={j.state} />
                <NodeLink node={j.node ?? 0}>{jobLabel(j)}</NodeLink>
                {j.error ? <span class="clip muted mono wf-err" title={j.error}>{firstLine(j.error)}</span> : null}
              </li>
            ))}
          </ul>
        </Part>
      ) : null}
      <dl class="facts">
        <dt>Tolerates</dt><dd>{b.toleranceCount ? `${number(b.toleranceCount)} failures` : b.tolerancePercent ? `${b.tolerancePercent} % failures` : "no failure"}</dd>
        {b.open ? <><dt>Open</dt><dd>does not end until it is sealed</dd></> : null}
        {b.hold ? <><dt>Holds</dt><dd>what its failure would skip waits for a decision</dd></> : null}
        {b.startedAt ? <><dt>Started</dt><dd><At at={b.startedAt} /></dd><dt>{b.finishedAt ? "Took" : "Runs for"}</dt><dd><Took from={b.startedAt} to={b.finishedAt} /></dd></> : null}
        <dt>Node</dt><dd class="num">{node}</dd>
      </dl>
      {data.nested?.length ? (
        <Part title="Batches in it" count={number(data.nested.length)}>
          <ul class="wf-nodes">
            {data.nested.slice(0, 50).map((n) => <li key={n.node}><StateIcon state={n.state} /><NodeLink node={n.node ?? 0}>{n.name || `batch ${n.node}`}</NodeLink><StackedBar counts={n.members} class="thin" /></li>)}
          </ul>
        </Part>
      ) : null}
      <Around title="Comes after" list={data.before} total={data.before?.length ?? 0} />
      <Around title="Continues with" list={data.after} total={data.after?.length ?? 0} />
    </>
  );
}
