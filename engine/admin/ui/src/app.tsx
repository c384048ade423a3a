import type { JSX } from "preact";
import { accessError, me, whoAmI } from "./access.ts";
import { Notice } from "./components/notice.tsx";
import { Frame } from "./frame.tsx";
import { Login } from "./pages/login.tsx";
import { BatchPage } from "./pages/batch.tsx";
import { BatchesPage } from "./pages/batches.tsx";
import { ClusterPage } from "./pages/cluster.tsx";
import { JobPage } from "./pages/job.tsx";
import { JobsPage } from "./pages/jobs.tsx";
import { NotFound } from "./pages/notfound.tsx";
import { OperationPage } from "./pages/operation.tsx";
import { OperationsPage } from "./pages/operations.tsx";
import { OverviewPage } from "./pages/overview.tsx";
import { QueuesPage } from "./pages/queues.tsx";
import { RecurringPage } from "./pages/recurring.tsx";
import { WorkersPage } from "./pages/workers.tsx";
import { WorkflowsPage } from "./pages/workflows.tsx";
import { path, pieces } from "./router.ts";
import { WorkflowPage } from "./workflow/index.tsx";

/** The whole page: who looks decides between login and frame, the address what is in it. */
export function App(): JSX.Element {
  const who = me.value;
  if (!who) {
    return (
      <main class="login">
        {accessError.value
          ? <div class="panel stack"><Notice kind="error">{accessError.value}</Notice><button type="button" onClick={() => void whoAmI()}>Try again</button></div>
          : <p class="loading" role="status">Loading…</p>}
      </main>
    );
  }
  if (who.loginRequired || path.value === "/login") return <Login />;
  return <Frame>{page(pieces.value)}</Frame>;
}

function page([first, second, third, ...rest]: string[]): JSX.Element {
  if (rest.length > 0) return <NotFound />;
  if (first === undefined) return <OverviewPage />;
  if (third !== undefined) {
    const id = `${second}/${third}`;
    if (first === "jobs") return <JobPage key={id} id={id} />;
    if (first === "batches" && /^\d+$/.test(third)) return <BatchPage key={id} workflowId={second!} node={Number(third)} />;
    return <NotFound />;
  }
  if (second !== undefined) {
    if (first === "jobs") return <JobPage key={second} id={second} />;
    if (first === "workflows") return <WorkflowPage key={second} id={second} />;
    if (first === "operations") return <OperationPage key={second} id={second} />;
    return <NotFound />;
  }
  switch (first) {
    case "jobs": return <JobsPage />;
    case "batches": return <BatchesPage />;
    case "workflows": return <WorkflowsPage />;
    case "recurring": return <RecurringPage />;
    case "queues": return <QueuesPage />;
    case "workers": return <WorkersPage />;
    case "cluster": return <ClusterPage />;
    case "operations": return <OperationsPage />;
    default: return <NotFound />;
  }
}
