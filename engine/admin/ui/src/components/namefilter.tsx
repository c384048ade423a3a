import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Icon } from "./icon.tsx";

/** One line that filters by a name when Enter is pressed. */
export function NameFilter({ value, set, label }: { value: string; set: (v: string) => void; label: string }): JSX.Element {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  return (
    <form class="search namefilter" role="search" aria-label="Filter" onSubmit={(e) => { e.preventDefault(); set(text.trim()); }}>
      <div class="line">
        <Icon name="filter" />
        <input type="text" aria-label={label} placeholder={label} value={text} spellcheck={false} onInput={(e) => setText(e.currentTarget.value)} />
        {text !== value ? <button type="submit" class="small">Filter</button> : null}
        {value ? <button type="button" class="quiet small" aria-label="Clear the filter" onClick={() => set("")}><Icon name="close" /></button> : null}
      </div>
    </form>
  );
}
