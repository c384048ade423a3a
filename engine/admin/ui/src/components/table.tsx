import type { ComponentChildren, JSX } from "preact";
import { useRef } from "preact/hooks";
import { useKeys } from "../keyboard.ts";
import type { Shown } from "../page.ts";

export interface Column<T> {
  head: string;
  cell: (row: T) => ComponentChildren;
  /** "num" for figures, "main" for the cell that leads a row on a narrow screen. */
  class?: string;
}

/** Which rows are chosen. */
export interface Choice<T> {
  ids: ReadonlySet<string>;
  set: (ids: Set<string>) => void;
  /** Rows that can be chosen; all, if it is not given. */
  can?: (row: T) => boolean;
}

interface Props<T> {
  label: string;
  columns: Column<T>[];
  rows: readonly (Shown<T> | T)[];
  id: (row: T) => string;
  /** Where Enter on a row leads. */
  link?: (row: T) => string;
  choice?: Choice<T> | undefined;
  /** The row that the rest of the page is about. */
  now?: (row: T) => boolean;
}

/** Rows as a table; on a narrow screen each row is a block. j and k walk, x chooses, Enter opens. */
export function Table<T>({ label, columns, rows, id, link, choice, now }: Props<T>): JSX.Element {
  const body = useRef<HTMLTableSectionElement>(null);
  const anchor = useRef("");
  const all = rows.map((r) => (isShown<T>(r) ? r : { row: r as T, gone: false }));
  const walk = (by: number): void => {
    const trs = [...(body.current?.querySelectorAll<HTMLElement>("tr") ?? [])];
    if (trs.length === 0) return;
    const at = trs.findIndex((tr) => tr.contains(document.activeElement));
    const next = trs[at < 0 ? (by > 0 ? 0 : trs.length - 1) : Math.min(trs.length - 1, Math.max(0, at + by))]!;
    const target = next.querySelector<HTMLElement>("[data-open]") ?? next.querySelector<HTMLElement>("a, button, input");
    target?.focus();
    next.scrollIntoView({ block: "nearest" });
  };
  useKeys([
    { key: "j", label: "Next row", run: () => walk(1) },
    { key: "k", label: "Previous row", run: () => walk(-1) },
    ...(choice ? [{
      key: "x", label: "Choose the row", run: () => {
        const box = document.activeElement?.closest("tr")?.querySelector<HTMLInputElement>("input[type=checkbox]");
        if (!box || !body.current?.contains(box)) return false;
        box.click();
        return undefined;
      },
    }] : []),
  ]);
  const choosable = all.filter((r) => choice?.can?.(r.row) ?? true);
  const choose = (key: string, on: boolean, range: boolean): void => {
    if (!choice) return;
    const ids = new Set(choice.ids);
    const keys = choosable.map((r) => id(r.row));
    const [a, b] = [keys.indexOf(anchor.current), keys.indexOf(key)];
    for (const k of range && a >= 0 ? keys.slice(Math.min(a, b), Math.max(a, b) + 1) : [key]) {
      if (on) ids.add(k);
      else ids.delete(k);
    }
    anchor.current = key;
    choice.set(ids);
  };
  const chosen = all.filter((r) => choice?.ids.has(id(r.row))).length;
  return (
    <div class="table" tabIndex={-1}>
      <table role="table" aria-label={label}>
        <thead role="rowgroup">
          <tr role="row">
            {choice ? (
              <th role="columnheader" class="check">
                <input
                  type="checkbox" aria-label="Choose all rows of this page" checked={chosen > 0 && chosen === choosable.length}
                  ref={(el) => { if (el) el.indeterminate = chosen > 0 && chosen < choosable.length; }}
                  onChange={(e) => choice.set(e.currentTarget.checked ? new Set(choosable.map((r) => id(r.row))) : new Set())}
                />
              </th>
            ) : null}
            {columns.map((c) => <th key={c.head} role="columnheader" scope="col" class={c.class}>{c.head.startsWith("-") ? <span class="hidden">{c.head.slice(1)}</span> : c.head}</th>)}
          </tr>
        </thead>
        <tbody role="rowgroup" ref={body}>
          {all.map(({ row, gone }) => {
            const key = id(row);
            const on = choice?.ids.has(key) ?? false;
            const current = now?.(row) ?? false;
            return (
              <tr
                key={key} role="row" class={`${gone ? "gone" : ""} ${on ? "on" : ""} ${current ? "now" : ""}`} title={gone ? "No longer in this list; this is how it was" : undefined}
                onClick={(e) => { if (link && plainClick(e)) e.currentTarget.querySelector<HTMLElement>("[data-open]")?.click(); }}
              >
                {choice ? (
                  <td role="cell" class="check">
                    <input type="checkbox" aria-label={`Choose ${key}`} checked={on} disabled={!(choice.can?.(row) ?? true)} onClick={(e) => choose(key, e.currentTarget.checked, e.shiftKey)} />
                  </td>
                ) : null}
                {columns.map((c, i) => (
                  <td key={c.head} role="cell" class={c.class} data-head={c.head.replace(/^-/, "")}>
                    {i === 0 && link ? <a class="open" href={link(row)} data-open="" aria-current={current ? "true" : undefined}>{c.cell(row)}</a> : c.cell(row)}
                  </td>
                ))}
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

/** A click on the row itself, not on something in it and not the end of marking text. */
function plainClick(e: MouseEvent): boolean {
  return e.target instanceof Element && !e.target.closest("a, button, input, label, summary, [role=menu]") && !window.getSelection()?.toString();
}

function isShown<T>(r: Shown<T> | T): r is Shown<T> {
  return typeof r === "object" && r !== null && "row" in r && "gone" in r;
}
