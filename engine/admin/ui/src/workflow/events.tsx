// What happened to a workflow, newest first.
import type { JSX } from "preact";
import { Loading } from "../components/notice.tsx";
import { Fresh, Pager } from "../components/pager.tsx";
import { firstLine } from "../components/failure.tsx";
import { Icon, type IconName } from "../components/icon.tsx";
import { StateIcon } from "../components/state.tsx";
import { dateTime, millis } from "../format.ts";
import type { Event } from "../gen/api.ts";
import { useList } from "../page.ts";
import { param, setQuery, withQuery } from "../router.ts";
import { call } from "../rpc.ts";
import type { StateName } from "../state.ts";
import { chosen } from "./choice.ts";
import type { Model } from "./model.ts";

const operators: Record<string, IconName> = {
  retry: "recurring", cancel: "close", dismiss: "check", "give up": "close", pause: "pause", resume: "play", "run now": "play", append: "plus", seal: "check", submitted: "plus",
};

/** What a job is after an attempt that did not finish it. */
const after: Record<string, StateName> = { snoozed: "scheduled", released: "available" };

export function EventsView({ id, model }: { id: string; model: Model }): JSX.Element {
  const node = chosen()?.node;
  const only = param("mine") === "1" && node !== undefined;
  const list = useList<Event>(`events ${id} ${only ? node : ""}`, async (page, s) => {
    const a = await call("WorkflowService/Events", { workflowId: id, ...(only ? { node } : {}), ...page }, s);
    return { rows: a.events ?? [], next: a.nextPageToken ?? "" };
  }, (e) => `${e.at} ${e.what} ${e.node ?? 0} ${e.attempt ?? 0}`, model.running ? 2500 : 15_000);
  return (
    <div class="wf-view wf-list">
      <div class="row">
        {node !== undefined ? <label class="row"><input type="checkbox" checked={only} onChange={(e) => setQuery({ mine: e.currentTarget.checked, page: null }, { replace: true })} />Only of the chosen node</label> : null}
        {list.fresh > 0 ? <Fresh list={list} word="event" /> : null}
      </div>
      <Loading of={list.read}>
        {() => (
          <div class="panel">
            {list.rows.length === 0 ? <p class="empty muted">Nothing is recorded {only ? "of this node" : "yet"}.</p> : (
              <ol class="wf-events" aria-label="Events">
                {list.rows.map(({ row: e }, i) => <Line key={`${e.at} ${i}`} e={e} previous={list.rows[i - 1]?.row} chosen={node !== undefined && e.node === node} />)}
              </ol>
            )}
            <Pager list={list} />
          </div>
        )}
      </Loading>
    </div>
  );
}

function Line({ e, previous, chosen: on }: { e: Event; previous: Event | undefined; chosen: boolean }): JSX.Element {
  const at = millis(e.at);
  const text = at === undefined ? "" : dateTime(at, true);
  const before = previous && millis(previous.at) !== undefined ? dateTime(millis(previous.at)!, true) : "";
  const sameDay = text.slice(0, 10) === before.slice(0, 10);
  const icon = operators[e.what ?? ""];
  const name = e.name || e.kind || (e.node ? `node ${e.node}` : "workflow");
  return (
    <li class={on ? "on" : ""}>
      <time class="num muted" dateTime={e.at} title={text}>{sameDay ? <span class="wf-day">{text.slice(0, 11)}</span> : text.slice(0, 11)}{text.slice(11)}</time>
      <span class="wf-icon">{icon ? <Icon name={icon} /> : <StateIcon state={e.what === "attempt" ? after[e.how ?? ""] ?? "retryable" : e.state} />}</span>
      <span class="wf-said">
        <a href={withQuery({ sel: e.node ? e.node : null })}>{name}</a> <span>{sentence(e)}</span>
        {e.worker ? <span class="muted"> on {e.worker}</span> : null}
        {e.author ? <span class="muted"> by {e.author}</span> : null}
        {e.note ? <span class="wf-quote">{e.note}</span> : null}
        {e.error ? <span class="error-line mono">{firstLine(e.error)}</span> : null}
      </span>
    </li>
  );
}

function sentence(e: Event): string {
  const word = (e.state ?? "").replace("STATE_", "").toLowerCase();
  const state = word === "skipped" || word === "cancelled" ? `was ${word}` : word;
  switch (e.what) {
    case "submitted": return "was submitted";
    case "attempt": return `attempt ${e.attempt ?? 0} ${e.how === "snoozed" ? "was snoozed" : e.how === "released" ? "was handed back" : e.how === "lost" ? "was lost with its worker" : e.how === "timeout" ? "took too long" : e.how || "ended"}`;
    case "ended": return `${state}${e.attempt && e.attempt > 1 ? ` after ${e.attempt} attempts` : ""}`;
    case "batch ended": return state;
    case "workflow ended": return state;
  }
  return `: ${e.what ?? ""}`;
}
