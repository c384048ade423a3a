import { equal } from "node:assert/strict";
import { test } from "node:test";
import { duration, millis, number, relative, short } from "./format.ts";

test("durations have at most two units", () => {
  for (const [ms, want] of [
    [0, "0 ms"], [0.25, "0.3 ms"], [350, "350 ms"], [999.7, "1.0 s"], [1234, "1.2 s"], [9960, "10 s"], [59_700, "1 m"], [200_000, "3 m 20 s"],
    [3_600_000, "1 h"], [7_530_000, "2 h 5 m"], [187_200_000, "2 d 4 h"], [-1500, "−1.5 s"],
  ] as const) equal(duration(ms), want);
});

test("large counts stay exact", () => {
  equal(number("9007199254740993"), "9,007,199,254,740,993");
  equal(short(12_431), "12.4K");
});

test("times of nine decimals are understood", () => {
  equal(millis("2026-11-20T15:57:00.123456789Z"), Date.UTC(2026, 10, 20, 15, 57, 0, 123));
  equal(millis(undefined), undefined);
});

test("ages", () => {
  equal(relative(0, 500), "now");
  equal(relative(0, 65_000), "1 m ago");
  equal(relative(65_000, 0), "in 1 m");
});
