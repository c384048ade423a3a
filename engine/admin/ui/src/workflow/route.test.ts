import assert from "node:assert/strict";
import { test } from "node:test";
import { graphOf, type Graph, type Rect } from "./graph.ts";
import { markAt, pathOf, routes, wayBounds, type Level } from "./route.ts";
import { campaign, grid } from "./samples.ts";

/** Cards that a level of a way crosses. */
function crossed(g: Graph, at: readonly Rect[], way: readonly Level[]): number[] {
  const out: number[] = [];
  g.cards.forEach((c, i) => {
    if (c.isBox) return;
    for (const l of way.slice(1, -1)) {
      if (l.from < at[i]!.x + at[i]!.w && l.to > at[i]!.x && l.y > at[i]!.y && l.y < at[i]!.y + at[i]!.h) out.push(i);
    }
  });
  return out;
}

test("an edge between neighbouring columns is one stretch", () => {
  const g = grid([[0, 0], [1, 0], [1, 1]], [[0, 1], [0, 2]]);
  const [straight, down] = routes(g, g.cards);
  assert.equal(straight!.length, 2);
  assert.match(pathOf(straight!), /^M[-\d.]+ [-\d.]+H[-\d.]+$/);
  assert.match(pathOf(down!), /C/);
  assert.match(pathOf(down!, true), /^M.*C/, "short ways stay curves in a fan");
});

test("far ways of a fan go upright", () => {
  const g = grid([[0, 0], [1, 5]], [[0, 1]]);
  assert.match(pathOf(routes(g, g.cards)[0]!, true), /Q.*V.*Q/);
});

test("a long edge passes between the cards", () => {
  const g = grid([[0, 1], [1, 0], [1, 1], [1, 2], [2, 0.5], [2, 1.5], [3, 1]], [[0, 6], [0, 2], [2, 5], [5, 6]]);
  const ways = routes(g, g.cards);
  ways.forEach((w) => assert.deepEqual(crossed(g, g.cards, w), []));
  assert.ok(ways[0]!.length >= 3);
  assert.ok(Math.abs(ways[0]![1]!.y - g.cards[0]!.y) < 200, "and does not go far out of its way");
});

test("no way crosses a card, whatever the graph", () => {
  for (let seed = 1; seed <= 60; seed++) {
    let s = seed * 2654435761 >>> 0;
    const next = (n: number): number => {
      s = (s * 1664525 + 1013904223) >>> 0;
      return s % n;
    };
    const places: [number, number][] = [];
    for (let x = 0; x < 6; x++) for (let y = 0; y < 1 + next(7); y++) places.push([x, y * (1 + next(2)) + next(3) * 0]);
    const unique = [...new Map(places.map((p) => [p.join(), p])).values()];
    const edges: [number, number][] = [];
    unique.forEach((a, i) => unique.forEach((b, j) => { if (a[0] < b[0] && next(5) === 0) edges.push([i, j]); }));
    const g = grid(unique, edges);
    routes(g, g.cards).forEach((w, i) => assert.deepEqual(crossed(g, g.cards, w), [], `seed ${seed}, edge ${i}`));
  }
});

test("an edge goes around a box it has nothing to do with, and stays in its own", () => {
  const answer = campaign();
  answer.cards!.push({ group: 6, label: "other", isBatch: true, node: 200, firstNode: 200, lastNode: 200, size: 1, x: 1.5, y: 3, width: 1.86, height: 1.2, box: -1 });
  answer.cards!.push({ group: 7, label: "a", node: 201, firstNode: 201, lastNode: 201, size: 1, x: 1, y: 3.1, width: 0.74, height: 0.7, box: 6 });
  answer.cards!.push({ group: 8, label: "b", node: 202, firstNode: 202, lastNode: 202, size: 1, x: 2, y: 3.1, width: 0.74, height: 0.7, box: 6 });
  answer.cards!.push({ group: 9, label: "low", node: 203, firstNode: 203, lastNode: 203, size: 1, x: 0, y: 3, width: 0.74, height: 0.7, box: -1 });
  answer.cards!.push({ group: 10, label: "far", node: 204, firstNode: 204, lastNode: 204, size: 1, x: 3, y: 3, width: 0.74, height: 0.7, box: -1 });
  answer.edges!.push({ from: 9, to: 10, on: 1, size: 1 }, { from: 7, to: 8, on: 1, size: 1 });
  const g = graphOf(answer);
  const ways = routes(g, g.cards);
  const box = g.cards[6]!;
  for (const l of ways[5]!.slice(1, -1)) assert.ok(l.y < box.y || l.y > box.y + box.h, "around");
  for (const l of ways[6]!) assert.ok(l.y > box.y && l.y < box.y + box.h, "inside");
});

test("marks stand on the way, and its bounds hold it", () => {
  const g = grid([[0, 0], [1, 1]], [[0, 1]]);
  const [way] = routes(g, g.cards);
  const b = wayBounds(way!);
  const m = markAt(way!);
  assert.ok(m.x > b.x && m.x < b.x + b.w && m.y > b.y && m.y < b.y + b.h);
});
