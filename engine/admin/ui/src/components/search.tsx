import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { parseTokens, tokenHelp, tokenNames, writeTokens, type Token } from "../filter.ts";
import { Icon } from "./icon.tsx";

/** A line for tokens, with the tokens in force as chips that can be taken away. */
export function TokenSearch({ value, set }: { value: string; set: (text: string) => void }): JSX.Element {
  const tokens = parseTokens(value);
  const [text, setText] = useState("");
  const [focus, setFocus] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => setText(""), [value]);
  const word = text.split(/\s+/).at(-1) ?? "";
  const offers = word.includes(":") ? [] : tokenNames.filter((n) => n.startsWith(word.toLowerCase()));
  const add = (): void => {
    const added = parseTokens(text);
    if (added.length > 0) set(writeTokens([...tokens.filter((t) => !added.some((a) => a.name === t.name)), ...added]));
  };
  return (
    <form class="search" role="search" aria-label="Filter" onSubmit={(e) => { e.preventDefault(); add(); }}
      onFocusIn={() => setFocus(true)} onFocusOut={(e) => { if (!(e.relatedTarget instanceof Node && e.currentTarget.contains(e.relatedTarget))) setFocus(false); }}>
      <div class="line">
        <Icon name="filter" />
        <Chips tokens={tokens} remove={(t) => { set(writeTokens(tokens.filter((o) => o !== t))); field.current?.focus(); }} />
        <input
          ref={field} type="text" aria-label="Filter by tokens" placeholder={tokens.length > 0 ? "Add a token" : "kind:mail.send queue:bulk error:timeout"} value={text} spellcheck={false} autocomplete="off" autocapitalize="off"
          onInput={(e) => setText(e.currentTarget.value)}
          onKeyDown={(e) => {
            if (e.key === "Backspace" && text === "" && tokens.length > 0) set(writeTokens(tokens.slice(0, -1)));
            else if (e.key === "Escape") e.currentTarget.blur();
          }}
        />
        {text ? <button type="submit" class="small">Filter</button> : null}
      </div>
      {focus && offers.length > 0 ? (
        <div class="offers">
          {offers.map((n) => (
            <button key={n} type="button" class="quiet" onClick={() => { setText(text.slice(0, text.length - word.length) + n + ":"); field.current?.focus(); }}>
              <code>{n}:</code><span class="muted">{tokenHelp[n]}</span>
            </button>
          ))}
        </div>
      ) : null}
    </form>
  );
}

/** Tokens, each with a cross. */
export function Chips({ tokens, remove }: { tokens: Token[]; remove: (t: Token) => void }): JSX.Element {
  return (
    <>
      {tokens.map((t) => (
        <span key={t.name} class="chip">
          <span class="muted">{t.name}:</span><span class="clip">{t.value}</span>
          <button type="button" class="quiet" aria-label={`Remove ${t.name}: ${t.value}`} onClick={() => remove(t)}><Icon name="close" /></button>
        </span>
      ))}
    </>
  );
}
