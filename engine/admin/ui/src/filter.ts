// The search line of the jobs: tokens such as kind:mail.send, a word or "words
// in quotes" behind each.
import type { JobFilter, State } from "./gen/api.ts";
import { stateOf } from "./state.ts";

export const tokenNames = ["kind", "queue", "name", "id", "workflow", "batch", "error", "tag", "from", "to", "like"] as const;
export type TokenName = (typeof tokenNames)[number];

export interface Token {
  name: TokenName;
  value: string;
}

/** What each token means, for those who have not met it. */
export const tokenHelp: Record<TokenName, string> = {
  kind: "kind of the job, in full",
  queue: "its queue",
  name: "its name in the workflow",
  id: "one job: workflow id/node",
  workflow: "id of its workflow",
  batch: "number of its batch; needs workflow:",
  error: "words of the error",
  tag: "one of its tags",
  from: "created since: 2h, 3d, 2026-11-20, 2026-11-20T14:00",
  to: "created before: the same",
  like: "error with … for what differs, as failures are grouped",
};

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Reads a search line. A word without a name is an id if it looks like one, else a kind. */
export function parseTokens(text: string): Token[] {
  const out: Token[] = [];
  for (const m of text.matchAll(/(?:([a-z]+):)?(?:"((?:[^"\\]|\\.)*)"|(\S+))/g)) {
    const value = m[2] !== undefined ? m[2].replace(/\\(.)/g, "$1") : m[3]!;
    const name = m[1] as TokenName | undefined;
    if (name && tokenNames.includes(name)) out.push({ name, value });
    else {
      const word = name ? `${name}:${value}` : value;
      const [workflow, node] = word.split("/");
      out.push({ name: uuid.test(workflow!) ? (node ? "id" : "workflow") : "kind", value: word });
    }
  }
  return out;
}

/** The search line of tokens. */
export function writeTokens(tokens: Token[]): string {
  return tokens.map((t) => `${t.name}:${/^[^\s"\\]+$/.test(t.value) ? t.value : `"${t.value.replace(/["\\]/g, "\\$&")}"`}`).join(" ");
}

/** Tokens with one put in the place of those of its name. */
export function withToken(tokens: Token[], t: Token): Token[] {
  return [...tokens.filter((o) => o.name !== t.name), t];
}

/** The filter of the API; a string says which token cannot be understood. */
export function filterOf(tokens: Token[], states: State[], now: number): JobFilter | string {
  const f: JobFilter = {};
  if (states.length > 0) f.states = states;
  for (const { name, value } of tokens) {
    switch (name) {
      case "kind": f.kind = value; break;
      case "queue": f.queue = value; break;
      case "name": f.name = value; break;
      case "workflow": {
        if (!uuid.test(value)) return `workflow: ${value} is no id of a workflow`;
        f.workflowId = value;
        break;
      }
      case "error": f.error = value; break;
      case "tag": f.tag = value; break;
      case "like": f.errorGroup = value; break;
      case "batch": {
        if (!/^\d+$/.test(value)) return `batch: ${value} is no number of a batch`;
        f.batch = Number(value);
        break;
      }
      case "from":
      case "to": {
        const at = readTime(value, now);
        if (at === undefined) return `${name}: ${value} is no time; write 2h, 3d or 2026-11-20T14:00`;
        f[name] = new Date(at).toISOString();
        break;
      }
      case "id": break; // the page goes there
    }
  }
  if (f.batch !== undefined && !f.workflowId) return "batch: needs workflow: beside it";
  return f;
}

/** A time as people write it: how long ago, or a date, in the time zone here. */
export function readTime(text: string, now: number): number | undefined {
  const ago = /^(\d+)(s|m|h|d)$/.exec(text);
  if (ago) return now - Number(ago[1]) * { s: 1e3, m: 6e4, h: 36e5, d: 864e5 }[ago[2] as "s"]!;
  if (!/^\d{4}-\d\d-\d\d/.test(text)) return undefined;
  const at = Date.parse(text.length === 10 ? `${text}T00:00` : text);
  return Number.isNaN(at) ? undefined : at;
}

/** States named in the address, "failed,cancelled". */
export function statesOf(text: string): State[] {
  return text.split(",").map(stateOf).filter((s): s is State => s !== undefined);
}
