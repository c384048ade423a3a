import assert from "node:assert/strict";
import { test } from "node:test";
import { Pacer } from "./rate.ts";

test("the pace of the last half minute and the time left", () => {
  const p = new Pacer();
  assert.equal(p.note("w", { total: "1000", succeeded: "100" }, 0), undefined);
  assert.equal(p.note("w", { total: "1000", succeeded: "110" }, 1000), undefined); // too short to tell
  const pace = p.note("w", { total: "1000", succeeded: "190", failed: "10" }, 10_000)!;
  assert.equal(pace.rate, 10);
  assert.equal(pace.left, 80_000);
  let last = pace;
  for (let t = 20_000; t <= 100_000; t += 2000) last = p.note("w", { total: "1000", succeeded: String(200 + (t - 10_000) / 1000) }, t)!;
  assert.ok(Math.abs(last.rate - 1) < 0.05, `old samples are forgotten: ${last.rate}`);
});

test("nothing ended: no pace; a retry or another workflow begins anew", () => {
  const p = new Pacer();
  p.note("w", { total: "10", succeeded: "5" }, 0);
  assert.equal(p.note("w", { total: "10", succeeded: "5" }, 20_000), undefined);
  p.note("w", { total: "10", succeeded: "8" }, 21_000);
  assert.equal(p.note("w", { total: "10", succeeded: "4" }, 30_000), undefined);
  assert.equal(p.note("v", { total: "10", succeeded: "9" }, 40_000), undefined);
  assert.equal(p.note("v", { total: "10", succeeded: "10" }, 42_000)!.left, undefined);
});
