import { signal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

/** A question before something is done. */
export interface Question {
  title: string;
  text?: ComponentChildren;
  /** Word on the button that does it: "Cancel jobs". */
  action: string;
  danger?: boolean;
  /** Asks for a note that the record keeps. */
  note?: boolean;
  /** Asks for one line; its label. */
  field?: string;
  /** Things to tick, by name. */
  options?: { name: string; label: string }[];
}

export interface Answer {
  note: string;
  field: string;
  options: Record<string, boolean>;
}

const asked = signal<{ question: Question; settle: (a: Answer | undefined) => void } | undefined>(undefined);

/** Asks a person; undefined means no. */
export function confirm(question: Question): Promise<Answer | undefined> {
  return new Promise((settle) => {
    asked.value = { question, settle };
  });
}

/** Where questions appear; once in the frame. */
export function Questions(): JSX.Element | null {
  const now = asked.value;
  if (!now) return null;
  const answer = (a: Answer | undefined): void => {
    asked.value = undefined;
    now.settle(a);
  };
  return <Ask question={now.question} answer={answer} />;
}

function Ask({ question, answer }: { question: Question; answer: (a: Answer | undefined) => void }): JSX.Element {
  const [note, setNote] = useState("");
  const [field, setField] = useState("");
  const [options, setOptions] = useState<Record<string, boolean>>({});
  return (
    <Dialog title={question.title} close={() => answer(undefined)}>
      <form method="dialog" class="stack" onSubmit={(e) => { e.preventDefault(); answer({ note: note.trim(), field: field.trim(), options }); }}>
        {question.text ? <div>{question.text}</div> : null}
        {question.field ? (
          <label class="field">{question.field}
            <input value={field} onInput={(e) => setField(e.currentTarget.value)} autoFocus />
          </label>
        ) : null}
        {question.note ? (
          <label class="field">Note, kept with the record
            <input value={note} maxLength={500} onInput={(e) => setNote(e.currentTarget.value)} autoFocus={!question.field} />
          </label>
        ) : null}
        {question.options?.map((o) => (
          <label key={o.name} class="row">
            <input type="checkbox" checked={options[o.name] ?? false} onChange={(e) => setOptions({ ...options, [o.name]: e.currentTarget.checked })} />
            <span class="grow">{o.label}</span>
          </label>
        ))}
        <div class="row actions">
          <button type="button" onClick={() => answer(undefined)}>Back</button>
          <button type="submit" class={question.danger ? "primary danger" : "primary"} autoFocus={!question.note && !question.field}>{question.action}</button>
        </div>
      </form>
    </Dialog>
  );
}

/** A window over the page that keeps the focus until it is closed. */
export function Dialog({ title, close, wide, children }: { title: string; close: () => void; wide?: boolean; children: ComponentChildren }): JSX.Element {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const was = document.activeElement;
    box.current?.showModal();
    return () => {
      if (was instanceof HTMLElement && was.isConnected) was.focus();
    };
  }, []);
  return (
    <dialog
      ref={box} class={wide ? "wide" : ""} aria-labelledby="dialog-title"
      onCancel={(e) => { e.preventDefault(); close(); }}
      onClick={(e) => { if (e.target === e.currentTarget) close(); }}
    >
      <div class="stack inner">
        <h2 id="dialog-title">{title}</h2>
        {children}
      </div>
    </dialog>
  );
}
