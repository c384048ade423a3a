import assert from "node:assert/strict";
import { test } from "node:test";
import { graphOf } from "./graph.ts";
import { campaign } from "./samples.ts";
import { order, rowAt, rowsOf, JOB_H, ROW_H } from "./timerows.ts";

const g = graphOf(campaign());
const at = (s: number): string => new Date(1_800_000_000_000 + s * 1000).toISOString();

test("boxes stand before what is in them", () => {
  assert.deepEqual(order(g).map(({ group, depth }) => `${"-".repeat(depth)}${g.cards[group]!.label}`), ["letter", "emails", "-send", "finish", "refused", "summary"]);
});

test("rows of cards and of the jobs of open ones", () => {
  const rows = rowsOf(g, [
    { firstStart: at(0), lastEnd: at(1), running: [1, 0, 0], failed: [], jobs: 1 },
    { group: 2, firstStart: at(2), lastEnd: at(5), running: [0, 9, 4], failed: [0, 0, 1], jobs: 100 },
  ], new Map([[2, [{ node: 3, kind: "send", state: "STATE_FAILED" as const, spans: [
    { from: at(1), to: at(2), what: "waiting" }, { from: at(2), to: at(3), what: "attempt", how: "timeout", worker: "w1" }, { from: at(3), to: at(4), what: "delayed" }, { from: at(4), what: "attempt", how: "running" },
  ] }]]]));
  assert.deepEqual(rows.map((r) => r.key), ["c1", "c2b", "c3", "n3", "c103", "c104", "c105"]);
  const [letter, emails, send, job] = rows;
  assert.deepEqual([letter!.top, emails!.top, send!.top, job!.top, rows[4]!.top], [0, ROW_H, 2 * ROW_H, 3 * ROW_H, 3 * ROW_H + JOB_H]);
  assert.deepEqual([emails!.from, emails!.to], [send!.from, send!.to], "a box spans what is in it");
  assert.equal(send!.most, 9);
  assert.deepEqual(job!.pieces.map((p) => [p.what, p.state]), [["waiting", "available"], ["attempt", "failed"], ["delayed", "scheduled"], ["attempt", "running"]]);
  assert.equal(job!.pieces[3]!.to, undefined);
  assert.equal(rows[4]!.from, undefined);
});

test("the row at a height", () => {
  const rows = rowsOf(g, [], new Map());
  assert.equal(rowAt(rows, 0), 0);
  assert.equal(rowAt(rows, ROW_H), 1);
  assert.equal(rowAt(rows, 6 * ROW_H - 1), 5);
  assert.equal(rowAt(rows, 6 * ROW_H), -1);
  assert.equal(rowAt([], 3), -1);
});
