import type { JSX } from "preact";

/** The text of an error: its first lines, with the stack behind it folded. */
export function ErrorText({ text }: { text: string }): JSX.Element {
  const lines = text.trimEnd().split("\n");
  const from = stackAt(lines);
  const message = lines.slice(0, from).join("\n");
  const stack = lines.slice(from);
  return (
    <div class="stack tight">
      <pre class="code wrap error-text" tabIndex={0} aria-label="Error">{message}</pre>
      {stack.length > 0 ? (
        <details class="fold">
          <summary>Stack, {stack.length} lines</summary>
          <pre class="code" tabIndex={0} aria-label="Stack">{stack.join("\n")}</pre>
        </details>
      ) : null}
    </div>
  );
}

/** The first line of an error. */
export function firstLine(text: string | undefined): string {
  return (text ?? "").split("\n", 1)[0]!;
}

/** Where the stack begins: at Go's "goroutine 1 [running]:", or after eight lines of anything. */
function stackAt(lines: string[]): number {
  const go = lines.findIndex((l) => /^goroutine \d+ \[/.test(l) || /^\S+\(.*\)$/.test(l) && lines.length > 3);
  if (go > 0) return go;
  return lines.length > 8 ? 6 : lines.length;
}
