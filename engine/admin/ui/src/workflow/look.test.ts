import assert from "node:assert/strict";
import { test } from "node:test";
import { graphOf } from "./graph.ts";
import { allSucceeded, describe, endedOf, isOver, leading, lookOf, shares, subtitle } from "./look.ts";
import { campaign } from "./samples.ts";
import { tally } from "../state.ts";

const g = graphOf(campaign());
const [letter, emails, send] = [g.cards[0]!, g.cards[1]!, g.cards[2]!];

test("what happens now leads, then what went wrong", () => {
  assert.equal(leading(tally({ total: "9", succeeded: "5", failed: "1", running: "3" })), "running");
  assert.equal(leading(tally({ total: "9", succeeded: "8", retryable: "1" })), "retryable");
  assert.equal(leading(tally({ total: "9", succeeded: "8", failed: "1" })), "failed");
  assert.equal(leading(tally({ total: "9", succeeded: "8", skipped: "1" })), "succeeded");
  assert.equal(leading(tally({ total: "9", skipped: "9" })), "skipped");
  assert.equal(leading(tally({ total: "9", blocked: "9" })), "blocked");
  assert.equal(leading(tally({ total: "9", scheduled: "1", blocked: "8" })), "scheduled");
  assert.equal(leading(tally({})), "succeeded");
});

test("a card of one node has its state, a batch has its own beside that of its members", () => {
  assert.equal(lookOf(letter, { total: "1", succeeded: "1" }, "STATE_SUCCEEDED").state, "succeeded");
  const b = lookOf(emails, { total: "2", failed: "1", succeeded: "1" }, "STATE_SUCCEEDED");
  assert.deepEqual([b.state, b.own], ["succeeded", "succeeded"]);
  assert.equal(lookOf(send, { total: "2", failed: "1", succeeded: "1" }, "STATE_UNSPECIFIED").state, "failed");
});

test("second lines", () => {
  const line = (counts: object): string => subtitle(send, lookOf(send, counts, undefined));
  assert.equal(line({ total: "100", succeeded: "40", running: "60" }), "40 of 100");
  assert.equal(line({ total: "100", succeeded: "40", failed: "3", running: "57" }), "43 of 100 · 3 failed");
  assert.equal(line({ total: "100", succeeded: "100" }), "all 100 succeeded");
  assert.equal(line({ total: "100", succeeded: "97", failed: "3" }), "3 failed · 97 succeeded");
  assert.equal(subtitle(letter, lookOf(letter, { total: "1", running: "1" }, "STATE_RUNNING")), "running · render");
});

test("a card described in words", () => {
  const look = lookOf(send, { total: "100", succeeded: "40", running: "60" }, undefined);
  assert.equal(describe(send, look, ["letter"]), "send, 100 jobs: 40 succeeded, 60 running; after letter");
  assert.equal(describe(letter, lookOf(letter, { total: "1", failed: "1" }, "STATE_FAILED"), ["a", "b", "c", "d"]), "letter, job, kind render: failed; after a, b, c and 1 more");
});

test("over, and all succeeded", () => {
  const done = lookOf(send, { total: "2", succeeded: "2" }, undefined);
  assert.ok(allSucceeded(done) && isOver(done) && endedOf(done.counts) === 2);
  const tolerated = lookOf(emails, { total: "2", succeeded: "1", failed: "1" }, "STATE_SUCCEEDED");
  assert.ok(!allSucceeded(tolerated) && isOver(tolerated));
  assert.ok(!isOver(lookOf(send, { total: "2", succeeded: "1", blocked: "1" }, undefined)));
});

test("shares of a bar add up, in the order of bars", () => {
  const s = shares(tally({ total: "4", failed: "1", succeeded: "2", blocked: "1" }));
  assert.deepEqual(s.map((x) => x.state), ["succeeded", "blocked", "failed"]);
  assert.deepEqual([s[0]!.from, s[1]!.from, s[2]!.from, s[2]!.to], [0, 0.5, 0.75, 1]);
});
