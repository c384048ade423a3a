// The graph: cards on a plane, with what is highlighted, opened and chosen.
import { computed } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { Icon, type IconName } from "../components/icon.tsx";
import { Failure, Notice } from "../components/notice.tsx";
import { number } from "../format.ts";
import { useKeys } from "../keyboard.ts";
import { param, setQuery } from "../router.ts";
import { CardView, Patterns } from "./cards.tsx";
import { cardOf, choiceOf, choose, chosen, numbersIn, toggleNumber } from "./choice.ts";
import { Edges } from "./edges.tsx";
import { useCritical } from "./critical.tsx";
import { saveSvg } from "./export.tsx";
import { firstLook } from "./camera.ts";
import { bounds, reach, walk, within, type Arrow, type Edge, type Graph, type Rect } from "./graph.ts";
import { allSucceeded, isOver } from "./look.ts";
import { Minimap } from "./minimap.tsx";
import { useLineage, type Model, type Scene } from "./model.ts";
import { FEW, Minis, MosaicPanel, openExtent } from "./opened.tsx";
import { Plane, touches } from "./plane.ts";
import { routes } from "./route.ts";
import { spread, type Size } from "./spread.ts";

export function GraphView({ id, model }: { id: string; model: Model }): JSX.Element {
  const isolated = Number(param("only")) || 0;
  const lineage = useLineage(id, isolated, model.running);
  if (isolated > 0) {
    return (
      <div class="wf-view">
        <div class="wf-note">
          <Icon name="info" />
          <span class="grow">Only <b>{lineage.scene?.graph.cards.find((c) => c.node === isolated)?.label ?? `node ${number(isolated)}`}</b> with what is before and behind it{lineage.more ? "; farther nodes are left out" : ""}.</span>
          <button type="button" class="small" onClick={() => setQuery({ only: null })}>Show all</button>
        </div>
        {lineage.read.error ? <Failure error={lineage.read.error} retry={lineage.read.reload} /> : null}
        {lineage.scene ? <Picture key={`only ${isolated}`} id={id} scene={lineage.scene} model={model} lineage /> : <p class="loading" role="status">Loading…</p>}
      </div>
    );
  }
  if (!model.scene) return <p class="loading" role="status">Loading…</p>;
  const g = model.scene.graph;
  return (
    <div class="wf-view">
      {g.merged !== "" ? (
        <div class="wf-note" role="note">
          <Icon name="info" />
          <span>{number(g.groups)} groups are too many to draw: those of the same {g.merged} stand in one card. Nothing is left out; open a card, or isolate a node, to see more.</span>
        </div>
      ) : null}
      {g.cards.length === 0 ? <Notice>This workflow has no nodes.</Notice> : <Picture key={id} id={id} scene={model.scene} model={model} />}
    </div>
  );
}

function Picture({ id, scene, model, lineage = false }: { id: string; scene: Scene; model: Model; lineage?: boolean }): JSX.Element {
  const { graph, looks } = scene;
  const stage = useRef<HTMLDivElement>(null);
  const world = useRef<SVGGElement>(null);
  const over = useRef<HTMLDivElement>(null);
  const [plane] = useState(() => new Plane());

  const sel = chosen();
  const selected = cardOf(graph, sel);
  const openParam = lineage ? "" : param("open");
  const open = useMemo(() => {
    const wanted = new Set(openParam.split(",").map(Number));
    return new Map<number, Size>(graph.cards.filter((c) => wanted.has(c.first) && canOpen(graph, c.group)).map((c) => [c.group, openExtent(c)]));
  }, [graph, openParam]);
  const at = useMemo(() => spread(graph.cards, open), [graph, open]);
  const ways = useMemo(() => routes(graph, at), [graph, at]);
  const hideDone = param("hide") === "1";
  const hidden = useMemo(() => {
    let last = none;
    return computed(() => (last = hideDone ? unlessSame(hiddenCards(scene), last) : none));
  }, [scene, hideDone]).value;
  const all = useMemo(() => bounds(at), [at]);
  const shownAll = hidden.size === 0 || hidden.size === graph.cards.length ? all : bounds(at.filter((_, n) => !hidden.has(n)));
  const up = param("up") === "1";
  const down = param("down") === "1";
  const critical = useCritical(id, graph, param("path") === "1" && !lineage, model.running);
  const lit = useMemo(() => {
    if (!selected || (!up && !down)) return undefined;
    const s = new Set([selected.group]);
    if (up) for (const n of reach(graph, selected.group, "up")) s.add(n);
    if (down) for (const n of reach(graph, selected.group, "down")) s.add(n);
    return s;
  }, [graph, selected, up, down]);
  const bright = (n: number): boolean => {
    if (lit && !lit.has(n)) return false;
    return critical.groups.size === 0 || critical.groups.has(n) || [...critical.groups].some((c) => within(graph, c, n));
  };
  const dimming = lit !== undefined || critical.groups.size > 0;

  // The first look waits for the size of the stage.
  const looked = useRef(false);
  useLayoutEffect(() => plane.attach(stage.current!), [plane]);
  useLayoutEffect(() => {
    if (looked.current || plane.screen.value.w === 0) return;
    looked.current = true;
    plane.look(shownAll, selected ? at[selected.group] : front(scene, at));
  });
  useLayoutEffect(() => plane.camera.subscribe(({ x, y, k }) => {
    world.current?.setAttribute("transform", `translate(${x} ${y}) scale(${k})`);
    if (over.current) over.current.style.transform = `translate(${x}px, ${y}px) scale(${k})`;
  }), [plane]);

  // Opening or choosing something brings it into view; following goes after
  // what runs until the person moves the picture.
  const follow = param("follow") === "1" && model.running;
  useEffect(() => {
    plane.onMoved = () => { if (param("follow") === "1") setQuery({ follow: null }, { replace: true }); };
  }, [plane]);
  const running = useMemo(() => computed(() => (follow ? front(scene, at) : undefined)), [scene, at, follow]).value;
  useEffect(() => {
    if (follow && running) plane.centre(running, all);
  }, [follow, running?.x, running?.y, running?.w, running?.h]);
  const before = useRef({ sel: param("sel"), open: openParam });
  useEffect(() => {
    const now = { sel: param("sel"), open: openParam };
    const opened = now.open.length > before.current.open.length;
    if (selected && looked.current && opened && open.has(selected.group) && plane.camera.peek().k < 0.75) plane.show(at[selected.group]!);
    else if (selected && looked.current && (now.sel !== before.current.sel || opened)) plane.reveal(at[selected.group]!);
    before.current = now;
  }, [param("sel"), openParam]);

  // What is left, or highlighted, comes into view when that is switched on.
  const switched = useRef({ hide: hideDone, path: critical.groups.size > 0 });
  useEffect(() => {
    const now = { hide: hideDone, path: critical.groups.size > 0 };
    if (looked.current && now.path && !switched.current.path) plane.fly(firstLook(bounds([...critical.groups].map((n) => at[n]!)), undefined, plane.screen.peek(), 0.16));
    else if (looked.current && now.hide && !switched.current.hide) plane.fly(firstLook(shownAll, undefined, plane.screen.peek()));
    switched.current = now;
  });

  const focus = (group: number): void => {
    requestAnimationFrame(() => {
      // The card may only be drawn once the plane has moved there.
      const find = (): SVGElement | null => stage.current?.querySelector<SVGElement>(`[data-group="${group}"]`) ?? null;
      const card = find();
      if (card) card.focus({ preventScroll: true });
      else requestAnimationFrame(() => find()?.focus({ preventScroll: true }));
    });
  };
  const shownCard = (n: number): boolean => !hidden.has(n);
  const mine = (): boolean => document.activeElement === document.body || document.activeElement === document.getElementById("main") || stage.current?.contains(document.activeElement) === true;
  const go = (key: Arrow) => (): void | boolean => {
    if (!mine()) return false;
    const to = selected ? walk(graph, selected.group, key, shownCard) : graph.cards.find((c) => shownCard(c.group))?.group;
    if (to === undefined) return undefined;
    choose(choiceOf(graph.cards[to]!));
    focus(to);
    return undefined;
  };
  const openOrClose = (group: number): void => {
    const c = graph.cards[group]!;
    if (!lineage && canOpen(graph, group)) toggleNumber("open", c.first);
    else document.getElementById("wf-inspector")?.focus();
  };
  useKeys([
    { key: "ArrowRight", label: "Along an edge", run: go("ArrowRight") },
    { key: "ArrowLeft", label: "Back along an edge", run: go("ArrowLeft") },
    { key: "ArrowUp", label: "Card above", run: go("ArrowUp") },
    { key: "ArrowDown", label: "Card below", run: go("ArrowDown") },
    { key: "Enter", label: "Open the card, or read about the node", run: () => {
      const mini = document.activeElement?.closest<SVGElement>("[data-node]");
      if (mini && stage.current?.contains(mini)) return choose({ ...(selected ? { card: selected.first } : {}), node: Number(mini.dataset["node"]) });
      if (!selected || !mine()) return false;
      openOrClose(selected.group);
      return undefined;
    } },
    { key: "Escape", label: "Close, or choose nothing", run: () => {
      if (!mine() && !document.activeElement?.closest("#wf-inspector")) return false;
      if (selected && sel?.node !== undefined && sel.card !== undefined) choose({ card: sel.card });
      else if (selected && open.has(selected.group)) toggleNumber("open", selected.first, false);
      else if (sel) choose(undefined, { up: null, down: null });
      else if (numbersIn("open").size > 0 && !lineage) setQuery({ open: null }, { replace: true });
      else if (lineage) setQuery({ only: null });
      else return false;
      if (selected) focus(selected.group);
      return undefined;
    } },
    { key: "+", label: "Closer", run: () => plane.zoom(1.4) },
    { key: "=", run: () => plane.zoom(1.4) },
    { key: "-", label: "Farther", run: () => plane.zoom(1 / 1.4) },
    { key: "0", label: "As large as drawn", run: () => plane.zoom(1 / plane.camera.peek().k) },
    { key: "f", label: "Show all of the graph", run: () => plane.fit(shownAll) },
  ]);

  const onClick = (e: MouseEvent): void => {
    if (!(e.target instanceof Element)) return;
    const mini = e.target.closest<SVGElement>("[data-node]");
    const box = e.target.closest<SVGElement>("[data-group]");
    if (mini) {
      const owner = graph.cards[Number(mini.closest<SVGElement>("[data-of]")?.dataset["of"])];
      choose({ ...(owner ? { card: owner.first } : {}), node: Number(mini.dataset["node"]) });
    } else if (box) {
      const group = Number(box.dataset["group"]);
      choose(choiceOf(graph.cards[group]!));
      box.focus({ preventScroll: true });
    } else if (e.target.closest("[data-still], .wf-open") === null) choose(undefined);
  };
  const onDouble = (e: MouseEvent): void => {
    const box = e.target instanceof Element ? e.target.closest<SVGElement>("[data-group]") : null;
    if (box) openOrClose(Number(box.dataset["group"]));
  };

  const befores = useMemo(() => graph.into.map((edges) => edges.map((e) => graph.cards[graph.edges[e]!.from]!.label)), [graph]);
  const window = plane.window.value;
  const detail = plane.detail.value;
  const drawn = graph.cards.filter((c) => !hidden.has(c.group) && (touches(at[c.group]!, window) || c === selected));
  const entry = selected && !hidden.has(selected.group) ? selected : drawn.find((c) => !c.isBox) ?? drawn[0];
  const shownEdge = (e: Edge): boolean => !hidden.has(e.from) && !hidden.has(e.to);
  const litEdge = (e: Edge): boolean => lit ? lit.has(e.from) && lit.has(e.to) : selected !== undefined && (e.from === selected.group || e.to === selected.group);
  const draw = (c: (typeof drawn)[number]): JSX.Element => (
    <CardView
      key={c.first + (c.isBox ? "b" : "")} card={c} at={at[c.group]!} look={looks[c.group]!} detail={detail} chosen={selected === c} first={entry === c}
      dim={dimming && !bright(c.group)} critical={critical.groups.has(c.group)} open={open.has(c.group)} before={befores[c.group]!}
    />
  );
  const opened = graph.cards.filter((c) => open.has(c.group) && !hidden.has(c.group));
  return (
    <div class="wf-picture">
      <Toolbar plane={plane} all={shownAll} model={model} lineage={lineage} hasChoice={selected !== undefined} anyOpen={open.size > 0}
        save={() => saveSvg({ scene, at, ways, all, open, label: model.workflow?.name || id, stage: stage.current! })} />
      {critical.summary}
      <div class={`wf-stage ${detail}`} ref={stage} onClick={onClick} onDblClick={onDouble}>
        <svg class="wf-svg" role="group" aria-label={`Graph of ${number(graph.cards.length)} cards. Arrow keys walk along its edges; the table lists the same nodes.`}>
          <Patterns />
          <g ref={world}>
            {drawn.filter((c) => c.isBox).map(draw)}
            <Edges graph={graph} ways={ways} window={window} detail={detail} shown={shownEdge} lit={litEdge} dim={dimming} critical={(e) => critical.edges.has(e)} />
            {drawn.filter((c) => !c.isBox).map(draw)}
            {opened.filter((c) => c.size <= FEW).map((c) => <g key={c.first} data-of={c.group}><Minis id={id} card={c} at={at[c.group]!} look={looks[c.group]!} /></g>)}
          </g>
        </svg>
        <div class="wf-over" ref={over}>
          {opened.filter((c) => c.size > FEW).map((c) => <MosaicPanel key={c.first} id={id} card={c} at={at[c.group]!} look={looks[c.group]!} plane={plane} />)}
        </div>
        <Minimap scene={scene} at={at} all={all} plane={plane} />
      </div>
    </div>
  );
}

const none: ReadonlySet<number> = new Set();

/** The set as it was, if the new one is the same: then nothing is drawn again. */
function unlessSame(now: ReadonlySet<number>, last: ReadonlySet<number>): ReadonlySet<number> {
  return now.size === last.size && [...now].every((n) => last.has(n)) ? last : now;
}

/** A card opens if it stands for several nodes and is no box, which is open by nature. */
export function canOpen(g: Graph, group: number): boolean {
  const c = g.cards[group];
  return c !== undefined && c.size > 1 && !c.isBox;
}

/** Cards of which all succeeded; of boxes those in which nothing else is left. */
function hiddenCards({ graph, looks }: Scene): ReadonlySet<number> {
  const out = new Set<number>();
  for (let n = graph.cards.length - 1; n >= 0; n--) { // what is in a box comes after it
    if (allSucceeded(looks[n]!.value) && graph.inside[n]!.every((m) => out.has(m))) out.add(n);
  }
  return out;
}

/** Where to look: the cards that run, or else those about to, or else the first that failed. */
function front({ graph, looks }: Scene, at: readonly Rect[]): Rect | undefined {
  for (const states of [["running"], ["available", "retryable"]] as const) {
    const there = graph.cards.filter((c) => !c.isBox && !isOver(looks[c.group]!.value) && states.some((s) => looks[c.group]!.value.counts[s] > 0 || looks[c.group]!.value.state === s));
    if (there.length > 0) return bounds(there.map((c) => at[c.group]!));
  }
  const failed = graph.cards.filter((c) => !c.isBox && (looks[c.group]!.value.counts.failed > 0 || looks[c.group]!.value.state === "failed"));
  const first = failed.sort((a, b) => a.x - b.x)[0];
  return first ? at[first.group] : undefined;
}

function Toolbar({ plane, all, model, lineage, hasChoice, anyOpen, save }: { plane: Plane; all: Rect; model: Model; lineage: boolean; hasChoice: boolean; anyOpen: boolean; save: () => void }): JSX.Element {
  const toggle = (name: string, label: string, title: string, icon?: IconName, off = false): JSX.Element => (
    <button
      type="button" class={param(name) === "1" ? "small on" : "small"} aria-pressed={param(name) === "1"} title={title} disabled={off}
      onClick={() => setQuery({ [name]: param(name) !== "1" }, { replace: true })}
    >{icon ? <Icon name={icon} /> : null}{label}</button>
  );
  const press = (icon: IconName, label: string, run: () => void): JSX.Element => (
    <button type="button" class="small" aria-label={label} title={label} onClick={run}><Icon name={icon} /></button>
  );
  return (
    <div class="wf-tools" role="toolbar" aria-label="Graph">
      <span class="wf-group">
        {press("minus", "Farther (−)", () => plane.zoom(1 / 1.4))}
        <Zoom plane={plane} />
        {press("plus", "Closer (+)", () => plane.zoom(1.4))}
        {press("fit", "Show all (f)", () => plane.fit(all))}
      </span>
      {!lineage && model.running ? toggle("follow", "Follow", "Keep what runs in view", "target") : null}
      {toggle("hide", "Hide succeeded", "Leave out cards of which all succeeded")}
      {lineage ? null : toggle("path", "Critical path", "What released what, back from the last to end")}
      {toggle("up", "Before", "Highlight all that the chosen card depends on", "left", !hasChoice)}
      {toggle("down", "Behind", "Highlight all that depends on the chosen card", "right", !hasChoice)}
      {anyOpen ? <button type="button" class="small" onClick={() => setQuery({ open: null }, { replace: true })}>Close all</button> : null}
      <span class="grow" />
      {press("download", "Save as SVG", save)}
    </div>
  );
}

function Zoom({ plane }: { plane: Plane }): JSX.Element {
  const k = plane.camera.value.k;
  return <button type="button" class="small num wf-zoom" title="As large as drawn (0)" aria-label={`Zoom ${Math.round(k * 100)} %, reset`} onClick={() => plane.zoom(1 / k)}>{Math.round(k * 100)} %</button>;
}
