// What an operator can do to a job, a batch or a workflow. Every page offers the
// same, from here; what the caller may not do, or what cannot apply in the
// node's state, is left out.
import { isOperator } from "./access.ts";
import { confirm, type Question } from "./components/dialog.tsx";
import { toast } from "./components/toast.tsx";
import { plural } from "./format.ts";
import { refresh } from "./live.ts";
import { explain } from "./rpc.ts";
import { call } from "./rpc.ts";
import { go } from "./router.ts";
import { ended, type StateName } from "./state.ts";

export interface Action {
  label: string;
  /** Removes or stops something. */
  danger?: boolean;
  /** Asks first if need be, does it and tells the outcome. */
  run: () => void;
}

/** Does something and says how it went; done gives the text for success. */
export async function perform<T>(what: () => Promise<T>, done: (t: T) => string): Promise<boolean> {
  try {
    toast(done(await what()));
    refresh();
    return true;
  } catch (e) {
    toast(explain(e), "error");
    return false;
  }
}

/** A node as actions need to know it. */
export interface Target {
  workflowId: string;
  /** 0: the workflow itself. */
  node: number;
  /** As people know it: its name, or its kind. */
  label: string;
  state: StateName;
  /** Failed with edges that wait for a decision. */
  held?: boolean;
}

/** Actions on a job. */
export function jobActions(t: Target): Action[] {
  if (!isOperator.value) return [];
  const list: Action[] = [];
  if (t.state === "failed" || t.state === "cancelled") list.push(retry(t, "job"), dismiss(t));
  if (t.state === "scheduled" || t.state === "retryable") list.push(runNow(t));
  if (t.held) list.push(giveUp(t));
  if (!ended(t.state)) list.push(cancel(t, "job"));
  return list;
}

/** Actions on a batch; open: it does not end until sealed. */
export function batchActions(t: Target & { open?: boolean; failed: number }): Action[] {
  if (!isOperator.value) return [];
  const list: Action[] = [];
  if (t.failed > 0 || t.state === "failed" || t.state === "cancelled") list.push(retry(t, "batch"));
  if (t.open && !ended(t.state)) list.push(seal(t));
  if (t.held) list.push(giveUp(t));
  if (!ended(t.state)) list.push(cancel(t, "batch"));
  return list;
}

/** Actions on a workflow. */
export function workflowActions(t: Omit<Target, "node"> & { paused: boolean; failed: number; open?: boolean }): Action[] {
  if (!isOperator.value) return [];
  const root = { ...t, node: 0 };
  const list: Action[] = [];
  if (t.failed > 0 || t.state === "failed" || t.state === "cancelled") list.push(retry(root, "workflow"));
  if (!ended(t.state)) {
    list.push(t.paused ? resume(root) : pause(root));
    if (t.open) list.push(seal(root));
    list.push(cancel(root, "workflow"));
  } else {
    list.push(remove(root, "workflow"));
  }
  return list;
}

/** Removes an ended workflow or lone job. */
export function remove(t: Target, word: "workflow" | "job"): Action {
  return asking(`Delete`, {
    title: `Delete the ${word} ${t.label}?`,
    text: `The ${word} and its history, results and errors are removed for good.`,
    action: "Delete",
    danger: true,
  }, async () => {
    await call("WorkflowService/Delete", { workflowId: t.workflowId });
    go(word === "job" ? "/jobs" : "/workflows");
    return `Deleted ${t.label}`;
  });
}

function retry(t: Target, word: "job" | "batch" | "workflow"): Action {
  const all = word === "job" ? "" : " failed";
  return asking(word === "job" ? "Retry" : "Retry failed", {
    title: word === "job" ? `Retry ${t.label}?` : `Retry all that failed in ${t.label}?`,
    text: word === "job"
      ? "The job runs again with a full budget of attempts. What was skipped because of it waits again, and the batches around it run on."
      : `All${all} and cancelled jobs below run again with a full budget of attempts. What was skipped because of them waits again.`,
    action: "Retry",
    options: [{ name: "downstream", label: "Also run again what already ran after it, failure branches included" }],
  }, async (a) => {
    const answer = await call("WorkflowService/Retry", { ...address(t), downstream: a.downstream ?? false });
    return `${plural(answer.jobs ?? 0, "job")} of ${t.label} will run again`;
  });
}

function cancel(t: Target, word: "job" | "batch" | "workflow"): Action {
  return asking("Cancel", {
    title: `Cancel the ${word} ${t.label}?`,
    text: word === "job"
      ? "A waiting job ends at once. A running one is told, and ends as succeeded if its handler still succeeds."
      : `Jobs of this ${word} that wait end at once; running ones are told.`,
    action: `Cancel ${word}`,
    danger: true,
    options: word === "job" ? [] : [{ name: "force", label: "Also the nodes marked as cleanup" }],
  }, async (a) => {
    await call("WorkflowService/Cancel", { ...address(t), force: a.force ?? false });
    return `Cancelled ${t.label}`;
  }, true);
}

function dismiss(t: Target): Action {
  return {
    label: "Dismiss",
    run: () => void confirm({
      title: `Dismiss ${t.label}?`,
      text: "The job counts as succeeded from now on, and the graph goes on as if it had. The note says why, for those who come later.",
      action: "Dismiss",
      note: true,
    }).then((a) => a && perform(() => call("WorkflowService/Dismiss", { ...address(t), note: a.note }), () => `Dismissed ${t.label}`)),
  };
}

function giveUp(t: Target): Action {
  return asking("Give up", {
    title: `Give up on ${t.label}?`,
    text: "It stays failed, and what still waits for a decision about it is skipped.",
    action: "Give up",
    danger: true,
  }, async () => {
    await call("WorkflowService/GiveUp", address(t));
    return `Gave up on ${t.label}`;
  });
}

function seal(t: Target): Action {
  return asking("Seal", {
    title: `Seal ${t.label}?`,
    text: "Nothing more can be added from outside, and it ends with its last member.",
    action: "Seal",
  }, async () => {
    await call("WorkflowService/Seal", address(t));
    return `Sealed ${t.label}`;
  });
}

function runNow(t: Target): Action {
  return {
    label: "Run now",
    run: () => void perform(() => call("JobService/RunNow", { id: `${t.workflowId}/${t.node}` }), () => `${t.label} is due now`),
  };
}

function pause(t: Target): Action {
  return {
    label: "Pause",
    run: () => void perform(() => call("WorkflowService/Pause", { workflowId: t.workflowId }), () => `Paused ${t.label}: nothing new starts, running jobs finish`),
  };
}

function resume(t: Target): Action {
  return {
    label: "Resume",
    run: () => void perform(() => call("WorkflowService/Resume", { workflowId: t.workflowId }), () => `Resumed ${t.label}`),
  };
}

function asking(label: string, q: Question, does: (options: Record<string, boolean>) => Promise<string>, danger?: boolean): Action {
  return {
    label,
    ...(q.danger || danger ? { danger: true } : {}),
    run: () => void confirm(q).then((a) => a && perform(() => does(a.options), (text) => text)),
  };
}

/** How commands name a node: by number; the workflow by its id alone. */
function address(t: Target): { workflowId: string; node?: number } {
  return t.node === 0 ? { workflowId: t.workflowId } : { workflowId: t.workflowId, node: t.node };
}
