import type { JSX } from "preact";
import { now } from "../clock.ts";
import { dateTime, duration, millis, relative } from "../format.ts";

/** A time of the API as "12 s ago", in full when pointed at. */
export function Ago({ at, none = "–" }: { at: string | undefined; none?: string }): JSX.Element {
  const ms = millis(at);
  if (ms === undefined) return <span class="muted">{none}</span>;
  return <time class="nowrap num" dateTime={new Date(ms).toISOString()} title={dateTime(ms, true)}>{relative(ms, now.value)}</time>;
}

/** A time of the API in full, with how long ago it is. */
export function At({ at, none = "–" }: { at: string | undefined; none?: string }): JSX.Element {
  const ms = millis(at);
  if (ms === undefined) return <span class="muted">{none}</span>;
  return (
    <time class="num" dateTime={new Date(ms).toISOString()}>
      {dateTime(ms, true)} <span class="muted nowrap">({relative(ms, now.value)})</span>
    </time>
  );
}

/** From one time of the API to another; without a second, until now. */
export function Took({ from, to }: { from: string | undefined; to?: string | undefined }): JSX.Element {
  const a = millis(from);
  if (a === undefined) return <span class="muted">–</span>;
  return <span class="nowrap num">{duration(Math.max(0, (millis(to) ?? now.value) - a))}</span>;
}
