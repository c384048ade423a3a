import type { ComponentChildren, JSX } from "preact";
import type { Loaded } from "../load.ts";
import { RpcError } from "../rpc.ts";
import { Icon, type IconName } from "./icon.tsx";

/** Something to know. */
export function Notice({ kind = "info", children }: { kind?: "info" | "warn" | "error"; children: ComponentChildren }): JSX.Element {
  const icon: IconName = kind === "info" ? "info" : "warning";
  return (
    <div class={`notice ${kind}`} role={kind === "error" ? "alert" : undefined}>
      <Icon name={icon} />
      <div class="grow">{children}</div>
    </div>
  );
}

/** What went wrong, with a way to try again. */
export function Failure({ error, retry }: { error: RpcError; retry?: () => void }): JSX.Element {
  return (
    <Notice kind="error">
      <div class="row">
        <span class="grow">{sentence(error)}</span>
        {retry ? <button type="button" class="small" onClick={retry}>Try again</button> : null}
      </div>
    </Notice>
  );
}

/** Shows what was read, or why there is nothing yet. */
export function Loading<T>({ of, children }: { of: Loaded<T>; children: (data: T) => ComponentChildren }): JSX.Element {
  return (
    <>
      {of.error ? <Failure error={of.error} retry={of.reload} /> : null}
      {of.data !== undefined && !(of.stale && of.error)
        ? <div class={of.stale ? "stack faded" : "stack"} aria-busy={of.loading}>{children(of.data)}</div>
        : of.error ? null : <p class="loading" role="status">Loading…</p>}
    </>
  );
}

/** An error as a sentence. */
export function sentence(error: RpcError): string {
  const text = error.message.charAt(0).toUpperCase() + error.message.slice(1) + (/[.!?]$/.test(error.message) ? "" : ".");
  switch (error.code) {
    case "unimplemented":
      return `This engine cannot do that: ${error.message}.`;
    case "permission_denied":
      return `You may not do that: ${error.message}.`;
    default:
      return text;
  }
}
