// A plane that a person moves: drag, wheel, touch and pinch. It holds the camera;
// what is on the plane follows it.
import { batch, computed, signal } from "@preact/signals";
import { between, centre, firstLook, fit, keep, reveal, seen, wheelFactor, wheelMeans, zoomAt, type Camera, type Extent } from "./camera.ts";
import type { Rect } from "./graph.ts";

/** How much of a card can be read at a zoom. */
export type Detail = "near" | "mid" | "far";

export class Plane {
  readonly camera = signal<Camera>({ x: 0, y: 0, k: 1 });
  readonly screen = signal<Extent>({ w: 0, h: 0 });
  /** What is drawn: the part that is seen and some around it. It changes seldom. */
  readonly window = signal<Rect>({ x: 0, y: 0, w: 0, h: 0 });
  readonly detail = computed<Detail>(() => (this.camera.value.k < 0.24 ? "far" : this.camera.value.k < 0.62 ? "mid" : "near"));
  /** Told when the person moves the plane by hand. */
  onMoved: () => void = () => {};
  private flight = 0;

  /** Sets the camera at once. */
  set(c: Camera): void {
    cancelAnimationFrame(this.flight);
    this.put(c);
  }

  /** Moves to a camera so that the eye can follow, or at once for who wants no motion. */
  fly(to: Camera): void {
    cancelAnimationFrame(this.flight);
    const from = this.camera.peek();
    if (matchMedia("(prefers-reduced-motion: reduce)").matches || this.screen.peek().w === 0) return this.put(to);
    const start = performance.now();
    const step = (t: number): void => {
      const done = Math.min(1, Math.max(0, t - start) / 220);
      this.put(between(from, to, done));
      if (done < 1) this.flight = requestAnimationFrame(step);
    };
    this.flight = requestAnimationFrame(step);
  }

  fit(all: Rect): void {
    this.fly(fit(all, this.screen.peek()));
  }

  look(all: Rect, matters: Rect | undefined): void {
    this.set(firstLook(all, matters, this.screen.peek()));
  }

  zoom(factor: number): void {
    const { w, h } = this.screen.peek();
    this.fly(zoomAt(this.camera.peek(), factor, w / 2, h / 2));
  }

  reveal(r: Rect): void {
    const c = reveal(this.camera.peek(), r, this.screen.peek());
    const now = this.camera.peek();
    if (Math.abs(c.x - now.x) > 1 || Math.abs(c.y - now.y) > 1) this.fly(c);
  }

  /** Shows a rectangle as large as it fits, but not larger than drawn. */
  show(r: Rect): void {
    this.fly(fit(r, this.screen.peek(), 40));
  }

  /** Brings a rectangle into the middle, as far as the picture reaches. */
  centre(r: Rect, all: Rect): void {
    this.fly(keep(centre(this.camera.peek(), r, this.screen.peek()), all, this.screen.peek()));
  }

  private put(c: Camera): void {
    batch(() => {
      this.camera.value = c;
      const v = seen(c, this.screen.peek());
      const w = this.window.peek();
      const inside = v.x >= w.x && v.y >= w.y && v.x + v.w <= w.x + w.w && v.y + v.h <= w.y + w.h;
      if (!inside || w.w > 3.2 * v.w) this.window.value = { x: v.x - v.w / 2, y: v.y - v.h / 2, w: 2 * v.w, h: 2 * v.h };
    });
  }

  /** Listens on the element that shows the plane. */
  attach(el: HTMLElement): () => void {
    const stop = new AbortController();
    const on = <K extends keyof HTMLElementEventMap>(name: K, f: (e: HTMLElementEventMap[K]) => void, passive = true): void => {
      el.addEventListener(name, f as EventListener, { signal: stop.signal, passive });
    };
    const size = new ResizeObserver(() => {
      this.screen.value = { w: el.clientWidth, h: el.clientHeight };
      this.put(this.camera.peek());
    });
    size.observe(el);
    this.screen.value = { w: el.clientWidth, h: el.clientHeight };

    const at = (e: { clientX: number; clientY: number }): { x: number; y: number } => {
      const box = el.getBoundingClientRect();
      return { x: e.clientX - box.left, y: e.clientY - box.top };
    };
    const moved = (c: Camera): void => {
      this.set(c);
      this.onMoved();
    };

    on("wheel", (e) => {
      if (e.target instanceof Element && e.target.closest("[data-scrolls]")) return;
      e.preventDefault();
      const c = this.camera.peek();
      if (wheelMeans(e) === "zoom") {
        const p = at(e);
        moved(zoomAt(c, wheelFactor(e.deltaY, e.deltaMode) ** (e.ctrlKey && Math.abs(e.deltaY) < 50 ? 4 : 1), p.x, p.y));
      } else if (e.shiftKey && e.deltaX === 0) moved({ ...c, x: c.x - e.deltaY });
      else moved({ ...c, x: c.x - e.deltaX, y: c.y - e.deltaY });
    }, false);

    // One finger or the mouse drags, two fingers pinch. A drag is none until it
    // has moved a little: then the click at its end is swallowed.
    const fingers = new Map<number, { x: number; y: number }>();
    let dragging = false;
    let swallow = false;
    on("pointerdown", (e) => {
      if (e.button !== 0 || (e.target instanceof Element && e.target.closest("[data-still]"))) return;
      if (fingers.size === 0) {
        dragging = false;
        swallow = false;
      }
      fingers.set(e.pointerId, at(e));
    });
    on("pointermove", (e) => {
      const was = fingers.get(e.pointerId);
      if (!was) return;
      if (e.pointerType === "mouse" && e.buttons === 0) return void fingers.delete(e.pointerId);
      const now = at(e);
      if (!dragging && fingers.size === 1 && Math.hypot(now.x - was.x, now.y - was.y) < 4) return;
      if (!dragging) {
        dragging = true;
        el.classList.add("dragging");
        if (!el.hasPointerCapture(e.pointerId)) el.setPointerCapture(e.pointerId);
      }
      swallow = true;
      const c = this.camera.peek();
      if (fingers.size === 1) {
        moved({ ...c, x: c.x + now.x - was.x, y: c.y + now.y - was.y });
      } else {
        const other = [...fingers].find(([id]) => id !== e.pointerId)![1];
        const before = Math.hypot(was.x - other.x, was.y - other.y);
        const after = Math.hypot(now.x - other.x, now.y - other.y);
        const mid = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 };
        const z = zoomAt(c, before > 0 ? after / before : 1, mid.x, mid.y);
        moved({ ...z, x: z.x + (now.x - was.x) / 2, y: z.y + (now.y - was.y) / 2 });
      }
      fingers.set(e.pointerId, now);
    });
    const lift = (e: PointerEvent): void => {
      fingers.delete(e.pointerId);
      if (fingers.size === 0) {
        dragging = false;
        el.classList.remove("dragging");
      }
    };
    on("pointerup", lift);
    on("pointercancel", lift);
    el.addEventListener("click", (e) => {
      if (!swallow) return;
      swallow = false;
      e.stopPropagation();
      e.preventDefault();
    }, { signal: stop.signal, capture: true });
    return () => {
      stop.abort();
      size.disconnect();
      cancelAnimationFrame(this.flight);
    };
  }
}

/** Whether two rectangles touch. */
export function touches(a: Rect, b: Rect): boolean {
  return a.x <= b.x + b.w && b.x <= a.x + a.w && a.y <= b.y + b.h && b.y <= a.y + a.h;
}
