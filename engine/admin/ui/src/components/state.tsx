import type { ComponentChildren, JSX } from "preact";
import { number } from "../format.ts";
import type { Counts, State } from "../gen/api.ts";
import { stateIcons, stateName, states, tally, type StateName } from "../state.ts";
import { Drawing } from "./icon.tsx";

/** A state: icon and word. */
export function StateBadge({ state, paused, children }: { state: State | StateName | undefined; paused?: boolean; children?: ComponentChildren }): JSX.Element {
  const name = byWord(state);
  return (
    <span class="badge" data-state={name}>
      <Drawing path={stateIcons[name]} />
      <span>{children ?? name}</span>
      {paused ? <span class="tag warn">paused</span> : null}
    </span>
  );
}

/** The icon alone, where the word stands elsewhere: in a heading, for example. */
export function StateIcon({ state }: { state: State | StateName | undefined }): JSX.Element {
  const name = byWord(state);
  return (
    <span class="badge" data-state={name} role="img" aria-label={name} title={name}>
      <Drawing path={stateIcons[name]} />
    </span>
  );
}

/** Counts by state as one bar; the text says the same. */
export function StackedBar({ counts, class: extra }: { counts: Counts | undefined; class?: string }): JSX.Element {
  const t = tally(counts);
  const known = states.reduce((sum, s) => sum + t[s], 0);
  // What is counted in the total alone (batches inside a batch that have not
  // ended) leaves the bar empty.
  const all = Math.max(known, t.total);
  const text = states.filter((s) => t[s] > 0).map((s) => `${number(t[s])} ${s}`).join(", ") || "nothing";
  return (
    <div class={extra ? `bar ${extra}` : "bar"} role="img" aria-label={text} title={text}>
      {states.filter((s) => t[s] > 0).map((s) => <span key={s} data-state={s} style={{ flexGrow: String(t[s] / all), flexBasis: "0" }} />)}
      {all > known ? <i style={{ flexGrow: String((all - known) / all) }} /> : null}
    </div>
  );
}

/** The counts in words: only those that are not zero. With link, each leads somewhere. */
export function Legend({ counts, link }: { counts: Counts | undefined; link?: (s: StateName) => string }): JSX.Element {
  const t = tally(counts);
  return (
    <ul class="legend">
      {states.filter((s) => t[s] > 0).map((s) => {
        const text = <StateBadge state={s}><b class="num">{number(t[s])}</b> {s}</StateBadge>;
        return <li key={s}>{link ? <a href={link(s)}>{text}</a> : text}</li>;
      })}
    </ul>
  );
}

function byWord(state: State | StateName | undefined): StateName {
  return state && states.includes(state as StateName) ? (state as StateName) : stateName(state as State | undefined);
}
