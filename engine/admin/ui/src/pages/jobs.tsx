import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { isOperator } from "../access.ts";
import { thisInstant } from "../clock.ts";
import { BulkBar } from "../components/bulk.tsx";
import { Loading, Notice } from "../components/notice.tsx";
import { Share } from "../components/progress.tsx";
import { Fresh, Pager } from "../components/pager.tsx";
import { TokenSearch } from "../components/search.tsx";
import { StateBadge } from "../components/state.tsx";
import { Table } from "../components/table.tsx";
import { Tabs, type Tab } from "../components/tabs.tsx";
import { At } from "../components/time.tsx";
import { filterOf, parseTokens, statesOf, withToken, writeTokens, type Token } from "../filter.ts";
import { number, shortCount } from "../format.ts";
import type { Count, Job, JobFilter, JobGroup } from "../gen/api.ts";
import { jobColumns, jobHref } from "../jobrow.tsx";
import { totals } from "../live.ts";
import { useLoad } from "../load.ts";
import { useList } from "../page.ts";
import { href, param, setQuery, withQuery } from "../router.ts";
import { call } from "../rpc.ts";
import { stateName, type StateName } from "../state.ts";
import { FirstJob } from "./first.tsx";

const shown: StateName[] = ["running", "available", "retryable", "scheduled", "blocked", "succeeded", "failed", "cancelled", "skipped"];

export function JobsPage(): JSX.Element {
  const [q, state, by] = [param("q"), param("state"), param("by")];
  const tokens = parseTokens(q);
  const id = tokens.find((t) => t.name === "id");
  const filter = filterOf(tokens, statesOf(state), thisInstant());
  const t = totals.value;
  const tabs: Tab[] = [
    { value: "", label: "All" },
    ...shown.map((s) => ({ value: s, label: <StateBadge state={s} />, count: t ? shortCount((t as Record<string, Count>)[s]) : undefined })),
  ];
  return (
    <>
      <h1>Jobs</h1>
      <Tabs name="state" label="Jobs by state" now={state} tabs={tabs} />
      <div class="row">
        <TokenSearch value={q} set={(v) => setQuery({ q: v, page: null })} />
        <label class="row muted">
          Group by
          <select value={by} onChange={(e) => setQuery({ by: e.currentTarget.value, page: null })}>
            <option value="">nothing</option>
            <option value="kind">kind</option>
            <option value="queue">queue</option>
            <option value="error">error</option>
          </select>
        </label>
      </div>
      {id ? <Notice>Go to the job <a class="mono" href={href(`/jobs/${id.value}`)}>{id.value}</a></Notice> : null}
      {typeof filter === "string" ? <Notice kind="warn">{filter}</Notice> : by ? <Groups filter={filter} by={by} tokens={tokens} /> : <Jobs filter={filter} state={state} q={q} tokens={tokens} />}
    </>
  );
}

function Jobs({ filter, state, q, tokens }: { filter: JobFilter; state: string; q: string; tokens: Token[] }): JSX.Element {
  const key = `jobs ${state} ${q}`;
  const list = useList<Job>(key, async (page, signal) => {
    const answer = await call("JobService/List", { ...page, filter }, signal);
    return { rows: answer.jobs ?? [], next: answer.nextPageToken ?? "", searchedBackTo: answer.searchedBackTo };
  }, (j) => j.id ?? "");
  const [choice, setChoice] = useState<{ key: string; ids: ReadonlySet<string>; all: boolean }>({ key, ids: new Set(), all: false });
  const chosen = choice.key === key ? choice : { key, ids: new Set<string>(), all: false };
  const page = list.rows.map((r) => r.row.id ?? "");
  const filtered = q !== "" || state !== "";
  return (
    <>
      <Fresh list={list} word="job" over />
      <Loading of={list.read}>
        {() => (list.rows.length === 0 && !list.next
          ? filtered || param("page") ? <NoHits tokens={tokens} state={state} /> : <FirstJob />
          : (
            <div class="panel">
              <Table
                label="Jobs" columns={jobColumns(false)} rows={list.rows} id={(j) => j.id ?? ""} link={jobHref}
                choice={isOperator.value ? { ids: chosen.all ? new Set(page) : chosen.ids, set: (ids) => setChoice({ key, ids, all: false }) } : undefined}
              />
              {list.rows.length === 0 ? <p class="body muted">None in this stretch of time; older ones may match.</p> : null}
              <Pager list={list} />
            </div>
          ))}
      </Loading>
      <BulkBar
        ids={chosen.ids} all={chosen.all} filter={filter} states={statesOf(state).map(stateName)} more={list.next !== "" || param("page") !== ""}
        setAll={(all) => setChoice({ key, ids: all ? new Set(page) : chosen.ids, all })} clear={() => setChoice({ key, ids: new Set(), all: false })}
      />
    </>
  );
}

/** A filter without hits shows what it was. */
function NoHits({ tokens, state }: { tokens: Token[]; state: string }): JSX.Element {
  return (
    <div class="panel empty">
      <h2>No job matches</h2>
      <ul class="row">
        {state ? <li class="tag"><StateBadge state={state as StateName} /></li> : null}
        {tokens.map((t) => <li key={t.name} class="tag">{t.name}: {t.value}</li>)}
      </ul>
      <p class="muted">All of these must hold. Kinds, queues, names and tags are compared in full, words of errors anywhere in the error.</p>
      <div class="row">
        {tokens.length > 0 && state ? <a class="button" href={withQuery({ state: null, page: null })}>In all states</a> : null}
        <a class="button" href={href("/jobs")}>All jobs</a>
      </div>
    </div>
  );
}

function Groups({ filter, by, tokens }: { filter: JobFilter; by: string; tokens: Token[] }): JSX.Element {
  const read = useLoad(`groups ${by} ${JSON.stringify(filter)}`, (signal) => call("JobService/Groups", { filter, by, limit: 100 }, signal), 10_000);
  const link = (g: JobGroup): string => {
    const key = g.key ?? "";
    let narrowed = tokens;
    if (by === "error") {
      narrowed = withToken(narrowed, { name: "like", value: key });
      if (g.kind) narrowed = withToken(narrowed, { name: "kind", value: g.kind });
    } else {
      narrowed = withToken(narrowed, { name: by as "kind" | "queue", value: key });
    }
    return withQuery({ by: null, page: null, q: writeTokens(narrowed) });
  };
  return (
      <Loading of={read}>
        {(data) => {
          const groups = data.groups ?? [];
          const top = Math.max(1, ...groups.map((g) => Number(g.jobs ?? 0)));
          if (groups.length === 0) return <div class="panel empty"><h2>No job matches</h2><p class="muted">There is nothing to group.</p></div>;
          return (
            <div class="panel">
              <Table
                label={`Jobs by ${by}`} rows={groups} id={(g) => `${g.kind} ${g.key}`} link={link}
                columns={[
                  { head: by.charAt(0).toUpperCase() + by.slice(1), class: "bare whole wide", cell: (g) => (by === "error" ? <span class="error-line mono">{g.key || "(no error)"}</span> : <b>{g.key || "(none)"}</b>) },
                  ...(by === "error" ? [{ head: "Kind", class: "bare", cell: (g: JobGroup) => g.kind }] : []),
                  { head: "Jobs", class: "num", cell: (g) => number(g.jobs ?? 0) },
                  { head: "-Share", class: "bare whole wide", cell: (g) => <Share of={Number(g.jobs ?? 0) / top} /> },
                  { head: "One of them", class: "", cell: (g) => <a class="mono" href={href(`/jobs/${g.example}`)} title={g.example}>{(g.example ?? "").slice(-12)}</a> },
                ]}
              />
              {data.searchedBackTo ? <p class="pager muted">Counted back to <At at={data.searchedBackTo} />; there may be more before.</p> : null}
            </div>
          );
        }}
      </Loading>
  );
}
