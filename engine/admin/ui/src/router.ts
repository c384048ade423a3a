// The address of the page is its state: the path says which page, the query
// says the rest (filters, tabs, selection, what is open).
import { computed, signal } from "@preact/signals";
import { base } from "./rpc.ts";

const location = typeof window === "undefined" ? new URL("http://localhost/") : window.location;
const address = signal(location.pathname + location.search);

/** Path below the base, with a leading slash: "/jobs". */
export const path = computed(() => {
  const p = decoded(address.value.split("?", 1)[0]!);
  return p.startsWith(base) ? p.slice(base.length - 1) : "/";
});

/** The query. */
export const query = computed(() => new URLSearchParams(address.value.split("?", 2)[1] ?? ""));

/** A value of the query, "" if it is not there. */
export function param(name: string): string {
  return query.value.get(name) ?? "";
}

/** The pieces of the path: ["jobs", workflow, node]. */
export const pieces = computed(() => path.value.split("/").filter((s) => s !== ""));

export type Query = Record<string, string | number | boolean | null | undefined>;

/** The address of a page, for links: href("/jobs", { state: "failed" }). */
export function href(to: string, q: Query = {}): string {
  return base + to.replace(/^\//, "") + search(q, new URLSearchParams());
}

/** Goes to a page. */
export function go(to: string, q: Query = {}, how: { replace?: boolean } = {}): void {
  move(href(to, q), how.replace ?? false);
}

/** Changes values of the query; null, "", false and undefined take one away. */
export function setQuery(q: Query, how: { replace?: boolean } = {}): void {
  move(location.pathname + search(q, new URLSearchParams(query.peek())), how.replace ?? false);
}

/** The address with values of the query changed, for links that stay on the page. */
export function withQuery(q: Query): string {
  return base + path.value.slice(1) + search(q, new URLSearchParams(query.value));
}

/** Takes over the browser's history and clicks on links of the page. Call it once. */
export function startRouter(): void {
  window.addEventListener("popstate", () => {
    address.value = location.pathname + location.search;
  });
  document.addEventListener("click", (e) => {
    if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
    const a = e.target instanceof Element ? e.target.closest("a[href]") : null;
    if (!(a instanceof HTMLAnchorElement) || a.target || a.hasAttribute("download") || a.origin !== window.location.origin || !a.pathname.startsWith(base)) return;
    e.preventDefault();
    const stays = a.pathname === window.location.pathname;
    move(a.pathname + a.search, false);
    if (!stays) window.scrollTo(0, 0);
  });
}

function move(to: string, replace: boolean): void {
  if (to === address.peek()) return;
  window.history[replace ? "replaceState" : "pushState"](null, "", to);
  address.value = to;
}

function search(q: Query, into: URLSearchParams): string {
  for (const [k, v] of Object.entries(q)) {
    if (v === null || v === undefined || v === "" || v === false) into.delete(k);
    else into.set(k, v === true ? "1" : String(v));
  }
  const s = into.toString().replaceAll("%3A", ":").replaceAll("%2F", "/").replaceAll("%2C", ",");
  return s === "" ? "" : "?" + s;
}

function decoded(s: string): string {
  try {
    return decodeURIComponent(s);
  } catch {
    return s;
  }
}
