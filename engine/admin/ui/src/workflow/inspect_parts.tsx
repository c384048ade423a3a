// Pieces that the inspector is made of.
import type { ComponentChildren, JSX } from "preact";
import { condition } from "../components/relatives.tsx";
import { StateIcon } from "../components/state.tsx";
import { number } from "../format.ts";
import type { BatchName, Relative } from "../gen/api.ts";
import { param, setQuery, withQuery } from "../router.ts";

export function Part({ title, children, count }: { title: string; children: ComponentChildren; count?: string }): JSX.Element {
  return (
    <section class="wf-part">
      <h3>{title}{count ? <span class="num"> {count}</span> : null}</h3>
      {children}
    </section>
  );
}

/** A link that chooses a node and stays on the page. */
export function NodeLink({ node, children }: { node: number; children: ComponentChildren }): JSX.Element {
  return <a class="clip" href={withQuery({ sel: node })}>{children}</a>;
}

/** What stands directly before or after. */
export function Around({ title, list, total }: { title: string; list: Relative[] | undefined; total: number }): JSX.Element | null {
  if (!list?.length) return null;
  return (
    <Part title={title} count={number(total)}>
      <ul class="wf-nodes">
        {list.slice(0, 50).map((r) => (
          <li key={r.node}>
            <StateIcon state={r.state} />
            <NodeLink node={r.node ?? 0}>{r.name || r.kind || `batch ${r.node}`}</NodeLink>
            {condition(r.on) ? <span class="tag">{condition(r.on)}</span> : null}
            {r.died ? <span class="tag" title="This edge cannot fire any more">died</span> : null}
          </li>
        ))}
      </ul>
      {total > Math.min(50, list.length) ? <p class="muted">The first {number(Math.min(50, list.length))} of {number(total)}.</p> : null}
    </Part>
  );
}

/** The batches around a node, from the workflow inwards. */
export function Inside({ around }: { around: BatchName[] | undefined }): JSX.Element | null {
  const batches = (around ?? []).filter((b) => (b.node ?? 0) !== 0);
  if (batches.length === 0) return null;
  return (
    <p class="wf-inside muted">in {batches.map((b, i) => <>{i > 0 ? " / " : ""}<NodeLink node={b.node ?? 0}>{b.name || `batch ${b.node}`}</NodeLink></>)}</p>
  );
}

/** Draws only this node with what is before and behind it. */
export function Isolate({ node }: { node: number }): JSX.Element {
  const on = param("only") === String(node);
  return (
    <button type="button" class="small" aria-pressed={on} title="Draw only this node with all that is before and behind it" onClick={() => setQuery({ only: on ? null : node, view: null, sel: node })}>
      {on ? "Show all" : "Isolate"}
    </button>
  );
}
