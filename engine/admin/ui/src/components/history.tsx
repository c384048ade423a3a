import type { JSX } from "preact";
import { stretches } from "../attempts.ts";
import { now } from "../clock.ts";
import { clock, dateTime, duration } from "../format.ts";
import type { Job } from "../gen/api.ts";
import { ErrorText } from "./failure.tsx";
import { stateIcons } from "../state.ts";
import { Drawing } from "./icon.tsx";
import { StateIcon } from "./state.tsx";

/** A job's life: each wait and each attempt with its length, as a strip and in words. */
export function JobHistory({ job }: { job: Job }): JSX.Element {
  const list = stretches(job);
  const end = (to: number | undefined): number => to ?? now.value;
  const whole = Math.max(1, list.reduce((sum, s) => sum + Math.max(0, end(s.to) - s.from), 0));
  if (list.length === 0) return <p class="muted">Nothing has happened yet.</p>;
  return (
    <div class="stack">
      <div class="strip" aria-hidden="true">
        {list.map((s, i) => <span key={i} class={s.waits ? "wait" : ""} data-state={s.state} title={s.what} style={{ flexGrow: String(Math.max(0, end(s.to) - s.from) / whole), flexBasis: "0" }} />)}
      </div>
      <ol class="history">
        {list.map((s, i) => (
          <li key={i}>
            {s.waits && s.to !== undefined ? <span class="badge wait"><Drawing path={stateIcons.scheduled} /></span> : <StateIcon state={s.state} />}
            <span class={s.waits ? "muted" : "what"}>{s.what}{s.worker ? <span class="muted"> on {s.worker}</span> : null}</span>
            <span class="num">{duration(Math.max(0, end(s.to) - s.from))}</span>
            <span class="more muted num">
              <time dateTime={new Date(s.from).toISOString()}>{dateTime(s.from, true)}</time>
              {s.to !== undefined ? <> to <time dateTime={new Date(s.to).toISOString()}>{clock(s.to, true)}</time></> : " until now"}
            </span>
            {s.error ? <div class="more"><ErrorText text={s.error} /></div> : null}
          </li>
        ))}
      </ol>
    </div>
  );
}
