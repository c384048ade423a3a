import type { JSX } from "preact";

/** Schedules are not part of this engine yet; the page says so and shows nothing in their place. */
export function RecurringPage(): JSX.Element {
  return (
    <>
      <h1>Recurring</h1>
      <div class="panel empty">
        <h2>This version has no schedules</h2>
        <p>Recurring workflows come with a later version of the engine. Until then, submit them from what keeps time for you now: a cron job, a systemd timer, a Kubernetes CronJob.</p>
        <pre class="code" tabIndex={0} aria-label="A recurring job from cron">{`# crontab: every day at 02:30
30 2 * * *  curl -sf ${location.origin}/heddle.v1.WorkflowService/Submit -H 'content-type: application/json' \\
  -d '{"submissions": [{"job": {"kind": "report.daily"}}]}'`}</pre>
        <p class="muted">A UUIDv7 as the submission's <code>id</code> makes a repeated call harmless.</p>
      </div>
    </>
  );
}
