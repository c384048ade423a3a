import type { JSX } from "preact";
import { isOperator } from "../access.ts";
import { perform } from "../actions.ts";
import { confirm } from "../components/dialog.tsx";
import { ErrorText } from "../components/failure.tsx";
import { Loading } from "../components/notice.tsx";
import { OperationBar } from "../components/progress.tsx";
import { At, Took } from "../components/time.tsx";
import { writeTokens, type Token } from "../filter.ts";
import { number, plural } from "../format.ts";
import type { Operation, Selection } from "../gen/api.ts";
import { useLoad } from "../load.ts";
import { progressOf, verb } from "../operations.ts";
import { href } from "../router.ts";
import { call } from "../rpc.ts";
import { stateName } from "../state.ts";

export function OperationPage({ id }: { id: string }): JSX.Element {
  const read = useLoad(`operation ${id}`, async (signal) => (await call("OperationService/Get", { id }, signal)).operation ?? {}, 1000);
  return (
    <Loading of={read}>
      {(o) => {
        const progress = progressOf(o);
        const stop = (): void => void confirm({ title: "Stop this operation?", text: "It ends after its present chunk. What it has done stays.", action: "Stop", danger: true })
          .then((a) => a && perform(() => call("OperationService/Stop", { id }), () => "The operation stops"));
        return (
          <>
            <nav aria-label="Where this stands"><ol class="crumbs"><li><a href={href("/operations")}>Operations</a></li><li>{verb(o.action)}</li></ol></nav>
            <div class="heading">
              <h1>{verb(o.action)} {plural(Number(o.total ?? 0), "job")}{o.more ? " or more" : ""}</h1>
              <span class={progress === "running" ? "tag" : progress === "done" ? "tag" : "tag warn"}>{progress}</span>
              {isOperator.value && progress === "running" ? <div class="aside"><button type="button" class="danger" onClick={stop}>Stop</button></div> : null}
            </div>
            <section class="panel" aria-label="Progress">
              <div class="body stack">
                <OperationBar of={o} />
                <dl class="facts">
                  <dt>Looked at</dt><dd class="num">{number(o.done ?? 0)} of {number(o.total ?? 0)}{o.more ? "+" : ""}</dd>
                  <dt>Changed</dt><dd class="num">{number(o.changed ?? 0)}</dd>
                  <dt>Passed over</dt><dd class="num">{number(o.passedOver ?? 0)} <span class="muted">to which it did not apply any more</span></dd>
                  <dt>Failed</dt><dd class="num">{number(o.failed ?? 0)}</dd>
                </dl>
                {o.error ? <ErrorText text={o.error} /> : null}
              </div>
            </section>
            <section class="panel" aria-labelledby="record">
              <header><h2 id="record">Record</h2></header>
              <div class="body">
                <dl class="facts">
                  <dt>By</dt><dd>{o.author}</dd>
                  {o.note ? <><dt>Note</dt><dd>{o.note}</dd></> : null}
                  <dt>Started</dt><dd><At at={o.createdAt} /></dd>
                  {o.finishedAt ? <><dt>Ended</dt><dd><At at={o.finishedAt} /></dd></> : null}
                  <dt>Took</dt><dd><Took from={o.createdAt} to={o.finishedAt} /></dd>
                  {o.stoppedBy ? <><dt>Stopped by</dt><dd>{o.stoppedBy}</dd></> : null}
                  <dt>Jobs</dt><dd><Chosen of={o.selection} o={o} /></dd>
                </dl>
              </div>
            </section>
          </>
        );
      }}
    </Loading>
  );
}

/** What was chosen: ids, or the filter with a link to what matches it now. */
function Chosen({ of, o }: { of: Selection | undefined; o: Operation }): JSX.Element {
  const ids = of?.ids ?? [];
  if (ids.length > 0) {
    return (
      <details class="fold" open={ids.length <= 10}>
        <summary>{plural(ids.length, "job")} chosen one by one</summary>
        <ul>{ids.slice(0, 200).map((id) => <li key={id}><a class="mono" href={href(`/jobs/${id}`)}>{id}</a></li>)}</ul>
        {ids.length > 200 ? <p class="muted">and {number(ids.length - 200)} more</p> : null}
      </details>
    );
  }
  const f = of?.filter ?? {};
  const pairs: [Token["name"], string | undefined][] = [
    ["kind", f.kind], ["queue", f.queue], ["name", f.name], ["workflow", f.workflowId], ["batch", f.batch === undefined || f.batch < 0 ? undefined : String(f.batch)],
    ["error", f.error], ["tag", f.tag], ["like", f.errorGroup], ["from", f.from], ["to", f.to],
  ];
  const tokens = pairs.filter((p): p is [Token["name"], string] => !!p[1]).map(([name, value]) => ({ name, value }));
  const state = (f.states ?? []).map(stateName).join(",");
  return (
    <div class="stack tight">
      <div class="row">
        {state ? <span class="tag">state: {state.replaceAll(",", ", ")}</span> : null}
        {tokens.map((t) => <span key={t.name} class="tag">{t.name}: {t.value}</span>)}
        {!state && tokens.length === 0 ? <span>all jobs</span> : null}
      </div>
      <a href={href("/jobs", { state, q: writeTokens(tokens) })}>{o.finishedAt ? "What matches this filter today" : "What matches this filter now"}</a>
    </div>
  );
}
