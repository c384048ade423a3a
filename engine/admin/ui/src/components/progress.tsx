import type { JSX } from "preact";
import { number } from "../format.ts";
import type { Operation } from "../gen/api.ts";

/** How far an operation is: changed, passed over, failed, still to come. */
export function OperationBar({ of }: { of: Operation }): JSX.Element {
  const [changed, passed, failed, done] = [of.changed, of.passedOver, of.failed, of.done].map((n) => Number(n ?? 0)) as [number, number, number, number];
  const left = of.finishedAt && !of.stopRequested ? 0 : Math.max(0, Number(of.total ?? 0) - done);
  const sum = Math.max(1, changed + passed + failed + left);
  const part = (n: number, state: string): JSX.Element | null => (n > 0 ? <span data-state={state} style={{ flexGrow: String(n / sum), flexBasis: "0" }} /> : null);
  const text = `${number(changed)} changed, ${number(passed)} passed over, ${number(failed)} failed, ${number(left)} ${of.finishedAt ? "left alone" : "to come"}`;
  return (
    <div class="bar thick" role="img" aria-label={text} title={text}>
      {part(changed, "succeeded")}{part(passed, "skipped")}{part(failed, "failed")}
      {left > 0 ? <i style={{ flexGrow: String(left / sum) }} /> : null}
    </div>
  );
}

/** A length beside others. */
export function Share({ of }: { of: number }): JSX.Element {
  return <div class="bar" aria-hidden="true"><span class="share" style={{ flexGrow: String(of), flexBasis: "0" }} /><i style={{ flexGrow: String(1 - of) }} /></div>;
}
