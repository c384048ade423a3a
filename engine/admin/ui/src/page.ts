// Pages of a list that is read by keys, newest first. Rows do not jump: what a
// list shows changes in place, and what is new is only counted until the person
// asks for it.
import { useRef } from "preact/hooks";
import { useLoad, type Loaded } from "./load.ts";
import { param } from "./router.ts";

export interface PageOf<T> {
  rows: T[];
  /** Token of the next page, "" if this is the last. */
  next: string;
  /** The search had a budget and ended at this time. */
  searchedBackTo?: string | undefined;
}

export interface Shown<T> {
  row: T;
  /** The row is not in the list any more: this is how it was. */
  gone: boolean;
}

export interface List<T> {
  read: Loaded<PageOf<T>>;
  rows: Shown<T>[];
  /** Rows that the list has and this page does not show yet. */
  fresh: number;
  /** Shows them. */
  showFresh: () => void;
  next: string;
  size: number;
}

export const sizes = [20, 50, 100, 500] as const;

/** The page size in the address. */
export function pageSize(): number {
  const n = Number(param("size"));
  return sizes.includes(n as 20) ? n : 50;
}

/** What a page showed when it was drawn, and how its rows were last seen. */
export interface Drawn<T> {
  ids: readonly string[];
  last: ReadonlyMap<string, T>;
}

/** A page as it came. */
export function draw<T>(rows: readonly T[], id: (t: T) => string): Drawn<T> {
  return { ids: rows.map(id), last: new Map(rows.map((r) => [id(r), r])) };
}

/**
 * The rows of a drawn page after it was read again: in their old places, with
 * what became of them. A row that is missing has left the list if one behind it
 * is there, or if there are no more pages; else newer rows have pushed it on.
 */
export function settle<T>(drawn: Drawn<T>, rows: readonly T[], more: boolean, id: (t: T) => string): { drawn: Drawn<T>; rows: Shown<T>[]; fresh: number } {
  const latest = new Map(rows.map((r) => [id(r), r]));
  const last = new Map(drawn.last);
  for (const [k, r] of latest) if (last.has(k)) last.set(k, r);
  const reach = more ? drawn.ids.findLastIndex((k) => latest.has(k)) : drawn.ids.length;
  return {
    drawn: { ids: drawn.ids, last },
    rows: drawn.ids.map((k, i) => ({ row: last.get(k)!, gone: i < reach && !latest.has(k) })),
    fresh: [...latest.keys()].filter((k) => !last.has(k)).length,
  };
}

/**
 * A page of a list. The key says which list and filter; the page comes from the
 * address. Only the first page is read again and again: the others lie in the past.
 */
export function useList<T>(key: string, read: (page: { pageSize: number; pageToken: string }, signal: AbortSignal) => Promise<PageOf<T>>, id: (t: T) => string, every = 5000): List<T> {
  const size = pageSize();
  const token = param("page");
  const whole = key === "" ? "" : `${key} ${size} ${token}`;
  const loaded = useLoad(whole, (signal) => read({ pageSize: size, pageToken: token }, signal), token === "" ? every : undefined);
  const shown = useRef<{ key: string; drawn: Drawn<T> }>({ key: "", drawn: draw<T>([], id) });
  const { data, stale } = loaded;
  const take = (page: PageOf<T>): void => {
    shown.current = { key: whole, drawn: draw(page.rows, id) };
  };
  if (data && !stale && (shown.current.key !== whole || shown.current.drawn.ids.length === 0)) take(data);
  // Until what is asked for has come, the last list stays as it was.
  const { drawn } = shown.current;
  const settled = settle(drawn, stale || !data ? [...drawn.last.values()] : data.rows, !!data?.next, id);
  shown.current.drawn = settled.drawn;
  return {
    read: loaded,
    rows: settled.rows,
    fresh: settled.fresh,
    showFresh: () => {
      if (data) take(data);
      loaded.reload();
    },
    next: data?.next ?? "",
    size,
  };
}
