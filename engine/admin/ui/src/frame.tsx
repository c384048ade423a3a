// What stands around every page: the rail, the bar on top, warnings, toasts and
// questions.
import type { ComponentChildren, JSX } from "preact";
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { logout, me, roleName } from "./access.ts";
import { now } from "./clock.ts";
import { Dialog, Questions } from "./components/dialog.tsx";
import { Icon, type IconName } from "./components/icon.tsx";
import { toast, Toasts } from "./components/toast.tsx";
import { parseTokens } from "./filter.ts";
import { age, shortCount } from "./format.ts";
import type { Totals } from "./gen/api.ts";
import { boundKeys, useKeys } from "./keyboard.ts";
import { connection, connectionError, health, heardAt, paused, refresh, totals } from "./live.ts";
import { go, href, path } from "./router.ts";
import { explain } from "./rpc.ts";
import { theme, type Theme } from "./theme.ts";

interface Place {
  to: string;
  name: string;
  icon: IconName;
  key: string;
  count?: (t: Totals) => { text: string; title: string };
}

const places: Place[] = [
  { to: "/", name: "Overview", icon: "overview", key: "o" },
  { to: "/jobs", name: "Jobs", icon: "jobs", key: "j", count: (t) => ({ text: shortCount(t.running), title: "running" }) },
  { to: "/batches", name: "Batches", icon: "batches", key: "b", count: (t) => ({ text: shortCount(t.batches), title: "running" }) },
  { to: "/workflows", name: "Workflows", icon: "workflows", key: "w", count: (t) => ({ text: shortCount(t.workflows), title: "running" }) },
  { to: "/recurring", name: "Recurring", icon: "recurring", key: "r" },
  { to: "/queues", name: "Queues", icon: "queues", key: "q", count: (t) => ({ text: String(t.queues ?? 0), title: t.pausedQueues ? `${t.pausedQueues} paused` : "" }) },
  { to: "/workers", name: "Workers", icon: "workers", key: "k", count: (t) => ({ text: String(t.workers ?? 0), title: "connected" }) },
  { to: "/cluster", name: "Cluster", icon: "cluster", key: "c" },
  { to: "/operations", name: "Operations", icon: "operations", key: "p" },
];

const drawer = signal(false);
const help = signal(false);

/** The page in its frame. */
export function Frame({ children }: { children: ComponentChildren }): JSX.Element {
  const main = useRef<HTMLElement>(null);
  const search = useRef<HTMLInputElement>(null);
  useKeys([
    { key: "/", label: "Search", run: () => { search.current?.focus(); search.current?.select(); } },
    { key: "?", label: "Show the keys", run: () => { help.value = true; } },
    { key: "r", label: "Read again", run: refresh },
    { key: "Escape", run: () => { if (!drawer.peek()) return false; drawer.value = false; return undefined; } },
    ...places.map((p) => ({ key: `g ${p.key}`, label: `Go to ${p.name}`, run: () => go(p.to) })),
  ]);
  const at = path.value;
  useEffect(() => {
    drawer.value = false;
    document.title = `${title(at)} · Heddle`;
  }, [at]);
  const away = connection.value === "reconnecting";
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); main.current?.focus(); }}>Skip to the content</a>
      <Rail at={at} />
      <div class="column">
        <header class="top">
          <button type="button" class="quiet menu-button" aria-label="Menu" aria-expanded={drawer.value} onClick={() => { drawer.value = !drawer.value; }}><Icon name="menu" /></button>
          <Search field={search} />
          <span class="grow" />
          <Liveness />
        </header>
        <Warnings />
        <main ref={main} id="main" tabIndex={-1} class={away ? "stale" : ""}>{children}</main>
      </div>
      <Toasts />
      <Questions />
      {help.value ? <Keys /> : null}
    </div>
  );
}

function Rail({ at }: { at: string }): JSX.Element {
  const t = totals.value;
  return (
    <>
      {drawer.value ? <div class="scrim" onClick={() => { drawer.value = false; }} /> : null}
      <aside class={drawer.value ? "rail open" : "rail"} aria-label="Menu">
        <a class="brand" href={href("/")}><Mark />Heddle</a>
        <nav aria-label="Pages">
          <ul>
            {places.map((p) => {
              const here = p.to === "/" ? at === "/" : at === p.to || at.startsWith(p.to + "/");
              const c = t && p.count?.(t);
              return (
                <li key={p.to}>
                  <a href={href(p.to)} aria-current={here ? "page" : undefined}>
                    <Icon name={p.icon} />
                    <span class="grow">{p.name}</span>
                    {c && c.text !== "0" ? <span class="count num" title={c.title}>{c.text}</span> : null}
                  </a>
                </li>
              );
            })}
          </ul>
        </nav>
        <span class="grow" />
        <Foot />
      </aside>
    </>
  );
}

function Foot(): JSX.Element {
  const h = health.value;
  const who = me.value;
  const themes: [Theme, IconName][] = [["system", "system"], ["light", "sun"], ["dark", "moon"]];
  return (
    <footer class="foot">
      {who?.readOnly ? <span class="tag warn">read-only</span> : null}
      <div class="row who">
        <span class="grow clip" title={`${who?.name ?? ""} (${roleName()})`}>{who?.name || "anonymous"} <span class="muted">{roleName()}</span></span>
        {who && who.name && who.name !== "anonymous" && !loopback(who.name) ? (
          <button type="button" class="quiet small" aria-label="Log out" title="Log out" onClick={() => void logout().catch((e) => toast(explain(e), "error"))}><Icon name="out" /></button>
        ) : null}
      </div>
      {h?.node ? <div class="muted clip" title={`node ${h.node}, version ${h.version ?? ""}`}>{h.node} · {h.version || "unversioned"}</div> : null}
      <div class="themes" role="radiogroup" aria-label="Theme">
        {themes.map(([name, icon]) => (
          <button
            key={name} type="button" role="radio" aria-checked={theme.value === name} aria-label={`${name} theme`} title={`${name} theme`} class="quiet small"
            onClick={() => { theme.value = name; }}
          ><Icon name={icon} /></button>
        ))}
        <span class="grow" />
        <button type="button" class="quiet small" title="Keys" aria-label="Show the keys" onClick={() => { help.value = true; }}><kbd>?</kbd></button>
      </div>
    </footer>
  );
}

/** Whether the name is that of callers on the engine's own machine, who need no login and so cannot log out. */
function loopback(name: string): boolean {
  return name === "loopback" || name === "local";
}

function Search({ field }: { field: { current: HTMLInputElement | null } }): JSX.Element {
  const submit = (text: string): void => {
    const tokens = parseTokens(text);
    const only = tokens.length === 1 ? tokens[0] : undefined;
    if (only?.name === "id") go(`/jobs/${only.value}`);
    else if (only?.name === "workflow") go(`/workflows/${only.value}`);
    else if (text.trim() !== "") go("/jobs", { q: text.trim() });
    if (field.current) field.current.value = "";
    field.current?.blur();
  };
  return (
    <form class="find" role="search" aria-label="All jobs" onSubmit={(e) => { e.preventDefault(); submit(field.current?.value ?? ""); }}>
      <Icon name="search" />
      <input
        ref={field} type="search" aria-label="Search jobs by id, kind or tokens" placeholder="Id, kind or tokens" spellcheck={false} autocomplete="off" autocapitalize="off"
        onKeyDown={(e) => { if (e.key === "Escape") e.currentTarget.blur(); }}
      />
      <kbd aria-hidden="true">/</kbd>
    </form>
  );
}

function Liveness(): JSX.Element {
  const c = connection.value;
  const heard = heardAt.value;
  void now.value; // counts the age
  const ms = heard === 0 ? undefined : Date.now() - heard;
  const old = ms !== undefined && ms > 12_000 ? `, ${age(ms)} old` : "";
  const words: Record<typeof c, string> = {
    live: `Live${old}`,
    polling: `Polling${old}`,
    connecting: "Connecting",
    reconnecting: ms === undefined ? "No connection" : `Reconnecting, ${age(ms)} old`,
    paused: ms === undefined ? "Paused" : `Paused, ${age(ms)} old`,
    off: "Not connected",
  };
  return (
    <div class="row liveness">
      <span class={`dot ${c}`} aria-hidden="true" />
      <span class="num words" title={connectionError.value}>{words[c]}</span>
      <button
        type="button" class="quiet small" aria-pressed={paused.value} title={paused.value ? "Resume live data" : "Pause live data"} aria-label={paused.value ? "Resume live data" : "Pause live data"}
        onClick={() => { paused.value = !paused.value; }}
      ><Icon name={paused.value ? "play" : "pause"} /></button>
    </div>
  );
}

function Warnings(): JSX.Element | null {
  const h = health.value;
  void now.value; // counts the age
  const texts: string[] = [];
  if (connection.value === "reconnecting" && heardAt.value !== 0 && Date.now() - heardAt.value > 3000) {
    texts.push(`No live data: ${connectionError.value || "no answer"}. What is shown is ${age(Date.now() - heardAt.value)} old.`);
  } else if (h?.trouble) {
    texts.push(h.trouble.charAt(0).toUpperCase() + h.trouble.slice(1) + (h.trouble.endsWith(".") ? "" : "."));
  } else if (h && !h.leader) {
    texts.push("No node leads the cluster: nothing is handed out until a majority of the nodes agrees on one. Running jobs go on.");
  } else if (h && !h.dispatching) {
    texts.push("The leader hands out no jobs at present.");
  }
  if (texts.length === 0) return null;
  return (
    <div class="warnings" role="status">
      {texts.map((t, i) => <p key={i} class="row"><Icon name="warning" /><span class="grow">{t}</span>{h?.trouble || !h?.leader ? <a href={href("/cluster")}>Cluster</a> : null}</p>)}
    </div>
  );
}

function Keys(): JSX.Element {
  return (
    <Dialog title="Keys" close={() => { help.value = false; }}>
      <dl class="keys">
        {boundKeys().sort((a, b) => Number(a.key.startsWith("g ")) - Number(b.key.startsWith("g "))).map((k) => (
          <div key={k.key}>
            <dt>{k.key.split(" ").map((p, i) => <kbd key={i}>{keyName(p)}</kbd>)}</dt>
            <dd>{k.label}</dd>
          </div>
        ))}
        <div><dt><kbd>Enter</kbd></dt><dd>Open</dd></div>
      </dl>
      <form method="dialog" class="row actions" onSubmit={(e) => { e.preventDefault(); help.value = false; }}>
        <button type="submit" class="primary" autoFocus>Close</button>
      </form>
    </Dialog>
  );
}

function keyName(k: string): string {
  return { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc", " ": "Space" }[k] ?? k;
}

function Mark(): JSX.Element {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="7" />
      <path d="M9 7v18M23 7v18M9 16h14" />
    </svg>
  );
}

function title(at: string): string {
  const place = places.find((p) => p.to !== "/" && (at === p.to || at.startsWith(p.to + "/")));
  return place?.name ?? "Overview";
}

/** Copies the address or an id, and says so. */
export function useCopy(text: string): () => void {
  const copy = (): void => {
    void navigator.clipboard?.writeText(text).then(() => toast(`Copied ${text}`), () => toast("The browser does not let the page copy", "error"));
  };
  useKeys([{ key: "c", label: "Copy the id", run: copy }]);
  return copy;
}
