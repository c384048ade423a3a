// What is chosen, beside every view: a job, a batch or a card of many.
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Icon } from "../components/icon.tsx";
import { cardOf, choose, chosen } from "./choice.ts";
import { InspectBatch } from "./inspect_batch.tsx";
import { InspectCard } from "./inspect_card.tsx";
import { InspectJob } from "./inspect_job.tsx";
import type { Model } from "./model.ts";

export function Inspector({ id, model }: { id: string; model: Model }): JSX.Element | null {
  const sel = chosen();
  const box = useRef<HTMLElement>(null);
  const key = sel ? `${sel.card ?? ""}.${sel.node ?? ""}` : "";
  useEffect(() => {
    if (box.current) box.current.scrollTop = 0;
  }, [key]);
  if (!sel) return null;
  const card = model.scene ? cardOf(model.scene.graph, sel) : undefined;
  const batches = model.workflow?.batches ?? [];
  const isBatch = sel.node !== undefined && ((card?.node === sel.node && card.isBatch) || batches.some((b) => b.node === sel.node));
  return (
    <aside class="wf-inspector" id="wf-inspector" aria-label="Chosen node" tabIndex={-1} ref={box}>
      <button type="button" class="quiet small wf-close" aria-label="Close" title="Close (Esc)" onClick={() => choose(undefined, { up: null, down: null })}><Icon name="close" /></button>
      {sel.node !== undefined && card && card.node === 0
        ? <button type="button" class="link wf-back" onClick={() => choose({ card: card.first })}><Icon name="left" />All of {card.label}</button> : null}
      {sel.node !== undefined && !model.scene && !model.workflow ? <p class="loading" role="status">Loading…</p>
        : sel.node !== undefined
        ? isBatch ? <InspectBatch key={key} id={id} node={sel.node} model={model} /> : <InspectJob key={key} id={id} node={sel.node} model={model} card={card} />
        : card && model.scene ? <InspectCard key={key} id={id} card={card} scene={model.scene} />
        : model.scene ? <p class="muted">There is no such card in this graph any more.</p> : null}
    </aside>
  );
}
