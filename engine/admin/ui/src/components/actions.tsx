import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Action } from "../actions.ts";
import { useKeys } from "../keyboard.ts";
import { Icon } from "./icon.tsx";

/** Actions as buttons; those beyond the first few in a menu. "." opens it, or presses the only one. */
export function ActionBar({ actions, shown = 3, label = "Actions", small }: { actions: Action[]; shown?: number; label?: string; small?: boolean }): JSX.Element | null {
  const bar = useRef<HTMLDivElement>(null);
  useKeys(actions.length > 0 ? [{
    key: ".", label: "Actions", run: () => {
      const buttons = bar.current?.querySelectorAll("button");
      const menu = bar.current?.querySelector<HTMLButtonElement>("[aria-haspopup]");
      if (menu) menu.click();
      else buttons?.[0]?.focus();
    },
  }] : []);
  if (actions.length === 0) return null;
  const size = small ? "small" : "";
  return (
    <div class="row" role="group" aria-label={label} ref={bar}>
      {actions.slice(0, shown).map((a) => (
        <button key={a.label} type="button" class={`${size} ${a.danger ? "danger" : ""}`} onClick={a.run}>{a.label}</button>
      ))}
      {actions.length > shown ? <ActionMenu actions={actions.slice(shown)} label={label} small={small ?? false} /> : null}
    </div>
  );
}

/** Actions behind one button. */
export function ActionMenu({ actions, label, small = true }: { actions: Action[]; label: string; small?: boolean }): JSX.Element | null {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const items = (): HTMLButtonElement[] => [...(box.current?.querySelectorAll<HTMLButtonElement>("[role=menuitem]") ?? [])];
  useEffect(() => {
    if (!open) return undefined;
    items()[0]?.focus();
    const outside = (e: Event): void => {
      if (e.target instanceof Node && !box.current?.contains(e.target)) setOpen(false);
    };
    document.addEventListener("pointerdown", outside);
    return () => document.removeEventListener("pointerdown", outside);
  }, [open]);
  if (actions.length === 0) return null;
  const keys = (e: KeyboardEvent): void => {
    const all = items();
    const at = all.indexOf(document.activeElement as HTMLButtonElement);
    if (e.key === "Escape") {
      setOpen(false);
      box.current?.querySelector<HTMLButtonElement>("[aria-haspopup]")?.focus();
    } else if (e.key === "ArrowDown") all[(at + 1) % all.length]?.focus();
    else if (e.key === "ArrowUp") all[(at + all.length - 1) % all.length]?.focus();
    else if (e.key === "Tab") return setOpen(false);
    else return;
    e.preventDefault();
    e.stopPropagation();
  };
  return (
    <div class="menu" ref={box} onKeyDown={open ? keys : undefined}>
      <button type="button" class={small ? "small" : ""} aria-haspopup="menu" aria-expanded={open} aria-label={label} title={label} onClick={() => setOpen(!open)}>
        <Icon name="more" />
      </button>
      {open ? (
        <div role="menu" aria-label={label}>
          {actions.map((a) => (
            <button key={a.label} type="button" role="menuitem" class={a.danger ? "danger" : ""} onClick={() => { setOpen(false); a.run(); }}>{a.label}</button>
          ))}
        </div>
      ) : null}
    </div>
  );
}
