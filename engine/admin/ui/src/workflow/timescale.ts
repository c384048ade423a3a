// Time along a line of pixels, and where its ticks stand.

export interface Scale {
  /** Milliseconds since 1970 at the left and the right end. */
  from: number;
  to: number;
  /** Pixels. */
  width: number;
}

export function xOf(s: Scale, t: number): number {
  return ((t - s.from) / Math.max(1e-6, s.to - s.from)) * s.width;
}

export function timeAt(s: Scale, x: number): number {
  return s.from + (x / Math.max(1, s.width)) * (s.to - s.from);
}

/** Zooms by a factor around a pixel, no closer than a tenth of a millisecond per pixel and no wider than all. */
export function zoomTime(s: Scale, factor: number, x: number, all: { from: number; to: number }): Scale {
  const at = timeAt(s, x);
  const widest = Math.max(1, all.to - all.from);
  const span = Math.min(widest, Math.max(s.width / 10, (s.to - s.from) / factor));
  const from = at - (x / Math.max(1, s.width)) * span;
  return within({ from, to: from + span, width: s.width }, all);
}

/** Moves by pixels, but not out of all. */
export function panTime(s: Scale, pixels: number, all: { from: number; to: number }): Scale {
  const by = (pixels / Math.max(1, s.width)) * (s.to - s.from);
  return within({ from: s.from + by, to: s.to + by, width: s.width }, all);
}

function within(s: Scale, all: { from: number; to: number }): Scale {
  const span = s.to - s.from;
  if (span >= all.to - all.from) return { from: all.from, to: Math.max(all.to, all.from + 1), width: s.width };
  const from = Math.min(Math.max(s.from, all.from), all.to - span);
  return { from, to: from + span, width: s.width };
}

const steps = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000,
  3_600_000, 7_200_000, 10_800_000, 21_600_000, 43_200_000, 86_400_000, 172_800_000, 604_800_000,
];

/** Ticks about so many pixels apart: times counted from the start of the workflow. */
export function ticks(s: Scale, origin: number, apart = 110): { at: number; text: string }[] {
  const least = ((s.to - s.from) / Math.max(1, s.width)) * apart;
  const step = steps.find((v) => v >= least) ?? Math.ceil(least / 604_800_000) * 604_800_000;
  const out: { at: number; text: string }[] = [];
  for (let k = Math.ceil((s.from - origin) / step); origin + k * step <= s.to; k++) {
    out.push({ at: origin + k * step, text: offset(k * step, step) });
    if (out.length > 500) break;
  }
  return out;
}

/** Time since the start: "0", "+350 ms", "+2.5 s", "+1:05", "+2:00:00", "+3 d 4 h". */
export function offset(ms: number, step: number): string {
  if (ms === 0) return "0";
  const sign = ms < 0 ? "−" : "+";
  const a = Math.abs(ms);
  if (step < 1000 && a < 1000) return `${sign}${a} ms`;
  if (a < 60_000) return `${sign}${a / 1000} s`;
  const s = Math.floor(a / 1000);
  const two = (n: number): string => String(n).padStart(2, "0");
  const rest = step < 1000 ? "." + String(a % 1000).padStart(3, "0").replace(/0+$/, "") : "";
  if (s < 3600) return `${sign}${Math.floor(s / 60)}:${two(s % 60)}${rest}`.replace(/\.$/, "");
  if (s < 172_800) return `${sign}${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}${rest}`.replace(/\.$/, "");
  const h = Math.floor(s / 3600) % 24;
  return `${sign}${Math.floor(s / 86_400)} d${h > 0 ? ` ${h} h` : ""}`;
}
