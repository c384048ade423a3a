import assert from "node:assert/strict";
import { test } from "node:test";
import { bounds, condition, graphOf, lineageGraph, reach, walk, within, CARD_H, CARD_W, COLUMN, ROW } from "./graph.ts";
import { campaign, grid } from "./samples.ts";

const all = (): boolean => true;

test("an answer becomes cards with places in pixels", () => {
  const g = graphOf(campaign());
  const [letter, emails, send] = g.cards;
  assert.equal(letter!.x + CARD_W / 2, 0);
  assert.equal(letter!.y + CARD_H / 2, ROW);
  assert.equal(emails!.isBox, true);
  assert.ok(Math.abs(emails!.w - 0.86 * COLUMN) < 1e-9);
  assert.deepEqual([send!.w, send!.h, send!.box, send!.node, send!.size], [CARD_W, CARD_H, 1, 0, 100]);
  assert.deepEqual(g.inside[1], [2]);
  assert.deepEqual(g.out[1], [1, 2]);
  assert.ok(within(g, 2, 1) && !within(g, 1, 2));
});

test("a card whose extent the engine does not know has that of others", () => {
  const g = graphOf({ cards: [{ label: "appended", node: 7, firstNode: 7, lastNode: 7, size: 1, x: 0, y: 2, width: 1, height: 1, box: -1 }] });
  assert.deepEqual([g.cards[0]!.w, g.cards[0]!.h], [CARD_W, CARD_H]);
});

test("reach follows edges and goes through boxes", () => {
  const g = graphOf(campaign());
  assert.deepEqual([...reach(g, 0, "down")].sort(), [1, 2, 3, 4, 5]);
  assert.deepEqual([...reach(g, 2, "up")].sort(), [0, 1]); // its box starts after the letter
  assert.deepEqual([...reach(g, 2, "down")].sort(), [1, 3, 4, 5]); // its box ends after it
  assert.deepEqual([...reach(g, 4, "up")].sort(), [0, 1, 2]);
  assert.deepEqual([...reach(g, 3, "down")], [5]);
});

test("arrows walk along edges, into boxes and along columns", () => {
  const g = graphOf(campaign());
  assert.equal(walk(g, 0, "ArrowRight", all), 1);
  assert.equal(walk(g, 1, "ArrowDown", all), 2);
  assert.equal(walk(g, 2, "ArrowLeft", all), 1);
  assert.equal(walk(g, 2, "ArrowRight", all), 3); // out of the box
  assert.equal(walk(g, 3, "ArrowDown", all), 4);
  assert.equal(walk(g, 4, "ArrowUp", all), 3);
  assert.equal(walk(g, 5, "ArrowRight", all), undefined);
  assert.equal(walk(g, 5, "ArrowLeft", (n) => n !== 3), 4); // what is hidden is passed by
});

test("arrows choose the nearest of several", () => {
  const g = grid([[0, 1], [1, 0], [1, 1], [1, 2]], [[0, 1], [0, 2], [0, 3]]);
  assert.equal(walk(g, 0, "ArrowRight", all), 2);
});

test("bounds hold everything", () => {
  assert.deepEqual(bounds([{ x: 1, y: 2, w: 3, h: 4 }, { x: -1, y: 5, w: 1, h: 9 }]), { x: -1, y: 2, w: 5, h: 12 });
});

test("conditions in a word", () => {
  assert.deepEqual([1, 2, 4, 7, 15, 6, 3].map(condition), ["", "failed", "cancelled", "finished", "always", "failed or cancelled", "succeeded or failed"]);
});

test("a lineage ties nodes by their numbers", () => {
  const g = lineageGraph({
    nodes: [{ node: 5, kind: "a", x: 0, y: 0 }, { node: 9, name: "b", x: 1, y: 0 }, { node: 2, isBatch: true, x: 1, y: 1 }],
    edges: [{ parent: 5, child: 9, on: 2 }, { parent: 2, child: 9 }, { parent: 5, child: 77, on: 1 }],
  });
  assert.deepEqual(g.cards.map((c) => c.label), ["a", "b", "batch 2"]);
  assert.deepEqual(g.edges, [{ from: 0, to: 1, on: 2, size: 1 }, { from: 2, to: 1, on: 0, size: 1 }]);
});
