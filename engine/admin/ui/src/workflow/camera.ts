// What part of a plane is seen, and how large: a point of the plane at (px, py)
// is seen at (x + k·px, y + k·py).
import type { Rect } from "./graph.ts";

export interface Camera {
  x: number;
  y: number;
  k: number;
}

export interface Extent {
  w: number;
  h: number;
}

export const MIN_ZOOM = 0.01;
export const MAX_ZOOM = 3;

const bound = (k: number): number => Math.min(MAX_ZOOM, Math.max(MIN_ZOOM, k));

/** Zooms by a factor around a point of the screen, which stays where it is. */
export function zoomAt(c: Camera, factor: number, sx: number, sy: number): Camera {
  const k = bound(c.k * factor);
  const f = k / c.k;
  return { k, x: sx - (sx - c.x) * f, y: sy - (sy - c.y) * f };
}

/** Shows all of a rectangle, no larger than most. */
export function fit(r: Rect, screen: Extent, margin = 32, most = 1): Camera {
  const k = bound(Math.min(most, (screen.w - 2 * margin) / Math.max(r.w, 1), (screen.h - 2 * margin) / Math.max(r.h, 1)));
  return { k, x: (screen.w - r.w * k) / 2 - r.x * k, y: (screen.h - r.h * k) / 2 - r.y * k };
}

/** Puts the middle of a rectangle into the middle of the screen. */
export function centre(c: Camera, r: Rect, screen: Extent): Camera {
  return { k: c.k, x: screen.w / 2 - (r.x + r.w / 2) * c.k, y: screen.h / 2 - (r.y + r.h / 2) * c.k };
}

/** The part of the plane that is seen. */
export function seen(c: Camera, screen: Extent): Rect {
  return { x: -c.x / c.k, y: -c.y / c.k, w: screen.w / c.k, h: screen.h / c.k };
}

/** Moves as little as needed to show a rectangle; too large, its upper left. */
export function reveal(c: Camera, r: Rect, screen: Extent, margin = 24): Camera {
  const axis = (at: number, from: number, length: number, room: number): number => {
    const start = from * c.k + at;
    const size = length * c.k;
    if (start < margin || size > room - 2 * margin) return at + margin - start;
    return start + size > room - margin ? at + (room - margin - size) - start : at;
  };
  return { k: c.k, x: axis(c.x, r.x, r.w, screen.w), y: axis(c.y, r.y, r.h, screen.h) };
}

/** The first look at a picture: all of it where that stays legible, else a part
 *  around what matters most, at a size one can read. */
export function firstLook(all: Rect, matters: Rect | undefined, screen: Extent, legible = 0.5): Camera {
  const whole = fit(all, screen);
  if (whole.k >= legible) return whole;
  // Wide and low as a chain is, it may as well be large.
  const low = Math.max(legible, Math.min(0.85, (screen.h - 64) / Math.max(1, all.h)));
  const k = matters ? Math.max(whole.k, 0.8 * legible, Math.min(low, fit(matters, screen).k)) : low;
  const close = { ...whole, k };
  const focus = matters ?? { x: all.x, y: all.y, w: 1, h: Math.min(all.h, screen.h / k) };
  return keep(centre(close, focus, screen), all, screen);
}

/** Moves so that no room is left empty beside the picture that the picture could fill. */
export function keep(c: Camera, all: Rect, screen: Extent): Camera {
  return { k: c.k, x: inside(c.x, all.x, all.w, c.k, screen.w), y: inside(c.y, all.y, all.h, c.k, screen.h) };
}

/** Leaves no more than a margin empty beside the picture where it is larger than the screen. */
function inside(at: number, from: number, length: number, k: number, room: number): number {
  const margin = 32;
  if (length * k <= room - 2 * margin) return (room - length * k) / 2 - from * k;
  return Math.max(room - margin - (from + length) * k, Math.min(margin - from * k, at));
}

/** A step between two cameras, 0 ≤ t ≤ 1, that moves evenly to the eye. */
export function between(a: Camera, b: Camera, t: number): Camera {
  const s = t * t * (3 - 2 * t);
  return { x: a.x + (b.x - a.x) * s, y: a.y + (b.y - a.y) * s, k: a.k + (b.k - a.k) * s };
}

/** How an event of the wheel is meant: mice zoom, touch pads pan and pinch. */
export function wheelMeans(e: { ctrlKey: boolean; metaKey: boolean; shiftKey: boolean; deltaX: number; deltaY: number; deltaMode: number }): "zoom" | "pan" {
  if (e.ctrlKey || e.metaKey) return "zoom";
  if (e.shiftKey || e.deltaX !== 0) return "pan";
  return e.deltaMode === 1 || (Number.isInteger(e.deltaY) && Math.abs(e.deltaY) >= 50) ? "zoom" : "pan";
}

/** The factor of one event of the wheel. */
export function wheelFactor(deltaY: number, deltaMode: number): number {
  const pixels = deltaMode === 1 ? deltaY * 30 : deltaMode === 2 ? deltaY * 300 : deltaY;
  return Math.exp(-Math.max(-200, Math.min(200, pixels)) / 400);
}
