import type { JSX } from "preact";
import { useKeys } from "../keyboard.ts";
import { number, plural } from "../format.ts";
import { bulkFor, isDangerous, startBulk, verb } from "../operations.ts";
import type { JobFilter } from "../gen/api.ts";
import type { StateName } from "../state.ts";

interface Props {
  /** Chosen jobs, as "<workflow id>/<node>". */
  ids: ReadonlySet<string>;
  /** All that match are chosen, not only those of the page. */
  all: boolean;
  setAll: (all: boolean) => void;
  clear: () => void;
  /** What "all" would be; without it there is no such choice. */
  filter?: JobFilter | undefined;
  /** States of the jobs shown; empty: any. */
  states: readonly StateName[];
  /** Whether the page does not show all that match. */
  more: boolean;
}

/** What can be done to the chosen jobs; stands below the list while there are any. */
export function BulkBar({ ids, all, setAll, clear, filter, states, more }: Props): JSX.Element | null {
  const any = ids.size > 0 || all;
  useKeys(any ? [{ key: "Escape", label: "Choose nothing", run: clear }] : []);
  if (!any) return null;
  const selection = all && filter ? { filter } : { ids: [...ids] };
  return (
    <div class="bulk" role="region" aria-label="Chosen jobs">
      <span class="num">{all ? "All that match are chosen" : `${plural(ids.size, "job")} chosen`}</span>
      {filter && more && !all ? <button type="button" class="link" onClick={() => setAll(true)}>Choose all that match</button> : null}
      {all ? <button type="button" class="link" onClick={() => setAll(false)}>Only the {number(ids.size)} of this page</button> : null}
      <span class="grow" />
      <div class="row">
        {bulkFor(states).map((a) => (
          <button
            key={a} type="button" class={isDangerous(a) ? "small danger" : "small"}
            onClick={() => void startBulk(a, selection).then((started) => started && clear())}
          >{verb(a)}</button>
        ))}
        <button type="button" class="small quiet" onClick={clear}>Choose nothing</button>
      </div>
    </div>
  );
}
