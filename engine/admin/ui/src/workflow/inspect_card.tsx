import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { isOperator } from "../access.ts";
import { firstLine } from "../components/failure.tsx";
import { Failure } from "../components/notice.tsx";
import { StateIcon } from "../components/state.tsx";
import { number } from "../format.ts";
import { RpcError } from "../rpc.ts";
import type { MembersResponse } from "../gen/api.ts";
import { refreshes } from "../live.ts";
import { call } from "../rpc.ts";
import { withQuery } from "../router.ts";
import { startBulk } from "../operations.ts";
import { stateOf, states, type StateName } from "../state.ts";
import { numbersIn, toggleNumber } from "./choice.ts";
import type { Card } from "./graph.ts";
import { canOpen } from "./graphview.tsx";
import { Part } from "./inspect_parts.tsx";
import { endedOf, isOver } from "./look.ts";
import { MAX_CARDS, type Scene } from "./model.ts";
import { statesShown, toggleState } from "./opened.tsx";

export function InspectCard({ id, card, scene }: { id: string; card: Card; scene: Scene }): JSX.Element {
  const look = scene.looks[card.group]!.value;
  const t = look.counts;
  const open = numbersIn("open").has(card.first);
  const shown = statesShown();
  return (
    <>
      <div class="wf-what">
        <h2>{card.label}</h2>
        <p class="muted">{number(card.size)} {card.isBatch ? "batches" : card.kind ? <>jobs of kind <b>{card.kind}</b></> : "nodes"} that stand alike in the graph</p>
      </div>
      <div class="row">
        {canOpen(scene.graph, card.group) ? <button type="button" class="small" aria-pressed={open} onClick={() => toggleNumber("open", card.first)}>{open ? "Close the card" : "Open the card"}</button> : null}
      </div>
      <Part title="By state" count={`${number(endedOf(t))} of ${number(t.total)} ended`}>
        <div class="wf-states" role="group" aria-label="Show only">
          {states.filter((s) => t[s] > 0).map((s) => (
            <button key={s} type="button" class={shown.has(s) ? "small on" : "small"} aria-pressed={shown.has(s)} onClick={() => toggleState(s)}>
              <StateIcon state={s} /><span class="num">{number(t[s])}</span> {s}
            </button>
          ))}
        </div>
      </Part>
      <Members id={id} card={card} shown={shown} over={isOver(look)} ended={endedOf(t)} />
    </>
  );
}

const PAGE = 50;

/** The members of a card, page by page; what has been read stays and is read again as the card goes on. */
function Members({ id, card, shown, over, ended }: { id: string; card: Card; shown: ReadonlySet<StateName>; over: boolean; ended: number }): JSX.Element {
  const wanted = [...shown].map(stateOf).filter((s) => s !== undefined);
  const key = `${id} ${card.group} ${wanted.join()}`;
  const [got, setGot] = useState<{ key: string; jobs: NonNullable<MembersResponse["jobs"]>; batches: NonNullable<MembersResponse["batches"]>; next: string }>({ key: "", jobs: [], batches: [], next: "" });
  const [error, setError] = useState<RpcError | undefined>(undefined);
  const [pages, setPages] = useState(1);
  useEffect(() => setPages(1), [key]);
  // While the card runs the list is read anew every two seconds at most.
  const beat = over ? "over" : String(ended);
  useEffect(() => {
    const stop = new AbortController();
    const read = async (): Promise<void> => {
      try {
        const jobs: NonNullable<MembersResponse["jobs"]> = [];
        const batches: NonNullable<MembersResponse["batches"]> = [];
        let token = "";
        for (let page = 0; page < pages; page++) {
          const a = await call("WorkflowService/Members", { workflowId: id, maxCards: MAX_CARDS, group: card.group, states: wanted, pageSize: PAGE, pageToken: token }, stop.signal);
          jobs.push(...(a.jobs ?? []));
          batches.push(...(a.batches ?? []));
          token = a.nextPageToken ?? "";
          if (token === "") break;
        }
        setGot({ key, jobs, batches, next: token });
        setError(undefined);
      } catch (e) {
        if (!stop.signal.aborted && e instanceof RpcError) setError(e);
      }
    };
    const timer = window.setTimeout(() => void read(), got.key === key ? 2000 : 0);
    return () => {
      stop.abort();
      window.clearTimeout(timer);
    };
  }, [key, beat, refreshes.value]);
  useEffect(() => {
    if (pages === 1 || got.key !== key || got.next === "") return undefined;
    const stop = new AbortController();
    call("WorkflowService/Members", { workflowId: id, maxCards: MAX_CARDS, group: card.group, states: wanted, pageSize: PAGE, pageToken: got.next }, stop.signal).then(
      (a) => setGot({ key, jobs: [...got.jobs, ...(a.jobs ?? [])], batches: [...got.batches, ...(a.batches ?? [])], next: a.nextPageToken ?? "" }),
      (e: unknown) => { if (e instanceof RpcError) setError(e); },
    );
    return () => stop.abort();
  }, [pages]);
  const rows = [
    ...got.jobs.map((j) => ({ node: j.node ?? 0, label: j.name || `${j.kind ?? "job"} ${j.node ?? 0}`, state: j.state, error: j.error })),
    ...got.batches.map((b) => ({ node: b.node ?? 0, label: b.name || `batch ${b.node ?? 0}`, state: b.state, error: undefined })),
  ].sort((a, b) => a.node - b.node);
  const failed = got.key === key ? rows.filter((r) => r.state === "STATE_FAILED" || r.state === "STATE_CANCELLED") : [];
  return (
    <Part title="Members">
      {error ? <Failure error={error} /> : null}
      {isOperator.value && failed.length > 1 && !card.isBatch
        ? <button type="button" class="small" onClick={() => void startBulk("ACTION_RETRY", { ids: failed.map((r) => `${id}/${r.node}`) })}>Retry the {number(failed.length)} listed here that failed</button> : null}
      {got.key !== key && !error ? <p class="loading" role="status">Loading…</p> : null}
      {got.key === key && rows.length === 0 ? <p class="muted">None of the members {shown.size === 1 ? `is ${[...shown][0]}` : "is in one of these states"}.</p> : null}
      {got.key === key ? (
        <ul class="wf-nodes">
          {rows.map((r) => (
            <li key={r.node}>
              <StateIcon state={r.state} />
              <a class="clip" href={withQuery({ sel: `c${card.first}.${r.node}` })}>{r.label}</a>
              {r.error ? <span class="clip muted mono wf-err" title={r.error}>{firstLine(r.error)}</span> : null}
            </li>
          ))}
        </ul>
      ) : null}
      {got.key === key && got.next !== "" ? <button type="button" class="small" onClick={() => setPages(pages + 1)}>Show {PAGE} more</button> : null}
    </Part>
  );
}
