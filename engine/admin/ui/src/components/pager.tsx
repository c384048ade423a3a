import type { JSX } from "preact";
import { plural } from "../format.ts";
import { sizes, type List } from "../page.ts";
import { param, setQuery, withQuery } from "../router.ts";
import { Icon } from "./icon.tsx";
import { At } from "./time.tsx";

// Which page led to which, as far as this tab has walked: tokens only go forward.
const before = new Map<string, string>();

/** Ways through a list, below it. */
export function Pager<T>({ list }: { list: List<T> }): JSX.Element {
  const here = param("page");
  const back = before.get(here);
  const until = list.read.data?.searchedBackTo;
  return (
    <div class="pager">
      {until && list.next ? <p class="muted">Searched back to <At at={until} />. The next page goes on from there.</p> : null}
      <nav class="row" aria-label="Pages of the list">
        <label class="row muted">
          Rows
          <select class="small" value={String(list.size)} onChange={(e) => setQuery({ size: e.currentTarget.value === "50" ? null : e.currentTarget.value, page: null })}>
            {sizes.map((s) => <option key={s} value={String(s)}>{s}</option>)}
          </select>
        </label>
        <span class="grow" />
        {here ? <a class="button small" href={withQuery({ page: null })}><Icon name="first" />Newest</a> : null}
        {here && back !== undefined ? <a class="button small" href={withQuery({ page: back })}><Icon name="left" />Newer</a> : null}
        {list.next ? (
          <a class="button small" rel="next" href={withQuery({ page: list.next })} onClick={() => before.set(list.next, here)}>Older<Icon name="right" /></a>
        ) : null}
      </nav>
    </div>
  );
}

/** "37 new": rows that came since the list was drawn. */
export function Fresh<T>({ list, word, words, over }: { list: List<T>; word: string; words?: string; over?: boolean }): JSX.Element {
  const n = list.fresh;
  return (
    <div class={over ? "fresh over" : "fresh"} aria-live="polite">
      {n > 0 ? <button type="button" class="small" onClick={list.showFresh}><Icon name="up" />{n >= list.size ? `${n}+` : n} new {plural(n, word, words).replace(/^[\d,]+ /, "")}</button> : null}
    </div>
  );
}
