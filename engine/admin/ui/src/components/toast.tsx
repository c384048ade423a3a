import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { Icon } from "./icon.tsx";

interface Toast {
  id: number;
  text: string;
  kind: "done" | "error";
  link?: { href: string; text: string };
}

const shown = signal<readonly Toast[]>([]);
let last = 0;

/** Says something in the corner: errors until closed, the rest for a while. */
export function toast(text: string, kind: Toast["kind"] = "done", link?: Toast["link"]): void {
  const id = ++last;
  shown.value = [...shown.value.slice(-4), { id, text, kind, ...(link ? { link } : {}) }];
  if (kind === "done") window.setTimeout(() => close(id), link ? 12_000 : 6000);
}

function close(id: number): void {
  shown.value = shown.value.filter((t) => t.id !== id);
}

/** Where toasts appear; once in the frame. */
export function Toasts(): JSX.Element {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {shown.value.map((t) => (
        <div key={t.id} class={`toast ${t.kind}`}>
          <Icon name={t.kind === "error" ? "warning" : "check"} />
          <span class="grow">{t.text}{t.link ? <> <a href={t.link.href}>{t.link.text}</a></> : null}</span>
          <button type="button" class="quiet small" aria-label="Close" onClick={() => close(t.id)}><Icon name="close" /></button>
        </div>
      ))}
    </div>
  );
}
