import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { parseJson } from "./json.tsx";

test("numbers stay what they were", () => {
  deepEqual(parseJson(' {"a": [12345678901234567890, -1.50e3], "b\\"": "x\\u0020"} '), {
    t: "object",
    items: [
      ['"a"', { t: "array", items: [{ t: "number", text: "12345678901234567890" }, { t: "number", text: "-1.50e3" }] }],
      ['"b\\""', { t: "string", text: '"x\\u0020"' }],
    ],
  });
});

test("what is no JSON is refused", () => {
  for (const bad of ["", "{", "[1,]", '{"a" 1}', "truth", "1 2", '{a: 1}', '["x]']) equal(parseJson(bad), undefined, bad);
});

test("empty things", () => {
  deepEqual(parseJson("[]"), { t: "array", items: [] });
  deepEqual(parseJson(" { } "), { t: "object", items: [] });
  deepEqual(parseJson("null"), { t: "word", text: "null" });
});
