// Edges as SVG: a few long paths instead of one element each, and marks where a
// condition or a number is to be told.
import type { JSX } from "preact";
import { short } from "../format.ts";
import { stateIcons, type StateName } from "../state.ts";
import { CARD_W, COLUMN, condition, MEMBER, outcomesOf, type Edge, type Graph, type Rect } from "./graph.ts";
import { headOf, markAt, pathOf, wayBounds, type Level } from "./route.ts";
import { touches, type Detail } from "./plane.ts";
import { measure } from "./text.ts";

interface Props {
  graph: Graph;
  ways: readonly Level[][];
  window: Rect;
  detail: Detail;
  shown: (e: Edge) => boolean;
  /** Edges drawn in the colour of what is highlighted. */
  lit: (e: Edge) => boolean;
  /** Something is highlighted: the other edges step back. */
  dim: boolean;
  critical: (e: Edge) => boolean;
}

/** Whether an edge fires on success, on something else, or on both; or only says that one lies in the other. */
function sort(on: number): "member" | "plain" | "other" | "both" {
  return on === MEMBER ? "member" : on === 1 ? "plain" : (on & 1) === 0 ? "other" : "both";
}

/** Edges at one end of a card from which on they are drawn as a fan. */
const FAN = 9;

const classes = ["member", "plain", "both", "other", "lit", "critical"] as const;

export function Edges({ graph, ways, window, detail, shown, lit, dim, critical }: Props): JSX.Element {
  const paths: Record<string, string> = {};
  const heads: Record<string, string> = {};
  const marks: JSX.Element[] = [];
  graph.edges.forEach((e, i) => {
    const way = ways[i]!;
    if (!shown(e) || !touches(wayBounds(way), window)) return;
    const kind = critical(e) ? "critical" : lit(e) ? "lit" : sort(e.on);
    const style = kind === "lit" && e.on > 1 ? "lit other" : kind;
    paths[style] = (paths[style] ?? "") + pathOf(way, graph.out[e.from]!.length >= FAN || graph.into[e.to]!.length >= FAN);
    heads[style] = (heads[style] ?? "") + headOf(way);
    if (detail === "near") {
      const mark = <Mark key={i} edge={e} way={way} dim={dim && kind !== "lit" && kind !== "critical"} />;
      if (e.on > 1 || e.size > 1) marks.push(mark);
    }
  });
  const order = (style: string): number => classes.indexOf(style.split(" ")[0] as (typeof classes)[number]);
  const styles = Object.keys(paths).sort((a, b) => order(a) - order(b));
  return (
    <g class={dim ? "edges behind" : "edges"} aria-hidden="true">
      {styles.map((s) => (
        <g key={s} class={`edge ${s}`}>
          <path class="way" d={paths[s]} />
          <path class="head" d={heads[s]} />
        </g>
      ))}
      {marks}
    </g>
  );
}

/** The condition of an edge, and how many edges it stands for. */
function Mark({ edge, way, dim }: { edge: Edge; way: readonly Level[]; dim: boolean }): JSX.Element {
  const word = condition(edge.on);
  const size = edge.size > 1 ? `×${short(edge.size)}` : "";
  const { x, y } = markAt(way);
  if (word === "") return <text class={`many${dim ? " dim" : ""}`} x={x} y={y - 5}>{size}</text>;
  const outcomes = outcomesOf(edge.on);
  const icons: StateName[] = outcomes.length <= 2 ? outcomes : [];
  const widthOf = (t: string): number => (t ? measure(t, 10.5) + 4 : 0) + icons.length * 13 + 9;
  // The word and the number where there is room between the columns, else what is rarer.
  const room = COLUMN - CARD_W - 8;
  const name = outcomes.length === 2 ? "" : word;
  const text = [`${name} ${size}`.trim(), ...(icons.length > 0 ? [size] : []), name].find((t) => widthOf(t) <= room) ?? name;
  const w = widthOf(text);
  return (
    <g class={`on${dim ? " dim" : ""}`} transform={`translate(${Math.round(x - w / 2)} ${Math.round(y - 9)})`}>
      <title>{`Fires on ${outcomesOf(edge.on).join(", ")}`}</title>
      <rect width={w} height="18" rx="9" />
      {icons.map((s, i) => <path key={s} class="mark" data-state={s} d={stateIcons[s]} transform={`translate(${5 + i * 13} 3.5) scale(0.7)`} />)}
      {text ? <text x={icons.length * 13 + 6} y="12.8">{text}</text> : null}
    </g>
  );
}
