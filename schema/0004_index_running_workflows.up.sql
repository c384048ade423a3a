-- Finds the running workflows among many that have ended. Takes SHARE on
-- workflows while it is built: submissions of graphs wait for it.
--
-- Only the birth and the end of a graph touch it: updates of counters leave
-- state alone and stay within their page. Without it, ten running workflows
-- behind a million ended ones are beyond every budget of a search.
CREATE INDEX workflows_running ON workflows (id) WHERE state = 1;
