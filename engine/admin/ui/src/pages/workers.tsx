import type { JSX } from "preact";
import { isOperator } from "../access.ts";
import { perform } from "../actions.ts";
import { confirm } from "../components/dialog.tsx";
import { Loading, Notice } from "../components/notice.tsx";
import { Ago, Took } from "../components/time.tsx";
import { duration, lengthOf, number, plural } from "../format.ts";
import type { Session } from "../gen/api.ts";
import { JobName, jobHref } from "../jobrow.tsx";
import { useLoad } from "../load.ts";
import { param, setQuery } from "../router.ts";
import { call } from "../rpc.ts";
import { shortId } from "../format.ts";

export function WorkersPage(): JSX.Element {
  const open = param("open");
  const read = useLoad("workers", (signal) => call("SessionService/List", {}, signal), 2000);
  return (
    <>
      <h1>Workers</h1>
      <Loading of={read}>
        {(data) => {
          const sessions = data.sessions ?? [];
          if (sessions.length === 0) return <NoWorkers />;
          const running = sessions.reduce((n, s) => n + (s.running ?? 0), 0);
          const slots = sessions.reduce((n, s) => n + (s.slots ?? 0), 0);
          return (
            <>
              <p class="muted">{plural(sessions.length, "session")}, {plural(running, "job")} running{slots >= running && slots > 0 ? ` of ${number(slots)} at once` : ""}.</p>
              <ul class="stack">{sessions.map((s) => <li key={s.id}><Worker s={s} open={open === s.id} /></li>)}</ul>
            </>
          );
        }}
      </Loading>
    </>
  );
}

function Worker({ s, open }: { s: Session; open: boolean }): JSX.Element {
  const label = s.worker || s.process || `session ${s.id}`;
  const age = lengthOf(s.heartbeatAge);
  const drain = (): void => void confirm({
    title: `Drain ${label}?`, text: "It takes no more jobs, and stops when those it runs have ended.", action: "Drain",
  }).then((a) => a && perform(() => call("SessionService/Drain", { session: s.id ?? "0" }), () => `${label} takes no more jobs`));
  const shown = s.jobs ?? [];
  return (
    <section class="panel" aria-label={label}>
      <header>
        <h2 class="row">{label}
          {s.closing ? <span class="tag danger">lost: its jobs go to others</span> : s.draining ? <span class="tag warn">draining</span> : null}
        </h2>
        <span class="muted num" title="Time since its last heartbeat">{age === undefined ? "heartbeat not known here" : `heard ${duration(age)} ago`}</span>
        {isOperator.value && !s.draining && !s.closing ? <button type="button" class="small" onClick={drain}>Drain</button> : null}
      </header>
      <div class="body stack tight">
        <div class="row">
          <Slots running={s.running ?? 0} slots={s.slots ?? 0} />
          <span class="num">{number(s.running ?? 0)}{(s.slots ?? 0) >= (s.running ?? 0) && s.slots ? ` of ${number(s.slots)} slots` : " running"}</span>
        </div>
        <dl class="facts">
          <dt>Queues</dt><dd>{s.queues?.join(", ") || <span class="muted">none named</span>}</dd>
          <dt>Kinds</dt><dd>{s.kinds?.join(", ") || <span class="muted">none named</span>}</dd>
          <dt>Session</dt><dd>{s.id}{s.process ? `, ${s.process}` : ""}{s.version ? `, ${s.version}` : ""}{s.openedAt ? <>, opened <Ago at={s.openedAt} /></> : null}</dd>
        </dl>
        {shown.length > 0 ? (
          <details class="fold" open={open} onToggle={(e) => { if (e.currentTarget.open !== open) setQuery({ open: e.currentTarget.open ? s.id : null }, { replace: true }); }}>
            <summary>{(s.running ?? 0) > shown.length ? `${number(shown.length)} longest of ${plural(s.running ?? 0, "running job")}` : plural(shown.length, "running job")}</summary>
            <ul class="list">
              {shown.map((j) => (
                <li key={j.id}>
                  <a class="grow clip" href={jobHref(j)}><JobName job={j} /> <span class="muted mono">{shortId(j.id ?? "")}</span></a>
                  <span class="muted">for <Took from={j.startedAt} /></span>
                </li>
              ))}
            </ul>
          </details>
        ) : null}
      </div>
    </section>
  );
}

function Slots({ running, slots }: { running: number; slots: number }): JSX.Element | null {
  if (slots < running || slots <= 0) return null;
  return (
    <div class="bar grow" aria-hidden="true">
      {running > 0 ? <span data-state="running" style={{ flexGrow: String(running / slots), flexBasis: "0" }} /> : null}
      <i style={{ flexGrow: String(Math.max(0, slots - running) / slots) }} />
    </div>
  );
}

function NoWorkers(): JSX.Element {
  return (
    <>
      <Notice kind="warn">No worker is connected: jobs wait.</Notice>
      <div class="panel empty">
        <h2>Connect a worker</h2>
        <p>A worker is a process of yours that serves kinds of jobs.</p>
        <pre class="code" tabIndex={0} aria-label="A worker in Go">{`c, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{"${location.origin}"}})
w := heddle.NewWorker(c, heddle.WorkerConfig{Slots: 64})
Greet.Handle(w, greet)
err = w.Run(ctx)`}</pre>
        <p>Without Go: <code>go run github.com/heddle-io/heddle/cmd/worker</code> serves jobs of the kinds http, smtp and exec.</p>
      </div>
    </>
  );
}
