// The time as the page counts it: the database's, of which every live message
// tells, so that a browser whose clock is wrong still shows right ages.
import { computed, signal } from "@preact/signals";

const tick = signal(Date.now());
const skew = signal<number | undefined>(undefined);

/** Milliseconds since 1970 by the database's clock; changes once a second while the tab is seen. */
export const now = computed(() => tick.value + (skew.value ?? 0));

/** The same at this very moment, for drawing between ticks. */
export function thisInstant(): number {
  return Date.now() + (skew.peek() ?? 0);
}

/** Takes note of a time that the database told just now. */
export function heardTime(at: number): void {
  const d = at - Date.now();
  const known = skew.peek();
  // A message is late by its way, never early: the greatest difference is the
  // best guess. A guess that is off by more than 15 s is of another clock.
  if (known === undefined || d > known || known - d > 15_000) skew.value = d;
}

/** Starts the ticking. Call it once. */
export function startClock(): void {
  window.setInterval(() => {
    if (document.visibilityState === "visible") tick.value = Date.now();
  }, 1000);
  document.addEventListener("visibilitychange", () => {
    tick.value = Date.now();
  });
}
