import type { ComponentChildren, JSX } from "preact";
import { bytes } from "../format.ts";

// A parser of its own, because JSON.parse rounds large numbers: numbers stay
// the text that they are.
export type Json = { t: "word" | "number" | "string"; text: string } | { t: "array"; items: Json[] } | { t: "object"; items: [string, Json][] };

/** Reads JSON; undefined if it is none. */
export function parseJson(text: string): Json | undefined {
  let at = 0;
  const space = (): void => { while (" \t\n\r".includes(text[at] ?? "x")) at++; };
  const literal = (re: RegExp): string | undefined => {
    re.lastIndex = at;
    const m = re.exec(text);
    if (m) at += m[0].length;
    return m?.[0];
  };
  const list = <T,>(close: string, item: () => T | undefined): T[] | undefined => {
    const items: T[] = [];
    at++;
    space();
    if (text[at] === close) return at++, items;
    for (;;) {
      const one = item();
      if (one === undefined) return undefined;
      items.push(one);
      space();
      const c = text[at++];
      if (c === close) return items;
      if (c !== ",") return undefined;
    }
  };
  const value = (): Json | undefined => {
    space();
    const c = text[at];
    if (c === "{") {
      const items = list("}", (): [string, Json] | undefined => {
        space();
        const key = literal(/"(?:[^"\\]|\\.)*"/y);
        space();
        if (key === undefined || text[at++] !== ":") return undefined;
        const v = value();
        return v && [key, v];
      });
      return items && { t: "object", items };
    }
    if (c === "[") {
      const items = list("]", value);
      return items && { t: "array", items };
    }
    const t = c === '"' ? "string" : c === "-" || (c !== undefined && c >= "0" && c <= "9") ? "number" : "word";
    const found = literal(t === "string" ? /"(?:[^"\\]|\\.)*"/y : t === "number" ? /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/y : /true|false|null/y);
    return found === undefined ? undefined : { t, text: found };
  };
  try {
    const v = value();
    space();
    return at === text.length ? v : undefined;
  } catch {
    return undefined; // nested deeper than the stack
  }
}

/** JSON as it is, large numbers exact, deep parts folded. Bytes that are no JSON are shown as text or counted. */
export function JsonView({ text, raw, label }: { text?: string | undefined; raw?: string | undefined; label: string }): JSX.Element {
  if (text) {
    const v = text.length <= 400_000 ? parseJson(text) : undefined;
    return <div class="json code wrap mono" tabIndex={0} role="group" aria-label={label}>{v ? <Value v={v} depth={0} /> : text.slice(0, 100_000)}</div>;
  }
  if (!raw) return <p class="muted">none</p>;
  const decoded = printable(raw);
  if (decoded !== undefined) return <pre class="code wrap" tabIndex={0} aria-label={label}>{decoded}</pre>;
  return <p class="muted">{bytes(Math.floor((raw.length * 3) / 4))} that are no text</p>;
}

/** A value with what stands before it (its key) and behind it (a comma), as lines. */
function Value({ v, name, comma, depth }: { v: Json; name?: string; comma?: boolean; depth: number }): JSX.Element {
  const before = name === undefined ? null : <><span class="key">{name}</span>: </>;
  const after = comma ? "," : "";
  const line = oneLine(v);
  if (line) return <div>{before}{line}{after}</div>;
  const { items, t } = v as { items: (Json | [string, Json])[]; t: "array" | "object" };
  const [open, close] = t === "array" ? "[]" : "{}";
  const shown = items.slice(0, 500);
  const inside = (
    <>
      <div class="in">
        {shown.map((item, i) => (Array.isArray(item)
          ? <Value key={i} name={item[0]} v={item[1]} comma={i < items.length - 1} depth={depth + 1} />
          : <Value key={i} v={item} comma={i < items.length - 1} depth={depth + 1} />))}
        {items.length > shown.length ? <div class="muted">… {items.length - shown.length} more</div> : null}
      </div>
      <div>{close}{after}</div>
    </>
  );
  if (depth === 0) return <><div>{before}{open}</div>{inside}</>;
  return (
    <details open={depth < 3 && items.length <= 30}>
      <summary>{before}{open} <span class="muted">{items.length} {t === "array" ? (items.length === 1 ? "item" : "items") : items.length === 1 ? "field" : "fields"}</span></summary>
      {inside}
    </details>
  );
}

/** A value that fits on one line: a simple one, or a few simple ones. */
function oneLine(v: Json): ComponentChildren | undefined {
  if (v.t === "string") return <span class="string">{readable(v.text)}</span>;
  if (v.t !== "array" && v.t !== "object") return <span class={v.t}>{v.text}</span>;
  if (v.items.length === 0) return v.t === "array" ? "[]" : "{}";
  if (v.t === "object" || v.items.length > 12) return undefined;
  const size = v.items.reduce((sum, i) => sum + ("text" in i ? i.text.length + 2 : 1000), 0);
  if (size > 72) return undefined;
  return <>[{v.items.map((i, k) => <>{k > 0 ? ", " : ""}{oneLine(i)}</>)}]</>;
}

/** A string without escapes that only hide what it says, such as \u003c. */
function readable(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return text;
  }
}

function printable(base64: string): string | undefined {
  try {
    const bin = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bin);
    return /[\u0000-\u0008\u000e-\u001f]/.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}
