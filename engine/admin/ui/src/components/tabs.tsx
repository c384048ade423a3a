import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { withQuery } from "../router.ts";

export interface Tab {
  /** Value in the address; "" is the first one. */
  value: string;
  label: ComponentChildren;
  count?: string | undefined;
}

/** Links that choose what a page shows, kept in the address under the given name. */
export function Tabs({ name, tabs, now, label }: { name: string; tabs: Tab[]; now: string; label: string }): JSX.Element {
  const nav = useRef<HTMLElement>(null);
  useEffect(() => {
    const bar = nav.current;
    const tab = bar?.querySelector<HTMLElement>("[aria-current]");
    if (bar && tab) bar.scrollLeft = tab.offsetLeft - bar.offsetLeft - (bar.clientWidth - tab.offsetWidth) / 2;
  }, [now]);
  return (
    <nav class="tabs" aria-label={label} ref={nav}>
      {tabs.map((t) => (
        <a key={t.value} href={withQuery({ [name]: t.value, page: null })} aria-current={t.value === now ? "page" : undefined}>
          {t.label}
          {t.count !== undefined ? <span class="count num">{t.count}</span> : null}
        </a>
      ))}
    </nav>
  );
}
