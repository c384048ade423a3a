// Paints the part of the timeline that is seen.
import type { StateName } from "../state.ts";
import type { TimeRow } from "./timerows.ts";
import { xOf, type Scale } from "./timescale.ts";

export interface Ink {
  state: (s: StateName) => string;
  line: string;
  text: string;
  selected: string;
  accent: string;
}

export interface Sheet {
  scale: Scale;
  /** Times of the first and the last bucket of strips. */
  from: number;
  to: number;
  now: number | undefined;
  ticks: readonly { at: number }[];
  /** Key of the chosen row. */
  chosen: string;
  /** The state that colours the strip of a group; "running" until it is over. */
  lead: (group: number) => StateName;
}

export function paintRows(c: CanvasRenderingContext2D, rows: readonly TimeRow[], first: number, scrolled: number, height: number, ratio: number, s: Sheet, ink: Ink): void {
  const width = s.scale.width;
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, height);
  c.strokeStyle = ink.line;
  c.lineWidth = 1;
  c.beginPath();
  for (const t of s.ticks) {
    const x = Math.round(xOf(s.scale, t.at)) + 0.5;
    c.moveTo(x, 0);
    c.lineTo(x, height);
  }
  c.stroke();
  for (let i = Math.max(0, first); i < rows.length; i++) {
    const r = rows[i]!;
    const y = r.top - scrolled;
    if (y > height) break;
    if (r.key === s.chosen) {
      c.fillStyle = ink.selected;
      c.fillRect(0, y, width, r.height);
    }
    if (r.isBox) bracket(c, r, y, s, ink);
    else if (r.node !== 0) pieces(c, r, y, s, ink);
    else strip(c, r, y, s, ink);
  }
  if (s.now !== undefined) {
    const x = xOf(s.scale, s.now);
    if (x >= 0 && x <= width) {
      c.strokeStyle = ink.accent;
      c.setLineDash([4, 3]);
      c.beginPath();
      c.moveTo(x, 0);
      c.lineTo(x, height);
      c.stroke();
      c.setLineDash([]);
    }
  }
}

/** When a row ended; now, if it has not. */
function endOf(r: TimeRow, s: Sheet): number {
  const open = s.now !== undefined && s.lead(r.group) === "running";
  return (open ? undefined : r.to) ?? s.now ?? s.to;
}

/** From the first start in a box to its last end. */
function bracket(c: CanvasRenderingContext2D, r: TimeRow, y: number, s: Sheet, ink: Ink): void {
  if (r.from === undefined) return;
  const x = xOf(s.scale, r.from);
  const to = Math.max(x + 2, xOf(s.scale, endOf(r, s)));
  c.strokeStyle = ink.text;
  c.globalAlpha = 0.55;
  c.lineWidth = 2;
  c.beginPath();
  const mid = y + r.height / 2;
  c.moveTo(x + 1, mid + 5);
  c.lineTo(x + 1, mid);
  c.lineTo(to - 1, mid);
  c.lineTo(to - 1, mid + 5);
  c.stroke();
  c.lineWidth = 1;
  c.globalAlpha = 1;
}

/** How many ran when, and where some ended failed. */
function strip(c: CanvasRenderingContext2D, r: TimeRow, y: number, s: Sheet, ink: Ink): void {
  const base = y + r.height - 5;
  const most = r.height - 11;
  if (r.from !== undefined) {
    const x = xOf(s.scale, r.from);
    c.fillStyle = ink.line;
    c.fillRect(x, base, Math.max(2, xOf(s.scale, endOf(r, s)) - x), 1.5);
  }
  const n = r.running.length;
  if (n === 0) return;
  const each = (s.to - s.from) / n;
  c.fillStyle = ink.state(s.lead(r.group));
  for (let i = 0; i < n; i++) {
    const v = r.running[i]!;
    if (v === 0) continue;
    // The ends of a strip are known better than its buckets.
    const from = Math.max(s.from + i * each, r.from ?? -Infinity);
    const to = Math.min(s.from + (i + 1) * each, endOf(r, s));
    const x = Math.round(xOf(s.scale, from)); // on whole pixels, so that no seams show
    const w = Math.max(1, Math.round(xOf(s.scale, Math.max(to, from))) - x);
    if (x > s.scale.width || x + w < 0) continue;
    const h = Math.max(2, (v / r.most) * most);
    c.fillRect(x, base - h, w, h);
  }
  c.fillStyle = ink.state("failed");
  for (let i = 0; i < r.failed.length; i++) {
    if (!r.failed[i]) continue;
    const x = xOf(s.scale, s.from + (i + 0.5) * each);
    c.beginPath();
    c.moveTo(x - 4, y + 3);
    c.lineTo(x + 4, y + 3);
    c.lineTo(x, y + 9);
    c.fill();
  }
}

/** A job: what it waited for and its attempts. */
function pieces(c: CanvasRenderingContext2D, r: TimeRow, y: number, s: Sheet, ink: Ink): void {
  const mid = y + r.height / 2;
  for (const p of r.pieces) {
    const x = xOf(s.scale, p.from);
    const w = Math.max(p.what === "attempt" ? 2 : 1, xOf(s.scale, p.to ?? s.now ?? s.to) - x);
    if (x > s.scale.width || x + w < 0) continue;
    c.fillStyle = ink.state(p.state);
    if (p.what === "attempt") {
      c.beginPath();
      c.roundRect(x, mid - 6, w, 12, Math.min(3, w / 2));
      c.fill();
    } else {
      c.globalAlpha = p.what === "waiting" ? 0.45 : 0.7;
      if (p.what === "waiting") c.fillRect(x, mid - 2, w, 4);
      else for (let at = Math.max(x, 0); at < Math.min(x + w, s.scale.width); at += 6) c.fillRect(at, mid - 1, 3, 2);
      c.globalAlpha = 1;
    }
  }
}
