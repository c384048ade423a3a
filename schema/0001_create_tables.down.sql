-- Removes everything. Takes ACCESS EXCLUSIVE on every table.
DROP VIEW heddle_jobs;
DROP TABLE stats_minutely, audit, signals, unique_keys, schedules, submissions, group_edges, groups, group_ranges,
    append_keys, cascades, edges, attempts, payloads, finished_jobs, jobs, batches, workflows, queues, routes;
DROP FUNCTION heddle_fence(int8, int4);
DROP FUNCTION heddle_end_fence_holders();
DROP FUNCTION heddle_timeline();
DROP TABLE fence;
