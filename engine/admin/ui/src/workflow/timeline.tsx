// When the nodes ran: a row per card with a strip, below an open one a row per
// job with its waits and attempts.
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { thisInstant } from "../clock.ts";
import { Icon } from "../components/icon.tsx";
import { Failure } from "../components/notice.tsx";
import { StateIcon } from "../components/state.tsx";
import { dateTime, duration, millis, number, plural } from "../format.ts";
import type { TimelineJob, TimelineResponse } from "../gen/api.ts";
import { useKeys } from "../keyboard.ts";
import { useLoad } from "../load.ts";
import { param, withQuery } from "../router.ts";
import { call } from "../rpc.ts";
import { states, type StateName } from "../state.ts";
import { cardOf, choiceOf, choose, chosen, toggleNumber, writeChoice } from "./choice.ts";
import { isOver } from "./look.ts";
import { MAX_CARDS, type Model, type Scene } from "./model.ts";
import { paintRows, type Ink } from "./timepaint.ts";
import { rowAt, rowsOf, type TimeRow } from "./timerows.ts";
import { panTime, ticks, timeAt, xOf, zoomTime, type Scale } from "./timescale.ts";

const JOBS = 50;
const BUCKETS = 300;

export function TimelineView({ id, model }: { id: string; model: Model }): JSX.Element {
  const scene = model.scene;
  const read = useLoad(scene ? `timeline ${id}` : "", (s) => call("WorkflowService/Timeline", { workflowId: id, maxCards: MAX_CARDS, buckets: BUCKETS }, s), model.running ? 2000 : undefined);
  const over = useRef(model.running);
  useEffect(() => {
    if (over.current && !model.running) read.reload();
    over.current = model.running;
  }, [model.running]);
  if (!scene) return <p class="loading" role="status">Loading…</p>;
  if (!read.data) return read.error ? <Failure error={read.error} retry={read.reload} /> : <p class="loading" role="status">Loading…</p>;
  return (
    <div class="wf-view">
      {read.error ? <Failure error={read.error} retry={read.reload} /> : null}
      {Number(read.data.leftOut ?? 0) > 0 ? <div class="wf-note" role="note"><Icon name="info" /><span>The strips leave out {plural(Number(read.data.leftOut), "job")}: reading all of them would take too long.</span></div> : null}
      <Chart id={id} model={model} scene={scene} answer={read.data} />
    </div>
  );
}

function Chart({ id, model, scene, answer }: { id: string; model: Model; scene: Scene; answer: TimelineResponse }): JSX.Element {
  const g = scene.graph;
  const openParam = param("open");
  const open = useMemo(() => {
    const wanted = new Set(openParam.split(",").map(Number));
    return g.cards.filter((c) => wanted.has(c.first) && !c.isBox && !c.isBatch).map((c) => c.group);
  }, [g, openParam]);
  const [jobs, setJobs] = useState<ReadonlyMap<number, { list: readonly TimelineJob[]; next: string }>>(new Map());
  const rows = useMemo(() => rowsOf(g, answer.rows ?? [], new Map(open.map((n) => [n, jobs.get(n)?.list ?? []]))), [g, answer, jobs, open]);

  const from = millis(answer.from) ?? 0;
  const until = Math.max(millis(answer.to) ?? from + 1, from + 1);
  const all = { from, to: until + (until - from) * 0.02 };
  const [view, setView] = useState<{ from: number; to: number } | undefined>(undefined);
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [size, setSize] = useState({ w: 0, h: 0 });
  useEffect(() => {
    const c = canvas.current!.parentElement!;
    const scroller = box.current!;
    const watch = new ResizeObserver(() => setSize({ w: c.clientWidth, h: Math.max(60, scroller.clientHeight - HEAD) }));
    watch.observe(c);
    watch.observe(scroller);
    return () => watch.disconnect();
  }, []);
  const scale: Scale = { ...(view ?? all), width: Math.max(1, size.w) };
  const marks = ticks(scale, from);
  const sel = chosen();
  const card = cardOf(g, sel);
  const chosenKey = sel?.node !== undefined && rows.some((r) => r.node === sel.node) ? `n${sel.node}` : card ? `c${card.first}${card.isBox ? "b" : ""}` : "";
  const [tip, setTip] = useState<{ x: number; y: number; lines: string[] } | undefined>(undefined);

  const paint = (): void => {
    const c = canvas.current;
    const to = c?.getContext("2d");
    if (!c || !to || size.w === 0) return;
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.ceil(size.w * ratio), Math.ceil(size.h * ratio)];
    if (c.width !== w || c.height !== h) {
      [c.width, c.height] = [w, h];
      c.style.height = `${size.h}px`;
    }
    const scrolled = box.current!.scrollTop;
    let first = rows.findIndex((r) => r.top + r.height > scrolled);
    if (first < 0) first = rows.length;
    paintRows(to, rows, first, scrolled, size.h, ratio, {
      scale, from, to: until, now: model.running ? thisInstant() : undefined, ticks: marks, chosen: chosenKey, lead: (n) => tint(scene, n),
    }, inkOf(c));
  };
  const latest = useRef(paint);
  latest.current = paint;
  useEffect(() => latest.current());
  useEffect(() => {
    const again = (): void => latest.current();
    const theme = new MutationObserver(again);
    theme.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", again);
    const beat = window.setInterval(() => { if (model.running && document.visibilityState === "visible") again(); }, 500);
    return () => {
      theme.disconnect();
      system.removeEventListener("change", again);
      window.clearInterval(beat);
    };
  }, [model.running]);
  // The chosen row comes into view when it is another.
  useEffect(() => {
    const r = rows.find((x) => x.key === chosenKey);
    const b = box.current;
    if (!r || !b) return;
    if (r.top < b.scrollTop) b.scrollTop = r.top;
    else if (r.top + r.height > b.scrollTop + b.clientHeight - HEAD) b.scrollTop = r.top + r.height - b.clientHeight + HEAD + 8;
  }, [chosenKey]);

  const zoom = (factor: number, x = scale.width / 2): void => {
    const z = zoomTime(scale, factor, x, all);
    setView(z.to - z.from >= all.to - all.from ? undefined : { from: z.from, to: z.to });
  };
  const pan = (pixels: number): void => {
    if (!view) return;
    const p = panTime(scale, pixels, all);
    setView({ from: p.from, to: p.to });
  };
  useTimeGestures(canvas, zoom, pan);
  const step = (by: number) => (): void | boolean => {
    const active = document.activeElement;
    if (active !== document.body && active?.id !== "main" && !box.current?.contains(active)) return false;
    const at = rows.findIndex((r) => r.key === chosenKey);
    const next = rows[at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + by))];
    if (next) chooseRow(scene, next);
    return undefined;
  };
  useKeys([
    { key: "ArrowDown", label: "Next row", run: step(1) },
    { key: "ArrowUp", label: "Previous row", run: step(-1) },
    { key: "ArrowRight", label: "Later", run: () => (view ? pan(80) : false) },
    { key: "ArrowLeft", label: "Earlier", run: () => (view ? pan(-80) : false) },
    { key: "+", label: "Closer", run: () => zoom(1.5) },
    { key: "=", run: () => zoom(1.5) },
    { key: "-", label: "Farther", run: () => zoom(1 / 1.5) },
    { key: "0", label: "All of the time", run: () => setView(undefined) },
    { key: "f", run: () => setView(undefined) },
    { key: "Enter", label: "Open the row", run: () => {
      const active = document.activeElement;
      if (active?.closest("a, button") || !card || card.isBox || card.isBatch) return false;
      toggleNumber("open", card.first);
      return undefined;
    } },
    { key: "Escape", label: "Choose nothing", run: () => (sel ? choose(undefined) : false) },
  ]);
  const rowUnder = (e: { clientY: number; clientX: number }): { row: TimeRow; x: number; y: number } | undefined => {
    const b = canvas.current!.getBoundingClientRect();
    const y = e.clientY - b.top;
    const i = rowAt(rows, y + box.current!.scrollTop);
    return i < 0 ? undefined : { row: rows[i]!, x: e.clientX - b.left, y };
  };
  return (
    <div class="wf-time">
      <div class="wf-tools" role="toolbar" aria-label="Timeline">
        <span class="wf-group">
          <button type="button" class="small" aria-label="Farther (−)" title="Farther (−)" onClick={() => zoom(1 / 1.5)} disabled={!view}><Icon name="minus" /></button>
          <button type="button" class="small" aria-label="Closer (+)" title="Closer (+), or hold Ctrl and turn the wheel" onClick={() => zoom(1.5)}><Icon name="plus" /></button>
          <button type="button" class="small" aria-label="All of the time (f)" title="All of the time (f)" onClick={() => setView(undefined)} disabled={!view}><Icon name="fit" /></button>
        </span>
        <span class="muted num">{dateTime(scale.from)} · {duration(scale.to - scale.from)}</span>
        <span class="grow" />
        <span class="wf-key muted" aria-hidden="true"><i data-what="waiting" />waits<i data-what="delayed" />until its time<i data-what="attempt" />runs</span>
      </div>
      {open.map((n) => <JobsOf key={n} id={id} group={n} over={isOver(scene.looks[n]!.value)} set={(list, next) => setJobs((m) => new Map(m).set(n, { list, next }))} wanted={jobs.get(n)?.list.length ?? 0} />)}
      <div class="wf-rows" ref={box} tabIndex={0} role="group" aria-label="Rows of the timeline" onScroll={() => latest.current()}>
        <div class="wf-axis" aria-hidden="true">
          <span class="wf-axis-name" />
          <Axis marks={marks} scale={scale} />
        </div>
        <ul class="wf-names" aria-label="Nodes">
          {rows.map((r) => <Name key={r.key} row={r} scene={scene} open={open.includes(r.group)} on={r.key === chosenKey} />)}
          {open.map((n) => jobs.get(n)?.next ? <li key={`more ${n}`} class="wf-more"><MoreJobs label={g.cards[n]!.label} more={() => more(n)} /></li> : null)}
        </ul>
        <div class="wf-track">
          <canvas
            ref={canvas} role="img" aria-label="When each of the rows ran"
            onPointerMove={(e) => {
              const hit = rowUnder(e);
              const lines = hit ? linesOf(hit.row, timeAt(scale, hit.x), from, until, model.running) : [];
              setTip(hit && lines.length > 0 ? { x: hit.x, y: hit.y, lines } : undefined);
            }}
            onPointerLeave={() => setTip(undefined)}
            onClick={(e) => {
              const hit = rowUnder(e);
              if (hit) chooseRow(scene, hit.row);
            }}
            onDblClick={(e) => zoom(2, e.clientX - canvas.current!.getBoundingClientRect().left)}
          />
          {tip ? <TimeTip at={tip} width={size.w} /> : null}
        </div>
      </div>
    </div>
  );

  function more(n: number): void {
    const now = jobs.get(n);
    if (!now?.next) return;
    call("WorkflowService/Timeline", { workflowId: id, maxCards: MAX_CARDS, group: n, pageSize: JOBS, pageToken: now.next }).then(
      (a) => setJobs((m) => new Map(m).set(n, { list: [...now.list, ...(a.jobs ?? [])], next: a.nextPageToken ?? "" })),
      () => {},
    );
  }
}

const HEAD = 30;

/** The colour of a strip: green for what is over and well, blue for what goes on. */
function tint(scene: Scene, group: number): StateName {
  const look = scene.looks[group]!.value;
  if (!isOver(look)) return "running";
  return look.counts.succeeded > 0 || look.state === "succeeded" ? "succeeded" : look.state;
}

function chooseRow(scene: Scene, r: TimeRow): void {
  const card = scene.graph.cards[r.group]!;
  choose(r.node === 0 ? choiceOf(card) : card.node === r.node ? { node: r.node } : { card: card.first, node: r.node });
}

/** Reads the jobs of an open card, again and again while it runs. */
function JobsOf({ id, group, over, set, wanted }: { id: string; group: number; over: boolean; set: (list: readonly TimelineJob[], next: string) => void; wanted: number }): null {
  const size = Math.min(500, Math.max(JOBS, wanted));
  const read = useLoad(`timeline ${id} ${group} ${over}`, (s) => call("WorkflowService/Timeline", { workflowId: id, maxCards: MAX_CARDS, group, pageSize: size }, s), over ? undefined : 2000);
  useEffect(() => {
    if (read.data && !read.stale && (wanted <= 500)) set(read.data.jobs ?? [], read.data.nextPageToken ?? "");
  }, [read.data]);
  return null;
}

function Name({ row, scene, open, on }: { row: TimeRow; scene: Scene; open: boolean; on: boolean }): JSX.Element {
  const card = scene.graph.cards[row.group]!;
  const look = scene.looks[row.group]!.value;
  const sel = row.node === 0 ? choiceOf(card) : card.node === row.node ? { node: row.node } : { card: card.first, node: row.node };
  return (
    <li class={`${on ? "on" : ""} ${row.node ? "job" : ""}`} data-depth={Math.min(row.depth, 5)}>
      {row.opens
        ? <button type="button" class="quiet wf-twist" aria-expanded={open} aria-label={`${open ? "Close" : "Open"} ${row.label}`} onClick={() => toggleNumber("open", card.first)}><Icon name={open ? "down" : "right"} /></button>
        : <span class="wf-twist" />}
      <StateIcon state={row.state ?? look.own ?? look.state} />
      <a class="clip" href={withQuery({ sel: writeChoice(sel) })} title={row.label} aria-current={on ? "true" : undefined}>{row.label}</a>
      {row.node === 0 && card.size > 1 ? <span class="muted num">×{number(card.size)}</span> : null}
    </li>
  );
}

function MoreJobs({ label, more }: { label: string; more: () => void }): JSX.Element {
  return <button type="button" class="small" onClick={more}>More of {label}</button>;
}

function Axis({ marks, scale }: { marks: readonly { at: number; text: string }[]; scale: Scale }): JSX.Element {
  return (
    <svg class="wf-ticks" width="100%" height={HEAD}>
      {marks.map((m) => {
        const x = Math.round(xOf(scale, m.at)) + 0.5;
        return <g key={m.at}><line x1={x} x2={x} y1={HEAD - 6} y2={HEAD} /><text x={x + 4} y={HEAD - 10}>{m.text}</text></g>;
      })}
    </svg>
  );
}

/** What there is to say about a row at a time. */
function linesOf(r: TimeRow, at: number, from: number, to: number, running: boolean): string[] {
  const when = `${at >= from ? "+" : "−"}${duration(Math.abs(at - from))}`;
  if (r.node !== 0) {
    const end = running ? thisInstant() : to;
    const p = r.pieces.find((x) => at >= x.from && at <= (x.to ?? end));
    if (!p) return [];
    const length = duration((p.to ?? end) - p.from);
    const what = p.what === "waiting" ? "waited" : p.what === "delayed" ? "until its time" : `attempt ${p.how || "runs"}`;
    return [`${r.label} · ${what}`, `${length}${p.worker ? ` on ${p.worker}` : ""}`, when];
  }
  if (r.isBox) return r.from === undefined ? [] : [r.label, `ran ${duration((r.to ?? to) - r.from)}`, when];
  const i = Math.floor(((at - from) / (to - from)) * r.running.length);
  const n = r.running[i];
  if (n === undefined) return [];
  const failed = r.failed[i] ?? 0;
  if (n === 0 && failed === 0) return [];
  return [r.label, `${number(n)} ran${failed > 0 ? `, ${number(failed)} failed` : ""}`, when];
}

function TimeTip({ at, width }: { at: { x: number; y: number; lines: string[] }; width: number }): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!box.current) return;
    const left = at.x + 14 + box.current.offsetWidth > width ? at.x - 14 - box.current.offsetWidth : at.x + 14;
    box.current.style.transform = `translate(${Math.max(0, left)}px, ${at.y + HEAD - 10}px)`;
  });
  return <div class="wf-tip num" ref={box}>{at.lines.map((l, i) => <span key={i}>{l}</span>)}</div>;
}

/** Ctrl and wheel zoom, a sideways wheel pans, drags pan, two fingers zoom. */
function useTimeGestures(canvas: { current: HTMLCanvasElement | null }, zoom: (factor: number, x: number) => void, pan: (pixels: number) => void): void {
  const latest = useRef({ zoom, pan });
  latest.current = { zoom, pan };
  useEffect(() => {
    const el = canvas.current!;
    const stop = new AbortController();
    const x = (e: { clientX: number }): number => e.clientX - el.getBoundingClientRect().left;
    el.addEventListener("wheel", (e) => {
      if (e.ctrlKey || e.metaKey) latest.current.zoom(Math.exp(-Math.max(-100, Math.min(100, e.deltaY)) / 200), x(e));
      else if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) latest.current.pan(e.deltaX || e.deltaY);
      else return;
      e.preventDefault();
    }, { signal: stop.signal, passive: false });
    const fingers = new Map<number, number>();
    let moved = false;
    el.addEventListener("pointerdown", (e) => {
      if (fingers.size === 0) moved = false;
      fingers.set(e.pointerId, x(e));
    }, { signal: stop.signal });
    el.addEventListener("pointermove", (e) => {
      const was = fingers.get(e.pointerId);
      if (was === undefined) return;
      const now = x(e);
      if (fingers.size === 1) {
        if (!moved && Math.abs(now - was) < 4) return;
        moved = true;
        el.setPointerCapture(e.pointerId);
        latest.current.pan(was - now);
      } else {
        const other = [...fingers].find(([id]) => id !== e.pointerId)![1];
        const before = Math.abs(was - other);
        moved = true;
        if (before > 8) latest.current.zoom(Math.abs(now - other) / before, (now + other) / 2);
      }
      fingers.set(e.pointerId, now);
    }, { signal: stop.signal });
    for (const name of ["pointerup", "pointercancel"] as const) el.addEventListener(name, (e) => fingers.delete(e.pointerId), { signal: stop.signal });
    el.addEventListener("click", (e) => {
      if (!moved) return;
      moved = false;
      e.stopImmediatePropagation();
    }, { signal: stop.signal, capture: true });
    return () => stop.abort();
  }, []);
}

function inkOf(el: HTMLCanvasElement): Ink {
  const probe = document.createElement("i");
  el.parentElement!.append(probe);
  const read = (name: string): string => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const colours = new Map(states.map((s) => [s, read(`--state-${s}`)]));
  const ink: Ink = { state: (s) => colours.get(s)!, line: read("--line"), text: read("--muted"), selected: read("--selected"), accent: read("--accent") };
  probe.remove();
  return ink;
}
