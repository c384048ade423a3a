import type { JSX } from "preact";
import { isAdmin } from "../access.ts";
import { perform, type Action } from "../actions.ts";
import { ActionBar } from "../components/actions.tsx";
import { confirm } from "../components/dialog.tsx";
import { Share } from "../components/progress.tsx";
import { Loading, Notice } from "../components/notice.tsx";
import { Table } from "../components/table.tsx";
import { Tabs } from "../components/tabs.tsx";
import { bytes, duration, lengthOf, number, plural } from "../format.ts";
import type { ClusterServiceStatusResponse, Member } from "../gen/api.ts";
import { health } from "../live.ts";
import { useLoad } from "../load.ts";
import { param, withQuery } from "../router.ts";
import { call } from "../rpc.ts";

export function ClusterPage(): JSX.Element {
  const here = param("of") === "here";
  const read = useLoad(`cluster ${here}`, (signal) => call("ClusterService/Status", { here }, signal), 2000);
  return (
    <>
      <h1>Cluster</h1>
      <Tabs name="of" label="Whose view" now={here ? "here" : ""} tabs={[{ value: "", label: "As the leader sees it" }, { value: "here", label: "This node" }]} />
      <Loading of={read}>{(s) => <Status s={s} reload={read.reload} />}</Loading>
    </>
  );
}

function Status({ s, reload }: { s: ClusterServiceStatusResponse; reload: () => void }): JSX.Element {
  const members = s.members ?? [];
  const voters = members.filter((m) => m.suffrage !== "SUFFRAGE_NONVOTER").length;
  return (
    <>
      {s.trouble && s.trouble !== health.value?.trouble ? <Notice kind="warn">{s.trouble}</Notice> : null}
      {voters === 1 ? <Notice>This engine runs alone: when it stops, nothing is handed out until it is back. Three nodes go on without one of them.</Notice>
        : voters === 2 ? <Notice kind="warn">With two voters, both must run. A third one lets either of them fail.</Notice> : null}
      <section class="panel" aria-labelledby="members">
        <header><h2 id="members">Members</h2>{voters > 0 ? <span class="muted">{plural(voters, "voter")}, {number(s.quorum ?? 0)} needed</span> : null}</header>
        {members.length === 0 ? <p class="body muted">The cluster has not formed yet.</p> : <Table
          label="Members of the cluster" rows={members} id={(m) => m.id ?? ""}
          columns={[
            { head: "Node", class: "bare", cell: (m) => <span class="row"><b>{m.id}</b>{m.leader ? <span class="tag">leader</span> : null}{m.id === s.node ? <span class="tag">answers here</span> : null}</span> },
            { head: "Role", class: "", cell: (m) => (m.suffrage === "SUFFRAGE_NONVOTER" ? "receives the log" : "voter") },
            { head: "Address", class: "whole", cell: (m) => <span class="mono">{m.address}</span> },
            { head: "Heard", class: "num", cell: (m) => <Heard m={m} s={s} /> },
            { head: "Behind", class: "num", cell: (m) => <Lag m={m} s={s} /> },
            { head: "Version", class: "", cell: (m) => m.version || <span class="muted">unknown</span> },
            ...(isAdmin.value && members.length > 1 ? [{ head: "-Actions", class: "bare fit", cell: (m: Member) => <ActionBar small label={`Actions on ${m.id}`} actions={memberActions(m, s, reload)} /> }] : []),
          ]}
        />}
      </section>
      <div class="columns">
        <section class="panel" aria-labelledby="raft">
          <header><h2 id="raft">Log</h2></header>
          <div class="body">
            <dl class="facts">
              <dt>State</dt><dd>{s.state}{s.state === "leader" ? "" : s.leader ? <>, led by <b>{s.leader}</b></> : ", no leader known"}</dd>
              <dt>Dispatching</dt><dd>{s.dispatching ? "yes" : "no"}</dd>
              <dt>Term</dt><dd class="num">{number(s.term ?? 0)}</dd>
              <dt>Epoch</dt><dd class="num">{number(s.epoch ?? 0)}</dd>
              <dt>Last entry</dt><dd class="num">{number(s.lastIndex ?? 0)}</dd>
              <dt>Committed</dt><dd class="num">{number(s.commitIndex ?? 0)}</dd>
              <dt>Applied</dt><dd class="num">{number(s.appliedIndex ?? 0)}</dd>
              <dt>Snapshot at</dt><dd class="num">{number(s.snapshotIndex ?? 0)}</dd>
              <dt>Elections seen</dt><dd class="num">{number(s.elections ?? 0)}</dd>
            </dl>
          </div>
        </section>
        <section class="panel" aria-labelledby="state">
          <header><h2 id="state">Replicated state</h2></header>
          <div class="body">
            <dl class="facts">
              <dt>Cluster</dt><dd class="mono">{s.clusterId || "not formed yet"}</dd>
              <dt>Answers</dt><dd>{s.node}</dd>
              <dt>Leases</dt><dd class="num">{number(s.leases ?? 0)}</dd>
              <dt>Sessions</dt><dd class="num">{number(s.sessions ?? 0)}</dd>
              {s.stateHash ? <><dt>Checked</dt><dd><span class="mono">{s.stateHash}</span> <span class="muted num">at entry {number(s.checkedIndex ?? 0)}, which all nodes compare</span></dd></> : null}
              {Object.entries(s.features ?? {}).map(([name, v]) => <><dt>Feature {name}</dt><dd>level {v}</dd></>)}
            </dl>
          </div>
        </section>
      </div>
      <Database />
    </>
  );
}

function Database(): JSX.Element {
  const read = useLoad("database", (signal) => call("StatsService/Database", {}, signal), 10_000);
  return (
    <section class="panel" aria-labelledby="database">
      <header><h2 id="database">PostgreSQL</h2>{read.data ? <span class="muted">{read.data.version}</span> : null}</header>
      <Loading of={read}>
        {(d) => {
          const tables = d.tables ?? [];
          const small = tables.slice(8);
          const top = Math.max(1, ...tables.map((t) => Number(t.bytes ?? 0)));
          const old = lengthOf(d.oldestTransaction);
          return (
            <div>
              <div class="body">
                <dl class="facts">
                  <dt>Connections</dt><dd class="num">{number(d.connections ?? 0)} of {number(d.maxConnections ?? 0)}</dd>
                  <dt>Size</dt><dd class="num">{bytes(Number(d.bytes ?? 0))}</dd>
                  <dt>Oldest transaction</dt>
                  <dd>
                    {old === undefined || old < 1000 ? "none older than a second" : <span class={old > 300_000 ? "tag warn" : "num"}>open for {duration(old)}</span>}
                    {d.oldestTransactionWhat && old !== undefined && old >= 1000 ? <div class="mono muted">{d.oldestTransactionWhat.slice(0, 300)}</div> : null}
                  </dd>
                </dl>
              </div>
              <Table
                label="Tables" rows={param("tables") ? tables : tables.slice(0, 8)} id={(t) => t.name ?? ""}
                columns={[
                  { head: "Table", class: "bare mono", cell: (t) => t.name },
                  { head: "Rows, about", class: "num", cell: (t) => (t.rows ? number(t.rows) : <span class="muted">–</span>) },
                  { head: "Size", class: "num", cell: (t) => bytes(Number(t.bytes ?? 0)) },
                  { head: "-Share", class: "bare whole wide", cell: (t) => <Share of={Number(t.bytes ?? 0) / top} /> },
                ]}
              />
              {small.length > 0 && !param("tables") ? (
                <p class="pager muted">
                  <a href={withQuery({ tables: "all" })}>{plural(small.length, "smaller table")}, {bytes(small.reduce((n, t) => n + Number(t.bytes ?? 0), 0))}</a>
                </p>
              ) : null}
            </div>
          );
        }}
      </Loading>
    </section>
  );
}

function Heard({ m, s }: { m: Member; s: ClusterServiceStatusResponse }): JSX.Element {
  const age = lengthOf(m.lastContact);
  if (m.id === s.node && m.id !== s.leader && !s.leader) return <span class="muted">this node</span>;
  if (m.id === s.leader) return <span class="muted">leads</span>;
  if (age === undefined) return <span class="muted">{s.node === s.leader ? "never" : "not known here"}</span>;
  return <span class={age > 5000 ? "tag danger" : ""}>{duration(age)} ago</span>;
}

function Lag({ m, s }: { m: Member; s: ClusterServiceStatusResponse }): JSX.Element {
  if (!m.matchIndex || m.matchIndex === "0") return <span class="muted">–</span>;
  const behind = Number(BigInt(s.lastIndex ?? 0) - BigInt(m.matchIndex));
  return <>{number(Math.max(0, behind))}</>;
}

function memberActions(m: Member, s: ClusterServiceStatusResponse, reload: () => void): Action[] {
  if (!s.leader) return []; // changes are the leader's
  const id = m.id ?? "";
  const after = (ok: boolean): void => { if (ok) reload(); };
  const list: Action[] = [];
  if (!m.leader && m.suffrage !== "SUFFRAGE_NONVOTER") {
    list.push({
      label: "Make leader",
      run: () => void confirm({ title: `Let ${id} lead?`, text: "Dispatch pauses for a moment while the leadership is handed over. Running jobs go on.", action: "Hand over" })
        .then((a) => a && perform(() => call("ClusterService/Transfer", { to: id }), () => `${id} leads`).then(after)),
    });
  }
  list.push({
    label: "Remove", danger: true,
    run: () => void confirm({
      title: `Remove ${id} from the cluster?`,
      text: "It counts no more for the majority. To come back, it needs an empty data directory.", action: `Remove ${id}`, danger: true,
    }).then((a) => a && perform(() => call("ClusterService/Remove", { id }), () => `Removed ${id}`).then(after)),
  });
  return list;
}
