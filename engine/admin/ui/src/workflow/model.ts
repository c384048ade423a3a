// What the workflow page knows: the graph, which is read once and after it has
// grown, and how its cards fare, which changes all the time.
import { signal, type Signal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import type { CardCounts, Workflow } from "../gen/api.ts";
import { useLoad, type Loaded } from "../load.ts";
import { useView, workflowLive } from "../live.ts";
import { call } from "../rpc.ts";
import { stateName, type StateName } from "../state.ts";
import { graphOf, lineageGraph, type Graph } from "./graph.ts";
import { lookOf, lookOfLive, type Look } from "./look.ts";

/** Cards asked for; every call that names groups says the same. */
export const MAX_CARDS = 400;

/** A graph with the looks of its cards, by group. */
export interface Scene {
  graph: Graph;
  looks: Signal<Look>[];
}

export interface Model {
  workflow: Workflow | undefined;
  scene: Scene | undefined;
  state: StateName;
  running: boolean;
  read: Loaded<unknown>;
}

export function useModel(id: string): Model {
  useView({ workflowId: id, maxCards: MAX_CARDS });
  const live = workflowLive.value?.id === id ? workflowLive.value : undefined;
  const got = useLoad(`workflow ${id}`, (s) => call("WorkflowService/Get", { workflowId: id }, s));
  const read = useLoad(`graph ${id}`, (s) => call("WorkflowService/Graph", { workflowId: id, maxCards: MAX_CARDS }, s));
  const answer = read.stale ? undefined : read.data;

  const scene = useMemo((): Scene | undefined => {
    if (!answer) return undefined;
    const graph = graphOf(answer);
    const looks = graph.cards.map((c, i) => signal(lookOf(c, answer.cards?.[i]?.counts, answer.cards?.[i]?.state)));
    return { graph, looks };
  }, [answer]);

  // The live counts, over those that came with the graph.
  const applied = useRef(new Map<number, CardCounts>());
  useEffect(() => applied.current.clear(), [scene]);
  useEffect(() => {
    if (!scene || !live) return;
    for (const [group, counts] of live.cards) {
      const card = scene.graph.cards[group];
      if (!card || applied.current.get(group) === counts) continue;
      applied.current.set(group, counts);
      scene.looks[group]!.value = lookOfLive(card, counts);
    }
  }, [scene, live?.cards]);

  // The graph has grown: its version is the number of its nodes.
  const asked = useRef(0);
  const version = live?.graphVersion ?? 0;
  useEffect(() => {
    if (!scene || version === 0 || version === asked.current) return;
    const known = scene.graph.cards.reduce((most, c) => Math.max(most, c.last), 0);
    const first = asked.current === 0;
    asked.current = version;
    if (version > known || (!first && version !== known)) read.reload();
  }, [scene, version]);

  const workflow = live?.workflow ?? (got.stale ? undefined : got.data?.workflow);
  const state = stateName(workflow?.state);
  return { workflow, scene, state, running: state === "running", read: read.error ? read : (got as Loaded<unknown>) };
}

/** The picture of one node's ancestors and descendants; node 0 asks for none. */
export function useLineage(id: string, node: number, running: boolean): { scene: Scene | undefined; more: boolean; read: Loaded<unknown> } {
  const read = useLoad(node > 0 ? `lineage ${id} ${node}` : "", (s) => call("WorkflowService/Lineage", { workflowId: id, node, limit: 300 }, s), running ? 3000 : undefined);
  const answer = read.stale || node === 0 ? undefined : read.data;
  const kept = useRef<{ shape: string; scene: Scene } | undefined>(undefined);
  const scene = useMemo((): Scene | undefined => {
    if (!answer) return undefined;
    const shape = `${id} ${node} ${answer.nodes?.length ?? 0} ${answer.edges?.length ?? 0}`;
    if (kept.current?.shape === shape) { // only states have changed
      kept.current.scene.graph.cards.forEach((c, i) => {
        kept.current!.scene.looks[i]!.value = lookOf(c, undefined, answer.nodes?.[i]?.state);
      });
      return kept.current.scene;
    }
    const graph = lineageGraph(answer);
    kept.current = { shape, scene: { graph, looks: graph.cards.map((c, i) => signal(lookOf(c, undefined, answer.nodes?.[i]?.state))) } };
    return kept.current.scene;
  }, [answer]);
  return { scene, more: answer?.more ?? false, read: read as Loaded<unknown> };
}
