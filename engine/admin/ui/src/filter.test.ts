import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { filterOf, parseTokens, readTime, writeTokens } from "./filter.ts";

const id = "0199a0b0-0000-7000-8000-000000000001";

test("tokens are read and written back", () => {
  const tokens = parseTokens(`kind:mail.send error:"no \\"such\\" user" ${id} ${id}/7 plain other:thing`);
  deepEqual(tokens, [
    { name: "kind", value: "mail.send" },
    { name: "error", value: 'no "such" user' },
    { name: "workflow", value: id },
    { name: "id", value: `${id}/7` },
    { name: "kind", value: "plain" },
    { name: "kind", value: "other:thing" },
  ]);
  deepEqual(parseTokens(writeTokens(tokens)), tokens);
});

test("a filter holds what the tokens say", () => {
  deepEqual(filterOf(parseTokens(`queue:bulk workflow:${id} batch:3`), ["STATE_FAILED"], 0), {
    states: ["STATE_FAILED"], queue: "bulk", workflowId: id, batch: 3,
  });
});

test("what cannot be understood is named", () => {
  equal(filterOf(parseTokens("batch:3"), [], 0), "batch: needs workflow: beside it");
  equal(filterOf(parseTokens("workflow:x"), [], 0), "workflow: x is no id of a workflow");
  equal(typeof filterOf(parseTokens("from:yesterday"), [], 0), "string");
});

test("times are ages or dates", () => {
  equal(readTime("2h", 10_000_000), 2_800_000);
  equal(readTime("2026-11-20", 0), new Date(2026, 10, 20).getTime());
  equal(readTime("soon", 0), undefined);
});
