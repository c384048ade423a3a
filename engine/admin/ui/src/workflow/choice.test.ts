import assert from "node:assert/strict";
import { test } from "node:test";
import { cardOf, choiceOf, parseChoice, writeChoice } from "./choice.ts";
import { graphOf } from "./graph.ts";
import { campaign } from "./samples.ts";

const g = graphOf(campaign());

test("choices as the address has them", () => {
  for (const text of ["12", "c5", "c5.12"]) assert.equal(writeChoice(parseChoice(text)), text);
  for (const text of ["", "c", "x1", "1.2", "c5.", "-3"]) assert.equal(parseChoice(text), undefined);
});

test("the card of a choice", () => {
  assert.equal(cardOf(g, { node: 1 })?.label, "letter");
  assert.equal(cardOf(g, { node: 2 })?.label, "emails");
  assert.equal(cardOf(g, { node: 50 })?.label, "send"); // the only card around that number
  assert.equal(cardOf(g, { card: 3 })?.label, "send");
  assert.equal(cardOf(g, { card: 3, node: 50 })?.label, "send");
  assert.equal(cardOf(g, { node: 999 }), undefined);
  assert.equal(cardOf(g, undefined), undefined);
});

test("a card as a choice: its node, or its first", () => {
  assert.deepEqual(choiceOf(g.cards[0]!), { node: 1 });
  assert.deepEqual(choiceOf(g.cards[2]!), { card: 3 });
});
