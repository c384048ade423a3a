-- Takes ACCESS EXCLUSIVE on workflows for a moment.
DROP INDEX workflows_running;
