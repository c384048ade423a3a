import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { draw, settle } from "./page.ts";

interface Row { id: string; state: string }
const id = (r: Row): string => r.id;
const rows = (...texts: string[]): Row[] => texts.map((t) => ({ id: t[0]!, state: t.slice(1) }));

test("rows stay in their places, change there, and are kept when they leave the list", () => {
  const first = draw(rows("c1", "b1", "a1"), id);
  const then = settle(first, rows("e1", "d1", "c2", "a1"), true, id);
  deepEqual(then.rows, [
    { row: { id: "c", state: "2" }, gone: false },
    { row: { id: "b", state: "1" }, gone: true },
    { row: { id: "a", state: "1" }, gone: false },
  ]);
  equal(then.fresh, 2);
  const back = settle(then.drawn, rows("b3"), false, id);
  deepEqual(back.rows.map((r) => [r.row.state, r.gone]), [["2", true], ["3", false], ["1", true]]);
  equal(back.fresh, 0);
});

test("rows that newer ones have pushed to the next page are not gone", () => {
  const first = draw(rows("d1", "c1", "b1", "a1"), id);
  deepEqual(settle(first, rows("f1", "e1", "d1", "b1"), true, id).rows.map((r) => r.gone), [false, true, false, false]);
  deepEqual(settle(first, rows("z1", "y1", "x1", "w1"), true, id).rows.map((r) => r.gone), [false, false, false, false]);
  deepEqual(settle(first, rows("f1", "e1", "d1", "b1"), false, id).rows.map((r) => r.gone), [false, true, false, true]);
});
