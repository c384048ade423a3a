import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import { clock, day, short } from "../format.ts";
import type { StateName } from "../state.ts";

/** A line of a chart, in the colour of a state. */
export interface Series {
  name: string;
  state: StateName;
  values: readonly number[];
}

interface Props {
  label: string;
  /** Milliseconds since 1970 of each value; of equal distance. */
  times: readonly number[];
  series: readonly Series[];
  /** Writes a value: "12 /s". */
  write?: (n: number) => string;
  /** Lets a person mark a range. */
  onRange?: (from: number, to: number) => void;
}

/** Values over time as steps, stacked on each other; pointing at it tells the values. */
export function Chart({ label, times, series, write = short, onRange }: Props): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const [at, setAt] = useState<number | undefined>(undefined);
  const [from, setFrom] = useState<number | undefined>(undefined);
  const n = times.length;
  const layers = stack(series, n);
  const top = niceTop(Math.max(0, ...(layers.at(-1)?.upper ?? [0])));
  const x = (i: number): number => (i / Math.max(1, n)) * 1000;
  const y = (v: number): number => 100 - (v / top) * 100;
  const index = (e: PointerEvent): number => {
    const r = box.current!.getBoundingClientRect();
    return Math.min(n - 1, Math.max(0, Math.floor(((e.clientX - r.left) / r.width) * n)));
  };
  const step = n > 1 ? times[1]! - times[0]! : 0;
  const width = step * n;
  const share = (i: number): string => `${(i / Math.max(1, n)) * 100}%`;
  const marked = from !== undefined && at !== undefined ? [Math.min(from, at), Math.max(from, at)] as const : undefined;
  return (
    <figure class="chart" aria-label={label}>
      <div class="plot">
        <div class="scale num" aria-hidden="true">
          {[1, 0.5, 0].map((f) => <span key={f}>{write(top * f)}</span>)}
        </div>
        <div
          class="area" ref={box}
          onPointerMove={(e) => n > 0 && setAt(index(e))} onPointerLeave={() => { setAt(undefined); setFrom(undefined); }}
          onPointerDown={(e) => { if (onRange && n > 1 && e.pointerType === "mouse") setFrom(index(e)); }}
          onPointerUp={() => {
            if (marked && onRange && marked[1] > marked[0]) onRange(times[marked[0]]!, times[marked[1]]! + step);
            setFrom(undefined);
          }}
        >
          <svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label={summary(label, series, write)}>
            {[0, 50, 100].map((v) => <path key={v} class="grid" d={`M0 ${v}H1000`} />)}
            {layers.map((l, k) => (
              <g key={series[k]!.name} data-state={series[k]!.state}>
                <path class="fill" d={band(l.lower, l.upper, x, y)} />
              </g>
            ))}
          </svg>
          {marked ? <div class="mark" style={{ left: share(marked[0]), width: share(marked[1] + 1 - marked[0]) }} /> : null}
          {at !== undefined && at < n ? (
            <>
              <div class="cross" style={{ left: share(at + 0.5) }} />
              <div class={at > n / 2 ? "tip left" : "tip"} style={{ left: share(at + 0.5) }}>
                <b class="num">{timeLabel(times[at]!, width, true)}</b>
                {[...series].reverse().map((s) => (
                  <span key={s.name} data-state={s.state} class="row"><i /><span class="grow">{s.name}</span><span class="num">{write(s.values[at] ?? 0)}</span></span>
                ))}
              </div>
            </>
          ) : null}
        </div>
      </div>
      <div class="times num" aria-hidden="true">
        {n > 1 ? [0, 1, 2, 3, 4].map((k) => <span key={k}>{timeLabel(times[0]! + (width * k) / 4, width, false)}</span>) : null}
      </div>
      <figcaption class="legend">
        {series.map((s) => <span key={s.name} class="row" data-state={s.state}><i />{s.name}</span>)}
      </figcaption>
    </figure>
  );
}

/** A small line without scales, beside a figure that says the present value. */
export function Sparkline({ values, state, slots = values.length }: { values: readonly number[]; state: StateName; slots?: number }): JSX.Element {
  const top = Math.max(1, ...values);
  const n = Math.max(slots, values.length);
  // What is not known yet stays empty at the left.
  const x = (i: number): number => (n > 1 ? ((n - values.length + i) / (n - 1)) * 100 : 0);
  const y = (v: number): number => 23 - (v / top) * 22;
  return (
    <svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true" data-state={state}>
      {values.length > 1 ? <><path class="fill" d={`${line(values, x, y)}L100 24L${round(x(0))} 24Z`} /><path class="edge" d={line(values, x, y)} /></> : null}
    </svg>
  );
}

interface Layer { lower: number[]; upper: number[] }

function stack(series: readonly Series[], n: number): Layer[] {
  let base: number[] = new Array<number>(n).fill(0);
  return series.map((s) => {
    const upper = base.map((v, i) => v + (s.values[i] ?? 0));
    const layer = { lower: base, upper };
    base = upper;
    return layer;
  });
}

type Scale = (n: number) => number;

function line(values: readonly number[], x: Scale, y: Scale): string {
  return values.map((v, i) => `${i === 0 ? "M" : "L"}${round(x(i))} ${round(y(v))}`).join("");
}

/** The area between two rows of steps, one as wide as the other. */
function band(lower: readonly number[], upper: readonly number[], x: Scale, y: Scale): string {
  if (upper.every((v, i) => v === lower[i])) return "";
  let d = `M0 ${round(y(lower[0]!))}`;
  upper.forEach((v, i) => { d += `V${round(y(v))}H${round(x(i + 1))}`; });
  for (let i = lower.length - 1; i >= 0; i--) d += `V${round(y(lower[i]!))}H${round(x(i))}`;
  return d + "Z";
}

function round(n: number): number {
  return Math.round(n * 10) / 10;
}

/** The next of 1, 2, 5 times a power of ten. */
export function niceTop(v: number): number {
  if (v <= 0) return 1;
  const p = 10 ** Math.floor(Math.log10(v));
  for (const m of [1, 2, 5, 10]) if (v <= m * p) return m * p;
  return 10 * p;
}

function timeLabel(ms: number, width: number, exact: boolean): string {
  if (width > 3 * 86_400_000) return exact ? `${day(ms)} ${clock(ms).slice(0, 5)}` : day(ms).slice(5);
  if (width > 86_400_000) return `${day(ms).slice(5)} ${clock(ms).slice(0, 5)}`;
  return exact || width < 600_000 ? clock(ms) : clock(ms).slice(0, 5);
}

function summary(label: string, series: readonly Series[], write: (n: number) => string): string {
  return `${label}: ${series.map((s) => `${s.name} now ${write(s.values.at(-1) ?? 0)}, at most ${write(Math.max(0, ...s.values))}`).join("; ")}`;
}
