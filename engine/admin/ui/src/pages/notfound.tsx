import type { JSX } from "preact";
import { href, path } from "../router.ts";

export function NotFound(): JSX.Element {
  return (
    <div class="panel empty">
      <h1>There is no page {path.value}</h1>
      <p>Perhaps the link is of another version of Heddle. <a href={href("/")}>Go to the overview</a>.</p>
    </div>
  );
}
