import assert from "node:assert/strict";
import { test } from "node:test";
import { centre, firstLook, fit, keep, MAX_ZOOM, MIN_ZOOM, reveal, seen, wheelFactor, wheelMeans, zoomAt } from "./camera.ts";

const screen = { w: 1000, h: 600 };
const near = (a: number, b: number): void => assert.ok(Math.abs(a - b) < 1e-6, `${a} is not ${b}`);

test("zooming keeps the point under the pointer", () => {
  const c = { x: 50, y: -20, k: 0.8 };
  const z = zoomAt(c, 1.7, 300, 200);
  near((300 - c.x) / c.k, (300 - z.x) / z.k);
  near((200 - c.y) / c.k, (200 - z.y) / z.k);
});

test("zooming ends at the bounds, where it no longer moves", () => {
  const most = zoomAt({ x: 0, y: 0, k: MAX_ZOOM }, 2, 10, 10);
  assert.deepEqual(most, { x: 0, y: 0, k: MAX_ZOOM });
  assert.equal(zoomAt({ x: 0, y: 0, k: 1 }, 1e-9, 0, 0).k, MIN_ZOOM);
});

test("fit shows all and no larger than drawn", () => {
  const r = { x: 100, y: 50, w: 4000, h: 500 };
  const v = seen(fit(r, screen), screen);
  assert.ok(v.x <= r.x && v.y <= r.y && v.x + v.w >= r.x + r.w && v.y + v.h >= r.y + r.h);
  assert.equal(fit({ x: 0, y: 0, w: 10, h: 10 }, screen).k, 1);
});

test("the first look stays legible and near what matters", () => {
  const all = { x: 0, y: 0, w: 50_000, h: 64 };
  const c = firstLook(all, { x: 20_000, y: 0, w: 200, h: 64 }, screen);
  assert.ok(c.k >= 0.5);
  const v = seen(c, screen);
  assert.ok(v.x < 20_000 && v.x + v.w > 20_200);
  const left = seen(firstLook(all, undefined, screen), screen);
  assert.ok(left.x <= 0 && left.x > -100, "without anything that matters it begins at the left");
  assert.equal(firstLook({ x: 0, y: 0, w: 500, h: 300 }, undefined, screen).k, 1);
});

test("what matters and is too large is made to fit", () => {
  const c = firstLook({ x: 0, y: 0, w: 9000, h: 2000 }, { x: 100, y: 0, w: 1800, h: 300 }, screen);
  assert.ok(c.k <= 0.53);
  const tall = firstLook({ x: 0, y: 0, w: 9000, h: 4000 }, { x: 400, y: 0, w: 200, h: 4000 }, screen);
  assert.equal(tall.k, 0.4, "but not so small that it cannot be read");
});

test("keeping to the picture leaves no room empty", () => {
  const all = { x: 0, y: 0, w: 5000, h: 100 };
  const c = keep(centre({ x: 0, y: 0, k: 1 }, { x: 0, y: 0, w: 10, h: 10 }, screen), all, screen);
  assert.deepEqual(c, { k: 1, x: 32, y: 250 });
  assert.equal(keep({ x: -9000, y: 0, k: 1 }, all, screen).x, 1000 - 32 - 5000);
});

test("reveal moves as little as needed", () => {
  const c = { x: 0, y: 0, k: 1 };
  assert.deepEqual(reveal(c, { x: 100, y: 100, w: 50, h: 50 }, screen), c);
  near(reveal(c, { x: 990, y: 100, w: 50, h: 50 }, screen).x, -64);
  near(reveal(c, { x: -30, y: 100, w: 50, h: 50 }, screen).x, 54);
});

test("centre keeps the zoom", () => {
  assert.deepEqual(centre({ x: 0, y: 0, k: 2 }, { x: 10, y: 10, w: 0, h: 0 }, screen), { k: 2, x: 480, y: 280 });
});

test("mice zoom, touch pads pan and pinch", () => {
  const e = { ctrlKey: false, metaKey: false, shiftKey: false, deltaX: 0, deltaY: 0, deltaMode: 0 };
  assert.equal(wheelMeans({ ...e, deltaY: 120 }), "zoom");
  assert.equal(wheelMeans({ ...e, deltaY: 3, deltaMode: 1 }), "zoom");
  assert.equal(wheelMeans({ ...e, deltaY: 4 }), "pan");
  assert.equal(wheelMeans({ ...e, deltaX: 12, deltaY: 60 }), "pan");
  assert.equal(wheelMeans({ ...e, deltaY: 2.5, ctrlKey: true }), "zoom");
  assert.equal(wheelMeans({ ...e, deltaY: 120, shiftKey: true }), "pan");
  assert.ok(wheelFactor(-120, 0) > 1 && wheelFactor(120, 0) < 1);
  near(wheelFactor(100, 0) * wheelFactor(-100, 0), 1);
});
