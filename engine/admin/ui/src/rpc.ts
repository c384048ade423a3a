// Calls of the engine's Connect services: JSON over fetch, server streams in
// Connect's envelopes.
import type { Methods } from "./gen/api.ts";

export type Method = keyof Methods;
export type Unary = { [M in Method]: Methods[M]["stream"] extends false ? M : never }[Method];
export type Stream = { [M in Method]: Methods[M]["stream"] extends true ? M : never }[Method];
export type Request<M extends Method> = Methods[M]["request"];
export type Response<M extends Method> = Methods[M]["response"];

/** Code of a Connect error, or "offline" when no engine answered. */
export type Code =
  | "canceled" | "unknown" | "invalid_argument" | "deadline_exceeded" | "not_found" | "already_exists"
  | "permission_denied" | "resource_exhausted" | "failed_precondition" | "aborted" | "out_of_range"
  | "unimplemented" | "internal" | "unavailable" | "data_loss" | "unauthenticated" | "offline";

export class RpcError extends Error {
  readonly code: Code;
  constructor(code: Code, message: string) {
    super(message);
    this.name = "RpcError";
    this.code = code;
  }
}

/** Where the page is mounted, with a slash at its end: index.html says it. */
export const base = typeof document === "undefined" ? "/" : new URL(".", document.baseURI).pathname;

let unauthenticated = (): void => {};

/** Sets what happens when the engine asks for a login. */
export function onUnauthenticated(f: () => void): void {
  unauthenticated = f;
}

/** Whether an error only says that the caller itself gave up. */
export function isAbort(e: unknown): boolean {
  return e instanceof DOMException && e.name === "AbortError";
}

/** What to tell a person about an error. */
export function explain(e: unknown): string {
  return e instanceof Error ? e.message : String(e);
}

/** Calls a method, for example call("JobService/Get", { id }). */
export async function call<M extends Unary>(method: M, request: Request<M>, signal?: AbortSignal): Promise<Response<M>> {
  const answer = await post(method, "application/json", JSON.stringify(request), signal);
  const text = await body(answer, signal);
  if (!answer.ok) throw refusal(answer.status, text);
  try {
    return JSON.parse(text) as Response<M>;
  } catch {
    throw new RpcError("unknown", `${method} answered with something that is no JSON`);
  }
}

/** Calls a method that streams its answers. The stream ends when the loop over it ends. */
export async function* stream<M extends Stream>(method: M, request: Request<M>, signal: AbortSignal): AsyncGenerator<Response<M>> {
  const answer = await post(method, "application/connect+json", envelope(JSON.stringify(request)), signal);
  if (!answer.ok || !answer.body) throw refusal(answer.status, await body(answer, signal));
  const reader = answer.body.getReader();
  let held = new Uint8Array(0);
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((e: unknown) => {
        throw isAbort(e) || signal.aborted ? e : new RpcError("offline", "the connection broke");
      });
      if (done) throw new RpcError("offline", "the stream was cut off");
      held = joined(held, value);
      for (let size = frame(held); size !== undefined; size = frame(held)) {
        const flags = held[0]!;
        const text = new TextDecoder().decode(held.subarray(5, size));
        held = held.slice(size);
        if ((flags & 2) === 0) {
          yield JSON.parse(text) as Response<M>;
          continue;
        }
        const end = JSON.parse(text) as { error?: { code: Code; message?: string } };
        if (end.error) throw failed(end.error.code, end.error.message);
        return;
      }
    }
  } finally {
    await reader.cancel().catch(() => {}); // it may have ended by itself
  }
}

function post(method: Method, type: string, content: BodyInit, signal?: AbortSignal): Promise<globalThis.Response> {
  return fetch(`${base}heddle.v1.${method}`, {
    method: "POST",
    headers: { "content-type": type, "connect-protocol-version": "1" },
    body: content,
    credentials: "same-origin",
    cache: "no-store",
    signal: signal ?? null,
  }).catch((e: unknown) => {
    throw isAbort(e) ? e : new RpcError("offline", "the engine does not answer");
  });
}

function body(answer: globalThis.Response, signal?: AbortSignal): Promise<string> {
  return answer.text().catch((e: unknown) => {
    throw isAbort(e) || signal?.aborted ? e : new RpcError("offline", "the connection broke");
  });
}

function refusal(status: number, text: string): RpcError {
  try {
    const e = JSON.parse(text) as { code?: Code; message?: string };
    if (e.code) return failed(e.code, e.message);
  } catch {
    // not from the engine: a proxy, for example
  }
  if (status === 401) return failed("unauthenticated", "a login is needed");
  if (status === 403) return failed("permission_denied", "the engine refused this call");
  return new RpcError("unavailable", `the answer was HTTP ${status}`);
}

function failed(code: Code, message?: string): RpcError {
  if (code === "unauthenticated") unauthenticated();
  return new RpcError(code, message || code.replaceAll("_", " "));
}

function envelope(text: string): Uint8Array<ArrayBuffer> {
  const content = new TextEncoder().encode(text);
  const out = new Uint8Array(5 + content.length);
  new DataView(out.buffer).setUint32(1, content.length);
  out.set(content, 5);
  return out;
}

/** Length of the first envelope, undefined if it has not arrived whole. */
function frame(b: Uint8Array): number | undefined {
  if (b.length < 5) return undefined;
  const size = 5 + new DataView(b.buffer, b.byteOffset).getUint32(1);
  return b.length < size ? undefined : size;
}

function joined(a: Uint8Array<ArrayBuffer>, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}
