import type { JSX } from "preact";
import { Failure } from "../components/notice.tsx";
import { param, withQuery } from "../router.ts";
import { chosen } from "./choice.ts";
import { EventsView } from "./events.tsx";
import { GraphView } from "./graphview.tsx";
import { Header } from "./header.tsx";
import { Inspector } from "./inspector.tsx";
import { useModel } from "./model.ts";
import { NodesView } from "./nodes.tsx";
import { TimelineView } from "./timeline.tsx";
import "./workflow.css";

const views = [["", "Graph"], ["timeline", "Timeline"], ["table", "Table"], ["events", "Events"]] as const;

/** A workflow: as a graph, over time, as a table and as what happened; one choice in all of them. */
export function WorkflowPage({ id }: { id: string }): JSX.Element {
  const model = useModel(id);
  const view = param("view") === "graph" ? "" : param("view");
  if (!model.workflow && model.read.error) {
    return <div class="wf-page"><Failure error={model.read.error} retry={model.read.reload} /></div>;
  }
  return (
    <div class="wf-page">
      <Header id={id} model={model} />
      <nav class="tabs wf-tabs" aria-label="Views">
        {views.map(([value, label]) => <a key={value} href={withQuery({ view: value, page: null })} aria-current={value === view ? "page" : undefined}>{label}</a>)}
      </nav>
      {model.workflow && model.read.error ? <Failure error={model.read.error} retry={model.read.reload} /> : null}
      <div class={chosen() ? "wf-body with-inspector" : "wf-body"}>
        {view === "timeline" ? <TimelineView id={id} model={model} />
          : view === "table" ? <NodesView id={id} model={model} />
          : view === "events" ? <EventsView id={id} model={model} />
          : <GraphView id={id} model={model} />}
        <Inspector id={id} model={model} />
      </div>
    </div>
  );
}
