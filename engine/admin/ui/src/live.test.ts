import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { mergeWorkflow } from "./live.ts";

const sight = (id: string, ...cards: [number, number][]) => ({
  workflow: { workflow: { id }, cards: cards.map(([group, n]) => ({ group, counts: { total: String(n) } })), graphVersion: 3 },
});

test("cards that did not change keep their counts", () => {
  const view = { workflowId: "a", maxCards: 400 };
  const first = mergeWorkflow(undefined, view, sight("a", [0, 1], [1, 2]))!;
  const then = mergeWorkflow(first, view, sight("a", [1, 5]))!;
  deepEqual([...then.cards].map(([g, c]) => [g, c.counts?.total]), [[0, "1"], [1, "5"]]);
  deepEqual(then.changed.map((c) => c.group), [1]);
  equal(first.cards.get(1)?.counts?.total, "2", "what was handed out is not changed");
});

test("other cards or another workflow begin anew", () => {
  const first = mergeWorkflow(undefined, { workflowId: "a", maxCards: 400 }, sight("a", [0, 1]))!;
  equal(mergeWorkflow(first, { workflowId: "a", maxCards: 100 }, sight("a", [7, 1]))!.cards.size, 1);
  equal(mergeWorkflow(first, { workflowId: "b", maxCards: 400 }, sight("b", [7, 1]))!.cards.size, 1);
});

test("a message that comes late, of a workflow left behind, changes nothing", () => {
  equal(mergeWorkflow(undefined, { workflowId: "b" }, sight("a", [0, 1])), undefined);
});
