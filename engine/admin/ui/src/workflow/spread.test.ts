import assert from "node:assert/strict";
import { test } from "node:test";
import { graphOf, CARD_H, CARD_W, type Rect } from "./graph.ts";
import { campaign, grid } from "./samples.ts";
import { spread } from "./spread.ts";

const apart = (a: Rect, b: Rect): boolean => a.x + a.w <= b.x + 1e-6 || b.x + b.w <= a.x + 1e-6 || a.y + a.h <= b.y + 1e-6 || b.y + b.h <= a.y + 1e-6;

test("nothing moves while nothing is open", () => {
  const g = graphOf(campaign());
  assert.deepEqual(spread(g.cards, new Map()), g.cards.map(({ x, y, w, h }) => ({ x, y, w, h })));
});

test("an open card pushes what is right of it and below it, and its box grows", () => {
  const g = graphOf(campaign());
  const at = spread(g.cards, new Map([[2, { w: CARD_W + 100, h: CARD_H + 200 }]]));
  assert.equal(at[0]!.x, g.cards[0]!.x);
  assert.equal(at[3]!.x, g.cards[3]!.x + 100);
  assert.equal(at[3]!.y, g.cards[3]!.y); // above its lower edge
  assert.equal(at[4]!.y, g.cards[4]!.y);
  assert.deepEqual([at[1]!.w - g.cards[1]!.w, at[1]!.h - g.cards[1]!.h].map(Math.round), [100, 200]);
  assert.ok(at[2]!.x >= at[1]!.x && at[2]!.y + at[2]!.h <= at[1]!.y + at[1]!.h);
});

test("cards never come to overlap, however many are open", () => {
  const places: [number, number][] = [];
  for (let x = 0; x < 5; x++) for (let y = 0; y < 6; y++) places.push([x, y + (x % 3) * 0.4]);
  const g = grid(places, []);
  for (let seed = 1; seed < 200; seed++) {
    const open = new Map<number, { w: number; h: number }>();
    g.cards.forEach((c, i) => {
      if ((i * 7919 * seed) % 11 < 3) open.set(c.group, { w: CARD_W + ((i * seed) % 400), h: CARD_H + ((i * seed * 3) % 500) });
    });
    const at = spread(g.cards, open);
    at.forEach((a, i) => at.forEach((b, j) => assert.ok(i === j || apart(a, b), `seed ${seed}: ${i} and ${j} overlap`)));
  }
});
