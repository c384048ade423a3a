// How fast a workflow goes, from what the page has seen of it.
import type { Counts } from "../gen/api.ts";
import { tally } from "../state.ts";
import { endedOf } from "./look.ts";

interface Sample {
  at: number;
  ended: number;
}

export interface Pace {
  /** Jobs ended per second. */
  rate: number;
  /** Milliseconds until all have ended, at this rate. */
  left: number | undefined;
}

const WINDOW = 30_000;

/** Counts what ends while the page looks; a minute of silence is forgotten. */
export class Pacer {
  private samples: Sample[] = [];
  private id = "";

  /** Takes note of the counts at a time and gives the pace of the last half minute. */
  note(id: string, jobs: Counts | undefined, at: number): Pace | undefined {
    const t = tally(jobs);
    const ended = endedOf(t);
    const last = this.samples.at(-1);
    if (id !== this.id || (last && (ended < last.ended || at < last.at))) {
      this.samples = [];
      this.id = id;
    }
    if (this.samples.at(-1)?.ended !== ended || at - (this.samples.at(-1)?.at ?? 0) > 1000) this.samples.push({ at, ended });
    while (this.samples.length > 2 && this.samples[1]!.at < at - WINDOW) this.samples.shift();
    const first = this.samples[0]!;
    if (at - first.at < 1500 || ended === first.ended) return undefined;
    const rate = ((ended - first.ended) / (at - first.at)) * 1000;
    return { rate, left: t.total > ended ? ((t.total - ended) / rate) * 1000 : undefined };
  }
}
