import assert from "node:assert/strict";
import { test } from "node:test";
import { dotAt, mosaicOf, tile } from "./mosaic.ts";

const bytes = (...b: number[]): string => btoa(String.fromCharCode(...b));

test("members that follow each other", () => {
  const m = mosaicOf({ states: bytes(6, 6, 7), first: 3 });
  assert.deepEqual([...m.states], [6, 6, 7]);
  assert.deepEqual([m.node(0), m.node(2)], [3, 5]);
  assert.deepEqual([m.place(3), m.place(5), m.place(6), m.place(2)], [0, 2, -1, -1]);
});

test("members with gaps between them", () => {
  const m = mosaicOf({ states: bytes(6, 4, 1, 1), first: 10, gaps: [2, 1, 7], leftOut: 5 });
  assert.deepEqual([0, 1, 2, 3].map(m.node), [10, 12, 13, 20]);
  assert.deepEqual([10, 12, 13, 20, 11, 21].map(m.place), [0, 1, 2, 3, -1, -1]);
  assert.equal(m.leftOut, 5);
});

test("an empty card", () => {
  const m = mosaicOf({});
  assert.equal(m.states.length, 0);
  assert.equal(m.place(1), -1);
});

test("all dots have room, as large as it allows", () => {
  for (const n of [1, 31, 100, 999, 5000, 100_000, 200_000]) {
    const t = tile(n, 600, 360);
    assert.ok(t.columns * t.rows >= n, `${n} dots in ${t.columns} × ${t.rows}`);
    assert.ok(t.columns * t.cell <= 600.001 && t.h <= 361, `${n}: ${t.columns * t.cell} × ${t.h}`);
    assert.ok(t.cell <= 14);
    assert.equal(dotAt(t, n, (((n - 1) % t.columns) + 0.5) * t.cell, (Math.floor((n - 1) / t.columns) + 0.5) * t.cell), n - 1);
  }
});

test("beside the dots there is none", () => {
  const t = tile(5, 600, 360);
  assert.equal(dotAt(t, 5, 5.5 * t.cell, 1), -1);
  assert.equal(dotAt(t, 5, -1, 1), -1);
  assert.equal(dotAt(t, 5, 599, 1), -1);
});
