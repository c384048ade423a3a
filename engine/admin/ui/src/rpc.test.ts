import { deepEqual, equal, rejects } from "node:assert/strict";
import { afterEach, test } from "node:test";
import { call, isAbort, onUnauthenticated, RpcError, stream } from "./rpc.ts";

const real = globalThis.fetch;
afterEach(() => {
  globalThis.fetch = real;
});

/** Answers every call with these pieces of a body. */
function serve(status: number, ...pieces: (string | Uint8Array)[]): { url: string; body: unknown }[] {
  const seen: { url: string; body: unknown }[] = [];
  globalThis.fetch = (url, init) => {
    seen.push({ url: String(url), body: init?.body });
    const encoder = new TextEncoder();
    const body = new ReadableStream({
      start(c) {
        for (const p of pieces) c.enqueue(typeof p === "string" ? encoder.encode(p) : p);
        c.close();
      },
    });
    return Promise.resolve(new Response(body, { status }));
  };
  return seen;
}

function envelope(flags: number, value: unknown): Uint8Array {
  const content = new TextEncoder().encode(JSON.stringify(value));
  const out = new Uint8Array(5 + content.length);
  out[0] = flags;
  new DataView(out.buffer).setUint32(1, content.length);
  out.set(content, 5);
  return out;
}

function cut(b: Uint8Array, size: number): Uint8Array[] {
  const out: Uint8Array[] = [];
  for (let i = 0; i < b.length; i += size) out.push(b.slice(i, i + size));
  return out;
}

async function all(signal = new AbortController().signal): Promise<unknown[]> {
  const out: unknown[] = [];
  for await (const m of stream("LiveService/Watch", { view: {} }, signal)) out.push(m);
  return out;
}

test("a call posts JSON and gives the answer", async () => {
  const seen = serve(200, '{"job": {"id"', ': "x/1"}}');
  deepEqual(await call("JobService/Get", { id: "x/1" }), { job: { id: "x/1" } });
  deepEqual(seen, [{ url: "/heddle.v1.JobService/Get", body: '{"id":"x/1"}' }]);
});

test("a refusal has the code and the words of the engine", async () => {
  serve(404, '{"code":"not_found","message":"job x: not found"}');
  await rejects(call("JobService/Get", { id: "x" }), (e: RpcError) => e.code === "not_found" && e.message === "job x: not found");
  serve(502, "<html>bad gateway</html>");
  await rejects(call("JobService/Get", { id: "x" }), (e: RpcError) => e.code === "unavailable");
  globalThis.fetch = () => Promise.reject(new TypeError("failed to fetch"));
  await rejects(call("JobService/Get", { id: "x" }), (e: RpcError) => e.code === "offline");
  globalThis.fetch = () => Promise.reject(new DOMException("", "AbortError"));
  await rejects(call("JobService/Get", { id: "x" }), isAbort);
});

test("a missing login is told", async () => {
  let told = 0;
  onUnauthenticated(() => told++);
  serve(401, '{"code":"unauthenticated","message":"a token is needed"}');
  await rejects(call("QueueService/List", {}));
  equal(told, 1);
  onUnauthenticated(() => {});
});

test("messages of a stream are put together from any pieces", async () => {
  const messages = [{ sight: { cursor: "1" } }, { sight: { cursor: "2", health: { node: "nöde" } } }];
  const bytes = [envelope(0, messages[0]), envelope(0, messages[1]), envelope(2, {})].map((e) => [...e]).flat();
  for (const size of [1, 3, 7, 1000]) {
    serve(200, ...cut(new Uint8Array(bytes), size));
    deepEqual(await all(), messages);
  }
});

test("a stream ends with its error, or is known to be cut off", async () => {
  serve(200, envelope(0, {}), envelope(2, { error: { code: "unavailable", message: "stopping" } }));
  await rejects(all(), (e: RpcError) => e.code === "unavailable" && e.message === "stopping");
  serve(200, envelope(0, {}));
  await rejects(all(), (e: RpcError) => e.code === "offline");
});
