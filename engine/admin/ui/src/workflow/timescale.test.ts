import assert from "node:assert/strict";
import { test } from "node:test";
import { offset, panTime, ticks, timeAt, xOf, zoomTime } from "./timescale.ts";

const all = { from: 1_000_000, to: 1_060_000 };
const scale = { ...all, width: 600 };

test("pixels and times", () => {
  assert.equal(xOf(scale, 1_030_000), 300);
  assert.equal(timeAt(scale, 300), 1_030_000);
});

test("zooming keeps the time under the pointer, and stays in all there is", () => {
  const z = zoomTime(scale, 3, 150, all);
  assert.ok(Math.abs(timeAt(z, 150) - timeAt(scale, 150)) < 1e-6);
  assert.equal(z.to - z.from, 20_000);
  const back = zoomTime(z, 0.01, 10, all);
  assert.deepEqual([back.from, back.to], [all.from, all.to]);
  const corner = zoomTime({ ...scale, from: 1_000_000, to: 1_020_000 }, 0.5, 600, all);
  assert.ok(corner.from >= all.from && corner.to <= all.to);
});

test("zooming ends at a tenth of a millisecond per pixel", () => {
  assert.equal(zoomTime(scale, 1e12, 0, all).to - all.from, 60);
});

test("panning ends at the ends", () => {
  const z = { from: 1_010_000, to: 1_020_000, width: 600 };
  assert.equal(panTime(z, 60, all).from, 1_011_000);
  assert.equal(panTime(z, -1e6, all).from, all.from);
  assert.equal(panTime(z, 1e6, all).to, all.to);
});

test("ticks are round times since the start, not too close", () => {
  const t = ticks(scale, all.from);
  assert.deepEqual(t.map((x) => x.text), ["0", "+15 s", "+30 s", "+45 s", "+1:00"]);
  for (const width of [100, 600, 3000]) {
    for (const span of [1, 50, 3000, 60_000, 9e6, 5e8]) {
      const s = { from: 7, to: 7 + span, width };
      const list = ticks(s, 7);
      for (let i = 1; i < list.length; i++) assert.ok(xOf(s, list[i]!.at) - xOf(s, list[i - 1]!.at) >= 109);
    }
  }
});

test("time since the start in words", () => {
  assert.deepEqual([
    offset(0, 10), offset(350, 50), offset(2500, 500), offset(65_000, 5000), offset(65_500, 500), offset(7_200_000, 3_600_000), offset(277_200_000, 3_600_000), offset(-2000, 1000),
  ], ["0", "+350 ms", "+2.5 s", "+1:05", "+1:05.5", "+2:00:00", "+3 d 5 h", "−2 s"]);
});
