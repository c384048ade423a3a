import type { JSX } from "preact";
import { isOperator, me } from "../access.ts";
import { perform } from "../actions.ts";
import type { SubmitRequest } from "../gen/api.ts";
import { go } from "../router.ts";
import { base, call } from "../rpc.ts";

/** What to do on an engine that has seen no job yet. */
export function FirstJob(): JSX.Element {
  const at = location.origin + base.replace(/\/$/, "");
  const token = me.value?.name && me.value.name !== "anonymous" ? '\\\n  -H "authorization: Bearer $HEDDLE_TOKEN" ' : "";
  const demo = async (): Promise<string> => {
    const answer = await fetch(`${base}demo.json`, { credentials: "same-origin" });
    if (!answer.ok) throw new Error("this engine has no demo workflow");
    const submitted = await call("WorkflowService/Submit", (await answer.json()) as SubmitRequest);
    const result = submitted.results?.[0];
    if (!result?.id || result.message) throw new Error(result?.message ?? "the engine did not say what it submitted");
    return result.id;
  };
  return (
    <div class="panel empty">
      <h2>No jobs yet</h2>
      <p>A job is a kind, which selects the handler, and its arguments. Submit one, and a worker that serves its kind runs it.</p>
      {me.value?.dev && isOperator.value ? (
        <div class="row">
          <button type="button" class="primary" onClick={() => void perform(demo, (id) => { go(`/workflows/${id}`); return "Submitted the demo workflow"; })}>Run a demo workflow</button>
          <span class="muted">Some 200 jobs with batches, a branch that fails and a continuation, served by this engine itself.</span>
        </div>
      ) : null}
      <h3>In Go</h3>
      <pre class="code" tabIndex={0} aria-label="A first job in Go">{`var Greet = heddle.NewKind[string, string]("greet")

c, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{"${at}"}})
w := heddle.NewWorker(c, heddle.WorkerConfig{Slots: 64})
Greet.Handle(w, func(ctx context.Context, name string) (string, error) {
	return "hello, " + name, nil
})
go w.Run(ctx)

answer, err := Greet.Call(ctx, c, "world") // submit and wait`}</pre>
      <h3>On the command line</h3>
      <pre class="code" tabIndex={0} aria-label="A first job with curl">{`go run github.com/heddle-io/heddle/cmd/worker &   # serves the kinds http, smtp, exec

curl -s ${at}/heddle.v1.WorkflowService/Submit \\
  -H 'content-type: application/json' ${token}-d '{
    "submissions": [{"job": {
      "kind": "http",
      "argsJson": "{\\"url\\": \\"${at}/healthz\\"}"
    }}]
  }'`}</pre>
    </div>
  );
}
