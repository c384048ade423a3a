import { deepEqual } from "node:assert/strict";
import { test } from "node:test";
import { stretches } from "./attempts.ts";

const at = (s: number): string => new Date(s * 1000).toISOString();
const brief = (j: Parameters<typeof stretches>[0]): unknown[] => stretches(j).map((s) => [s.what, s.from / 1000, s.to === undefined ? undefined : s.to / 1000]);

test("a job that succeeded at the second try", () => {
  deepEqual(brief({
    state: "STATE_SUCCEEDED", createdAt: at(0), startedAt: at(10), finishedAt: at(12), attempt: 2,
    attempts: [{ attempt: 1, how: "failed", startedAt: at(1), finishedAt: at(3) }],
  }), [["Waited to start", 0, 1], ["Attempt 1 failed", 1, 3], ["Waited for the next attempt", 3, 10], ["Attempt 2 succeeded", 10, 12]]);
});

test("a job that waits for its next try", () => {
  deepEqual(brief({ state: "STATE_RETRYABLE", createdAt: at(0), startedAt: at(0), attempt: 1, attempts: [{ attempt: 1, how: "lost", startedAt: at(0), finishedAt: at(2) }] }),
    [["Attempt 1 lost", 0, 2], ["Waits for the next attempt", 2, undefined]]);
});

test("the last failure is told once", () => {
  deepEqual(brief({ state: "STATE_FAILED", createdAt: at(0), startedAt: at(1), finishedAt: at(2), attempt: 1, attempts: [{ attempt: 1, how: "failed", startedAt: at(1), finishedAt: at(2) }] }),
    [["Waited to start", 0, 1], ["Attempt 1 failed", 1, 2]]);
});

test("what never ran", () => {
  deepEqual(brief({ state: "STATE_BLOCKED", createdAt: at(0) }), [["Waits for what comes before it", 0, undefined]]);
  deepEqual(brief({ state: "STATE_SKIPPED", createdAt: at(0), finishedAt: at(5) }), [["Waited", 0, 5]]);
});
