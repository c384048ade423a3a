// How numbers, times and durations are written.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** A count in full: 12,431. */
export function number(n: number | string | undefined): string {
  return whole.format(typeof n === "string" ? BigInt(n) : (n ?? 0));
}

/** A count in little room: 12.4K. */
export function short(n: number): string {
  return Math.abs(n) < 10_000 ? whole.format(n) : compact.format(n);
}

/** A count that may be a lower bound: "10,000+". */
export function count(c: { n?: string; more?: boolean } | undefined): string {
  return number(c?.n ?? 0) + (c?.more ? "+" : "");
}

/** The same in little room: "10K+". */
export function shortCount(c: { n?: string; more?: boolean } | undefined): string {
  return short(Number(c?.n ?? 0)) + (c?.more ? "+" : "");
}

/** A number with its noun: "1 job", "2 jobs", "2 batches". */
export function plural(n: number, one: string, many?: string): string {
  return `${number(n)} ${n === 1 ? one : (many ?? one + "s")}`;
}

/** Milliseconds since 1970 of a timestamp of the API; undefined if it is not set. */
export function millis(t: string | undefined): number | undefined {
  if (!t) return undefined;
  const ms = Date.parse(t.replace(/(\.\d{3})\d+/, "$1"));
  return Number.isNaN(ms) ? undefined : ms;
}

/** Milliseconds of a duration of the API ("1.5s"); undefined if it is not set. */
export function lengthOf(d: string | undefined): number | undefined {
  return d ? parseFloat(d) * 1000 : undefined;
}

/** A duration of the API from milliseconds. */
export function durationOf(ms: number): string {
  return `${ms / 1000}s`;
}

/** A duration, two units at most: "350 ms", "12.4 s", "3 m 20 s", "2 d 4 h". */
export function duration(ms: number | undefined): string {
  if (ms === undefined) return "–";
  const sign = ms < 0 ? "−" : "";
  const a = Math.abs(ms);
  if (a < 1) return sign + `${a === 0 ? 0 : a.toPrecision(1)} ms`;
  if (a < 999.5) return sign + `${Math.round(a)} ms`;
  if (a < 9_950) return sign + `${(a / 1000).toFixed(1)} s`;
  let s = Math.round(a / 1000);
  const parts: string[] = [];
  for (const [unit, size] of [["d", 86_400], ["h", 3600], ["m", 60], ["s", 1]] as const) {
    const n = Math.floor(s / size);
    s -= n * size;
    if (n > 0 || parts.length > 0) parts.push(n > 0 ? `${n} ${unit}` : "");
    if (parts.length === 2) break;
  }
  return sign + parts.filter((p) => p !== "").join(" ");
}

/** An age in whole seconds, beyond a minute like other durations. */
export function age(ms: number): string {
  return ms < 60_000 ? `${Math.floor(Math.max(0, ms) / 1000)} s` : duration(ms);
}

/** How long ago, or how long until: "12 s ago", "in 3 m". One unit. */
export function relative(ms: number, now: number): string {
  const d = now - ms;
  const a = Math.abs(d);
  if (a < 1500) return d >= 0 ? "now" : "in 1 s";
  let text = "";
  for (const [unit, size] of [["d", 86_400_000], ["h", 3_600_000], ["m", 60_000], ["s", 1000]] as const) {
    if (a >= size) {
      text = `${Math.floor(a / size)} ${unit}`;
      break;
    }
  }
  return d >= 0 ? `${text} ago` : `in ${text}`;
}

const two = (n: number): string => String(n).padStart(2, "0");

/** A time of the day here: 14:03:07, with milliseconds if asked. */
export function clock(ms: number, precise = false): string {
  const t = new Date(ms);
  const s = `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
  return precise ? `${s}.${String(t.getMilliseconds()).padStart(3, "0")}` : s;
}

/** A day here: 2026-11-20. */
export function day(ms: number): string {
  const t = new Date(ms);
  return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())}`;
}

/** Day and time here: 2026-11-20 14:03:07. */
export function dateTime(ms: number, precise = false): string {
  return `${day(ms)} ${clock(ms, precise)}`;
}

/** Bytes: 820 B, 12.3 kB. */
export function bytes(n: number): string {
  if (n < 1000) return `${n} B`;
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]] as const) {
    if (n >= size) return `${(n / size).toFixed(n < 10 * size ? 1 : 0)} ${unit}`;
  }
  return `${n} B`;
}

/** The end of an id, enough to tell ids of one list apart. */
export function shortId(id: string): string {
  const [workflow, node] = id.split("/");
  const tail = workflow!.slice(-8);
  return node === undefined ? tail : `${tail}/${node}`;
}

/** Things per second: "0.4", "12", "1.2K". */
export function pace(perSecond: number): string {
  return perSecond >= 10 || perSecond === 0 ? short(Math.round(perSecond)) : perSecond.toFixed(1);
}
