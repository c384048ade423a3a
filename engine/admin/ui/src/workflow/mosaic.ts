// A mosaic: a dot per member of a card, in the order of their numbers.
import type { MosaicResponse } from "../gen/api.ts";
import { stateByNumber, type StateName } from "../state.ts";

export interface Mosaic {
  states: Uint8Array;
  /** Number of the member at a place. */
  node: (place: number) => number;
  /** Place of a member; -1 if it is not among those given. */
  place: (node: number) => number;
  leftOut: number;
}

export function mosaicOf(answer: MosaicResponse): Mosaic {
  const states = bytesOf(answer.states ?? "");
  const first = answer.first ?? 0;
  const leftOut = answer.leftOut ?? 0;
  const gaps = answer.gaps ?? [];
  if (gaps.length === 0) {
    return {
      states, leftOut,
      node: (place) => first + place,
      place: (node) => (node >= first && node < first + states.length ? node - first : -1),
    };
  }
  const nodes = new Int32Array(states.length);
  let at = first;
  for (let i = 0; i < nodes.length; i++) {
    if (i > 0) at += gaps[i - 1] ?? 1;
    nodes[i] = at;
  }
  return {
    states, leftOut,
    node: (place) => nodes[place] ?? 0,
    place: (node) => {
      let lo = 0;
      let hi = nodes.length - 1;
      while (lo < hi) {
        const mid = (lo + hi) >> 1;
        if (nodes[mid]! < node) lo = mid + 1;
        else hi = mid;
      }
      return nodes[lo] === node ? lo : -1;
    },
  };
}

function bytesOf(base64: string): Uint8Array {
  const text = atob(base64);
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

/** How dots lie: in rows of so many, so large each. */
export interface Tiling {
  columns: number;
  rows: number;
  /** Width and height of a dot with its share of the gaps. */
  cell: number;
  w: number;
  h: number;
}

/** The tiling of n dots in a given width, no higher than most. */
export function tile(n: number, width: number, most: number, largest = 14): Tiling {
  let cell = Math.min(largest, Math.sqrt((width * most) / Math.max(1, n)));
  let columns = Math.max(1, Math.floor(width / cell));
  while (Math.ceil(n / columns) * (width / columns) > most && cell > 0.5) {
    cell *= 0.98;
    columns = Math.max(1, Math.floor(width / cell));
  }
  if (cell < largest) cell = width / columns;
  const rows = Math.max(1, Math.ceil(n / columns));
  return { columns, rows, cell, w: width, h: rows * cell };
}

/** The dot at a point; -1 if there is none. */
export function dotAt(t: Tiling, n: number, x: number, y: number): number {
  const column = Math.floor(x / t.cell);
  const row = Math.floor(y / t.cell);
  const place = row * t.columns + column;
  return x >= 0 && y >= 0 && column < t.columns && place < n ? place : -1;
}

/** Paints the dots. Those whose state is not shown are faint. */
export function paint(to: CanvasRenderingContext2D, t: Tiling, m: Mosaic, scale: number, colour: (s: StateName) => string, shown: ReadonlySet<StateName>, chosen: number): void {
  to.setTransform(scale, 0, 0, scale, 0, 0);
  to.clearRect(0, 0, t.w, t.h);
  const gap = t.cell > 7 ? 2 : t.cell > 3.5 ? 1 : t.cell > 2 ? 0.4 : 0;
  const dot = t.cell - gap;
  // State by state: changing the colour costs more than a dot.
  for (let s = 1; s <= 9; s++) {
    const name = stateByNumber(s);
    to.fillStyle = colour(name);
    to.globalAlpha = shown.size > 0 && !shown.has(name) ? 0.12 : name === "blocked" ? 0.45 : 1;
    for (let i = 0; i < m.states.length; i++) {
      if (m.states[i] !== s) continue;
      const x = (i % t.columns) * t.cell;
      const y = Math.floor(i / t.columns) * t.cell;
      to.fillRect(x, y, dot, dot);
      if (t.cell >= 7 && (name === "cancelled" || name === "skipped" || name === "failed")) notch(to, name, x, y, dot);
    }
  }
  to.globalAlpha = 1;
  if (chosen >= 0) {
    to.strokeStyle = colour("running");
    to.lineWidth = 2;
    const x = (chosen % t.columns) * t.cell;
    const y = Math.floor(chosen / t.columns) * t.cell;
    const r = Math.max(3, dot / 2 + 2);
    to.strokeRect(x + dot / 2 - r, y + dot / 2 - r, 2 * r, 2 * r);
  }
}

/** A large dot tells its state by a shape as well. */
function notch(to: CanvasRenderingContext2D, name: StateName, x: number, y: number, dot: number): void {
  if (name === "failed") {
    to.clearRect(x + dot * 0.4, y + dot * 0.2, dot * 0.2, dot * 0.6);
  } else if (name === "cancelled") {
    to.clearRect(x + dot * 0.2, y + dot * 0.4, dot * 0.6, dot * 0.2);
  } else {
    to.clearRect(x + dot * 0.3, y + dot * 0.3, dot * 0.4, dot * 0.4);
  }
}
