// Keys. Components bind keys while they are there; the one bound last wins.
// "g j" is g, then j within a second.
import { useEffect, useRef } from "preact/hooks";

export interface Key {
  /** "j", "Escape", "ArrowLeft", "g j". */
  key: string;
  /** What it does, for the list that "?" shows; without it the key is not listed. */
  label?: string;
  /** Returns false if the key is not for it after all. */
  run: (e: KeyboardEvent) => void | boolean;
  /** Also while a field has the focus. */
  inFields?: boolean;
}

const bound: Key[][] = [];
let first = "";
let firstAt = 0;

/** Binds keys as long as the component is there. */
export function useKeys(keys: Key[]): void {
  const latest = useRef(keys);
  latest.current = keys;
  const names = keys.map((k) => k.key).join("\n");
  useEffect(() => {
    const mine: Key[] = latest.current.map((k, i) => ({
      ...k,
      run: (e) => latest.current[i]?.run(e),
    }));
    bound.push(mine);
    return () => {
      bound.splice(bound.indexOf(mine), 1);
    };
  }, [names]);
}

/** Keys that do something now, with their labels; the one bound last wins. */
export function boundKeys(): { key: string; label: string }[] {
  const seen = new Map<string, string>();
  for (const keys of [...bound].reverse()) {
    for (const k of keys) if (k.label && !seen.has(k.key)) seen.set(k.key, k.label);
  }
  return [...seen].map(([key, label]) => ({ key, label }));
}

/** Listens to the keys of the page. Call it once. */
export function startKeyboard(): void {
  document.addEventListener("keydown", (e) => {
    if (e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey || e.isComposing) return;
    const field = inField(e.target);
    const inDialog = document.querySelector("dialog[open]") !== null;
    const combined = first !== "" && e.timeStamp - firstAt < 1000 ? `${first} ${e.key}` : e.key;
    const starts = !field && e.key === "g" && first === "";
    first = "";
    for (const name of combined === e.key ? [e.key] : [combined, e.key]) {
      for (const keys of [...bound].reverse()) {
        for (const k of keys) {
          if (k.key !== name || ((field || inDialog) && !k.inFields)) continue;
          if (k.run(e) === false) continue;
          e.preventDefault();
          return;
        }
      }
    }
    if (starts) {
      first = "g";
      firstAt = e.timeStamp;
    }
  });
}

function inField(target: EventTarget | null): boolean {
  return target instanceof HTMLElement &&
    (target.isContentEditable || target.matches("textarea, select, input:not([type=checkbox]):not([type=radio]):not([type=button])"));
}
