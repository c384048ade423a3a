import type { JSX } from "preact";
import { Chart, Sparkline } from "../components/chart.tsx";
import { Icon } from "../components/icon.tsx";
import { Loading, Notice } from "../components/notice.tsx";
import { StateBadge } from "../components/state.tsx";
import { Table } from "../components/table.tsx";
import { Ago, Took } from "../components/time.tsx";
import { now, thisInstant } from "../clock.ts";
import { writeTokens } from "../filter.ts";
import { count, duration, millis, number, short, shortCount } from "../format.ts";
import type { Count, FailureGroup, Minute, Overview, Totals } from "../gen/api.ts";
import { connection, overview, totals, useView } from "../live.ts";
import { useLoad } from "../load.ts";
import { href, param, setQuery, withQuery } from "../router.ts";
import { call } from "../rpc.ts";
import type { StateName } from "../state.ts";
import { workflowColumns, workflowHref } from "../workflowrow.tsx";
import { FirstJob } from "./first.tsx";
import { queueColumns } from "./queues.tsx";

export function OverviewPage(): JSX.Element {
  useView({ overview: true });
  const o = overview.value;
  const t = totals.value;
  if (!o || !t) {
    return (
      <>
        <h1>Overview</h1>
        <p class="loading" role="status">{connection.value === "paused" ? "Live data are paused." : "Loading…"}</p>
      </>
    );
  }
  if (unused(t)) return <><h1>Overview</h1><FirstJob /></>;
  return (
    <>
      <h1>Overview</h1>
      <Tiles t={t} o={o} />
      <Unserved o={o} t={t} />
      <Throughput o={o} />
      <div class="columns">
        <section class="panel" aria-labelledby="failing">
          <header><h2 id="failing">Failing now</h2><a href={href("/jobs", { state: "failed", by: "error" })}>All failures</a></header>
          {o.failures?.length ? <Failures groups={o.failures} /> : <p class="body muted">Nothing has failed that no one has dealt with.</p>}
        </section>
        <section class="panel" aria-labelledby="slowest">
          <header><h2 id="slowest">Longest waits</h2><a href={href("/queues")}>All queues</a></header>
          {o.slowest?.length ? <Table label="Queues by longest wait" columns={queueColumns(false)} rows={o.slowest} id={(q) => q.name ?? ""} /> : <p class="body muted">No job waits.</p>}
        </section>
      </div>
      <section class="panel" aria-labelledby="running">
        <header><h2 id="running">Running workflows</h2><a href={href("/workflows", { state: "running" })}>All running</a></header>
        {o.running?.length
          ? <Table label="Running workflows" columns={workflowColumns} rows={o.running} id={(w) => w.id ?? ""} link={workflowHref} />
          : <p class="body muted">No workflow is running. <a href={href("/workflows")}>Past workflows</a></p>}
      </section>
    </>
  );
}

/** Whether the engine has seen no job, as far as the totals tell. */
function unused(t: Totals): boolean {
  return ([t.blocked, t.scheduled, t.available, t.running, t.retryable, t.succeeded, t.failed, t.cancelled, t.skipped, t.workflows, t.unresolved] as (Count | undefined)[])
    .every((c) => Number(c?.n ?? 0) === 0) && !t.queues;
}

function Tiles({ t, o }: { t: Totals; o: Overview }): JSX.Element {
  const open = o.open ?? [];
  const minutes = o.minutes ?? [];
  const tile = (state: StateName, of: Count | undefined, note: string, values: number[]): JSX.Element => (
    <a class="tile" href={href("/jobs", { state })} title={`${count(of)} ${state} ${note}`}>
      <StateBadge state={state} />
      <span class="figure num">{shortCount(of)}</span>
      <span class="note">{note}</span>
      <Sparkline values={values} state={state} slots={60} />
    </a>
  );
  const waiting = (f: (s: NonNullable<Overview["open"]>[number]) => string | undefined): number[] => open.map((s) => Number(f(s) ?? 0));
  const ended = (f: (m: Minute) => string | undefined): number[] => minutes.map((m) => Number(f(m) ?? 0));
  return (
    <section class="tiles" aria-label="Jobs by state">
      {tile("running", t.running, "now", waiting((s) => s.running))}
      {tile("available", t.available, "now", waiting((s) => s.available))}
      {tile("retryable", t.retryable, "now", waiting((s) => s.retryable))}
      {tile("scheduled", t.scheduled, "now", waiting((s) => s.scheduled))}
      {tile("blocked", t.blocked, "now", waiting((s) => s.blocked))}
      {tile("succeeded", t.succeeded, "in 24 h", ended((m) => m.succeeded))}
      {tile("failed", t.failed, `in 24 h, ${shortCount(t.unresolved)} unresolved`, ended((m) => m.failed))}
      {tile("cancelled", t.cancelled, "in 24 h", ended((m) => m.cancelled))}
    </section>
  );
}

/** Says in words that work waits for workers that are not there. */
function Unserved({ o, t }: { o: Overview; t: Totals }): JSX.Element | null {
  if (!Number(t.available?.n ?? 0) || t.workers) return null;
  const names = (o.slowest ?? []).map((q) => q.name).join(", ");
  return <Notice kind="warn">{count(t.available)} jobs are due and no worker is connected{names ? ` (queues: ${names})` : ""}. They start as soon as one comes.</Notice>;
}

const spans = [["", "10 minutes"], ["hour", "Hour"], ["day", "Day"], ["week", "Week"], ["month", "Month"]] as const;
const lengths: Record<string, number> = { hour: 36e5, day: 864e5, week: 6048e5, month: 30 * 864e5 };

function Throughput({ o }: { o: Overview }): JSX.Element {
  const span = param("span");
  const [from, to] = [Number(param("from")), Number(param("to"))];
  const chosen = from > 0 && to > from;
  return (
    <section class="panel" aria-labelledby="throughput">
      <header>
        <h2 id="throughput">Throughput</h2>
        <span class="segments" role="group" aria-label="Time shown">
          {spans.map(([value, label]) => (
            <a key={value} href={withQuery({ span: value, from: null, to: null })} aria-current={!chosen && value === span ? "true" : undefined}>{label}</a>
          ))}
        </span>
        {chosen ? <a class="button small" href={withQuery({ from: null, to: null })}><Icon name="close" />Marked range</a> : null}
      </header>
      <div class="body">
        {chosen ? <History from={from} to={to} /> : span in lengths ? <History span={span} /> : <Now o={o} />}
      </div>
    </section>
  );
}

function Now({ o }: { o: Overview }): JSX.Element {
  const rates = o.rates ?? [];
  if (rates.length === 0) return <p class="muted">The leader has not told its rates yet.</p>;
  // Seconds of which nothing is known at the front are shown as empty, so that
  // the chart always spans ten minutes.
  const last = Number(rates.at(-1)!.second);
  const bySecond = new Map(rates.map((r) => [Number(r.second), r]));
  const seconds = Array.from({ length: 600 }, (_, i) => last - 599 + i);
  const of = (f: "succeeded" | "failed" | "retried" | "cancelled"): number[] => seconds.map((s) => bySecond.get(s)?.[f] ?? 0);
  const recent = rates.slice(-11, -1);
  const mean = recent.reduce((sum, r) => sum + (r.succeeded ?? 0) + (r.failed ?? 0) + (r.cancelled ?? 0), 0) / Math.max(1, recent.length);
  return (
    <div class="stack tight">
      <p><b class="num">{short(Math.round(mean * 10) / 10)}</b> <span class="muted">jobs ended per second, over the last ten</span></p>
      <Chart
        label="Jobs ended per second" times={seconds.map((s) => s * 1000)}
        series={[
          { name: "succeeded", state: "succeeded", values: of("succeeded") },
          { name: "cancelled", state: "cancelled", values: of("cancelled") },
          { name: "to be retried", state: "retryable", values: of("retried") },
          { name: "failed", state: "failed", values: of("failed") },
        ]}
        write={(n) => `${short(n)}/s`}
      />
    </div>
  );
}

function History(at: { span: string } | { from: number; to: number }): JSX.Element {
  const key = JSON.stringify(at);
  const read = useLoad(`history ${key}`, (signal) => {
    const to = "span" in at ? thisInstant() : at.to;
    const from = "span" in at ? to - lengths[at.span]! : at.from;
    return call("StatsService/History", { from: new Date(from).toISOString(), to: new Date(to).toISOString() }, signal);
  }, 30_000);
  return (
    <Loading of={read}>
      {(data) => {
        const points = data.points ?? [];
        const sum = (f: (m: Minute) => string | undefined): number => points.reduce((n, p) => n + Number(f(p) ?? 0), 0);
        const done = sum((p) => p.succeeded);
        const weigh = (f: (m: Minute) => string | undefined): number | undefined => {
          const jobs = points.reduce((n, p) => n + endedIn(p), 0);
          return jobs > 0 ? points.reduce((n, p) => n + Number(f(p) ?? 0) * endedIn(p), 0) / jobs / 1000 : undefined;
        };
        const width = data.widthMinutes ?? 1;
        const of = (f: (m: Minute) => string | undefined): number[] => points.map((p) => Number(f(p) ?? 0));
        return (
          <div class="stack tight">
            <p class="row chart-figures">
              <span><b class="num">{number(done)}</b> <span class="muted">succeeded</span></span>
              <span><b class="num">{number(sum((p) => p.failed))}</b> <span class="muted">failed</span></span>
              <span><b class="num">{number(sum((p) => p.retried))}</b> <span class="muted">retried</span></span>
              <span><b class="num">{duration(weigh((p) => p.runUs))}</b> <span class="muted">mean run</span></span>
              <span><b class="num">{duration(weigh((p) => p.waitUs))}</b> <span class="muted">mean wait</span></span>
            </p>
            <Chart
              label={`Jobs ended per ${width === 1 ? "minute" : duration(width * 60_000)}`} times={points.map((p) => millis(p.at) ?? now.peek())}
              series={[
                { name: "succeeded", state: "succeeded", values: of((p) => p.succeeded) },
                { name: "cancelled", state: "cancelled", values: of((p) => p.cancelled) },
                { name: "to be retried", state: "retryable", values: of((p) => p.retried) },
                { name: "failed", state: "failed", values: of((p) => p.failed) },
              ]}
              onRange={(from, to) => setQuery({ from, to })}
            />
            <p class="muted">Per {width === 1 ? "minute" : duration(width * 60_000)}. Mark a range with the mouse to look closer.</p>
          </div>
        );
      }}
    </Loading>
  );
}

function endedIn(m: Minute): number {
  return Number(m.succeeded ?? 0) + Number(m.failed ?? 0) + Number(m.cancelled ?? 0);
}

/** Failed jobs by kind and error. */
export function Failures({ groups }: { groups: FailureGroup[] }): JSX.Element {
  return (
    <Table
      label="Failures by kind and error" rows={groups} id={(g) => `${g.kind} ${g.error}`}
      link={(g) => href("/jobs", { state: "failed", q: writeTokens([{ name: "kind", value: g.kind ?? "" }, { name: "like", value: g.error ?? "" }]) })}
      columns={[
        { head: "Kind", class: "bare", cell: (g) => <b>{g.kind}</b> },
        { head: "Jobs", class: "num bare", cell: (g) => count(g.jobs) },
        { head: "Error", class: "bare whole", cell: (g) => <span class="error-line mono">{g.error || "(no text)"}</span> },
        { head: "Last", class: "fit", cell: (g) => <Ago at={g.last} /> },
      ]}
    />
  );
}

/** How long the oldest job of a queue has waited. */
export function Oldest({ at }: { at: string | undefined }): JSX.Element {
  return at ? <Took from={at} /> : <span class="muted">–</span>;
}
