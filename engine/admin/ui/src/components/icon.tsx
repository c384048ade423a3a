import type { JSX } from "preact";

// Drawings in a box of 16 by 16, stroked.
const drawings = {
  overview: "M2.5 13.5V9M6.2 13.5V4M9.8 13.5V7M13.5 13.5v-11",
  jobs: "M2.5 4h11M2.5 8h11M2.5 12h11",
  batches: "M3 3h10v10H3ZM3 6.5h10M6.5 6.5V13",
  workflows: "M2.5 6h4v4h-4ZM9.5 2.5h4v4h-4ZM9.5 9.5h4v4h-4ZM6.5 8h1.5M9.5 4.5H8v7h1.5",
  recurring: "M13 8a5 5 0 1 1-1.6-3.7M13.2 2v3h-3",
  queues: "M2.5 3.5h11v3h-11ZM2.5 9.5h11v3h-11Z",
  workers: "M5.5 3a2.5 2.5 0 1 0 .01 0ZM1.5 13c0-5 8-5 8 0M10.5 3.5a2.2 2.2 0 0 1 0 4.2M11.5 9.6c2 .4 3 1.7 3 3.4",
  cluster: "M8 2a1.8 1.8 0 1 0 .01 0ZM3.3 10.4a1.8 1.8 0 1 0 .01 0ZM12.7 10.4a1.8 1.8 0 1 0 .01 0ZM7 5.4 4.3 10.3M9 5.4l2.7 4.9M5.1 12.2h5.8",
  operations: "M2.5 4.5 4 6l2.5-3M2.5 11 4 12.5l2.5-3M9 4.5h4.5M9 11h4.5",
  search: "M7 2.5a4.5 4.5 0 1 0 .01 0ZM10.3 10.3l3.2 3.2",
  menu: "M2 4h12M2 8h12M2 12h12",
  close: "M4 4l8 8M12 4l-8 8",
  sun: "M8 5a3 3 0 1 0 .01 0ZM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1.1 1.1M11.9 11.9 13 13M13 3l-1.1 1.1M4.1 11.9 3 13",
  moon: "M13 9.5A5.5 5.5 0 0 1 6.5 3a5.5 5.5 0 1 0 6.5 6.5Z",
  system: "M2 3h12v8H2ZM5.5 13.5h5",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  play: "M5 3.2v9.6L12.8 8Z",
  more: "M3.5 8h.01M8 8h.01M12.5 8h.01",
  warning: "M8 2.5 14.5 13.5h-13ZM8 6.5v3.5M8 12h.01",
  info: "M8 2a6 6 0 1 0 .01 0ZM8 7.5V11M8 5h.01",
  left: "M10 3.5 5.5 8l4.5 4.5",
  right: "M6 3.5 10.5 8 6 12.5",
  down: "M3.5 6 8 10.5 12.5 6",
  up: "M3.5 10 8 5.5l4.5 4.5",
  first: "M11 3.5 6.5 8l4.5 4.5M4 3.5v9",
  copy: "M6 6h7v7H6ZM3 10V3h7",
  check: "M3 8.5 6.5 12 13 4.5",
  out: "M6 3H3v10h3M10.5 5 13.5 8l-3 3M13.5 8H6.5",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  fit: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  download: "M8 2.5v8M4.5 7.5 8 11l3.5-3.5M3 13.5h10",
  target: "M8 3a5 5 0 1 0 .01 0ZM8 1v3M8 12v3M1 8h3M12 8h3",
  filter: "M2.5 3.5h11L9.5 8.5v4l-3 1v-5Z",
} as const;

export type IconName = keyof typeof drawings;

/** A drawing beside a word; it means nothing to a screen reader. */
export function Icon({ name, class: extra }: { name: IconName; class?: string }): JSX.Element {
  return <Drawing path={drawings[name]} class={extra} />;
}

/** The same with a path of one's own, such as those of state.ts. */
export function Drawing({ path, class: extra }: { path: string; class?: string | undefined }): JSX.Element {
  return (
    <svg class={extra ? `icon ${extra}` : "icon"} viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={path} />
    </svg>
  );
}
