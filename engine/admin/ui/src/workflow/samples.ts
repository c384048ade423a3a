// Graphs for tests.
import type { GraphResponse } from "../gen/api.ts";
import { graphOf, type Graph } from "./graph.ts";

/** letter → emails(send) → finish, refused → summary: columns 0, 1, 2, 3. */
export function campaign(): GraphResponse {
  return {
    cards: [
      { label: "letter", kind: "render", node: 1, firstNode: 1, lastNode: 1, size: 1, x: 0, y: 1, width: 0.74, height: 0.7, box: -1, state: "STATE_SUCCEEDED", counts: { total: "1", succeeded: "1" } },
      { group: 1, label: "emails", isBatch: true, node: 2, firstNode: 2, lastNode: 2, size: 1, x: 1, y: 1, width: 0.86, height: 1.2, box: -1, state: "STATE_RUNNING", counts: { total: "100", succeeded: "40", running: "60" } },
      { group: 2, label: "send", kind: "send", batch: 2, firstNode: 3, lastNode: 102, size: 100, x: 1, y: 1.1, width: 0.74, height: 0.7, box: 1, counts: { total: "100", succeeded: "40", running: "60" } },
      { group: 3, label: "finish", kind: "finish", node: 103, firstNode: 103, lastNode: 103, size: 1, x: 2, y: 0.5, width: 0.74, height: 0.7, box: -1, state: "STATE_BLOCKED", counts: { total: "1", blocked: "1" } },
      { group: 4, label: "refused", kind: "refused", node: 104, firstNode: 104, lastNode: 104, size: 1, x: 2, y: 1.5, width: 0.74, height: 0.7, box: -1, state: "STATE_BLOCKED", counts: { total: "1", blocked: "1" } },
      { group: 5, label: "summary", kind: "summary", node: 105, firstNode: 105, lastNode: 105, size: 1, x: 3, y: 1, width: 0.74, height: 0.7, box: -1, state: "STATE_BLOCKED", counts: { total: "1", blocked: "1" } },
    ],
    edges: [
      { to: 1, on: 1, size: 1 }, { from: 1, to: 3, on: 1, size: 1 }, { from: 1, to: 4, on: 2, size: 1 },
      { from: 3, to: 5, on: 15, size: 1 }, { from: 4, to: 5, on: 15, size: 1 },
    ],
    groups: 6,
  };
}

/** A graph of cards in columns and rows, with edges by place. */
export function grid(places: [x: number, y: number][], edges: [number, number][]): Graph {
  return graphOf({
    cards: places.map(([x, y], i) => ({ group: i, label: `n${i}`, kind: "k", node: i + 1, firstNode: i + 1, lastNode: i + 1, size: 1, x, y, width: 0.74, height: 0.7, box: -1 })),
    edges: edges.map(([from, to]) => ({ from, to, on: 1, size: 1 })),
  });
}
