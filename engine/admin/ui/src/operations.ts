// One thing done to many jobs: the engine freezes the selection, works it off in
// chunks and keeps the record.
import { thisInstant } from "./clock.ts";
import { confirm } from "./components/dialog.tsx";
import { toast } from "./components/toast.tsx";
import { plural } from "./format.ts";
import type { Action as Bulk, Operation, Selection } from "./gen/api.ts";
import { refresh } from "./live.ts";
import { href } from "./router.ts";
import { call, explain } from "./rpc.ts";
import { uuidv7 } from "./uuid.ts";
import type { StateName } from "./state.ts";

export type { Bulk };

const words: Record<Bulk, { verb: string; text: string; danger?: boolean; on: readonly StateName[] }> = {
  ACTION_UNSPECIFIED: { verb: "Do", text: "", on: [] },
  ACTION_RETRY: { verb: "Retry", text: "They run again, each with a full budget of attempts.", on: ["failed", "cancelled"] },
  ACTION_RUN_NOW: { verb: "Run now", text: "What waits for a time becomes due at once.", on: ["scheduled", "retryable"] },
  ACTION_DISMISS: { verb: "Dismiss", text: "They count as succeeded from now on, and their graphs go on.", on: ["failed", "cancelled"] },
  ACTION_CANCEL: { verb: "Cancel", text: "Those that wait end at once; running ones are told.", danger: true, on: ["blocked", "scheduled", "available", "running", "retryable"] },
  ACTION_DELETE: { verb: "Delete", text: "Lone jobs are removed, and whole workflows that have ended, with their history.", danger: true, on: ["succeeded", "failed", "cancelled", "skipped"] },
};

/** Word of an action: "Retry". */
export function verb(a: Bulk | undefined): string {
  return words[a ?? "ACTION_UNSPECIFIED"].verb;
}

/** Actions that can apply to jobs in these states; to all states, if none is given. */
export function bulkFor(shown: readonly StateName[]): Bulk[] {
  return (Object.keys(words) as Bulk[]).filter((a) => words[a].on.some((s) => shown.length === 0 || shown.includes(s)));
}

export function isDangerous(a: Bulk): boolean {
  return words[a].danger ?? false;
}

/** Counts what an action would take on, asks, and starts it. True if it was started. */
export async function startBulk(action: Bulk, selection: Selection): Promise<boolean> {
  const w = words[action];
  try {
    const counted = await call("OperationService/Count", { action, selection });
    const jobs = Number(counted.jobs ?? 0);
    if (jobs === 0) {
      toast(`There is nothing to ${w.verb.toLowerCase()} among these jobs`, "error");
      return false;
    }
    const text = plural(jobs, "job").replace(" ", counted.more ? "+ " : " ");
    const answer = await confirm({
      title: `${w.verb} ${text}?`,
      text: `${w.text} What matches only later is not touched. Jobs to which this does not apply any more are passed over.`,
      action: `${w.verb} ${text}`,
      note: true,
      ...(w.danger ? { danger: true } : {}),
      options: action === "ACTION_RETRY" ? [{ name: "downstream", label: "Also run again what already ran after them" }]
        : action === "ACTION_CANCEL" ? [{ name: "force", label: "Also the nodes marked as cleanup" }] : [],
    });
    if (!answer) return false;
    const id = uuidv7(thisInstant());
    await call("OperationService/Start", {
      id, action, selection, note: answer.note, downstream: answer.options["downstream"] ?? false, force: answer.options["force"] ?? false,
    });
    toast(`${w.verb}: ${text}`, "done", { href: href(`/operations/${id}`), text: "Watch it" });
    refresh();
    return true;
  } catch (e) {
    toast(explain(e), "error");
    return false;
  }
}

/** How far an operation is, in words. */
export function progressOf(o: Operation): "running" | "stopping" | "stopped" | "done" {
  if (o.finishedAt) return o.stopRequested ? "stopped" : "done";
  return o.stopRequested ? "stopping" : "running";
}
