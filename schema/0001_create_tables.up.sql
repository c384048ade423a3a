-- The tables of Heddle. Takes no lock on anything that exists before it.

-- One row: which cluster owns this database, which reign may write, and the
-- advisory lock that fences reigns from each other.
CREATE TABLE fence (
    one        bool PRIMARY KEY DEFAULT true CHECK (one),
    cluster_id uuid,
    epoch      int8 NOT NULL DEFAULT 0,
    lock_key   int8 NOT NULL
);
INSERT INTO fence (lock_key) VALUES ((random() * 9007199254740992)::int8);

-- First statement of every transaction of the leader. The lock is taken before
-- the epoch is read by a later snapshot: plpgsql, VOLATILE, READ COMMITTED.
-- Raises HD001: only an error stops the statements pipelined behind it.
CREATE FUNCTION heddle_fence(want_epoch int8, want_timeline int4) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    key int8;
    cur int8;
    tli int4;
BEGIN
    SELECT lock_key INTO key FROM fence;
    PERFORM pg_advisory_xact_lock_shared(key);
    SELECT epoch INTO cur FROM fence;
    IF cur IS DISTINCT FROM want_epoch THEN
        RAISE EXCEPTION 'fenced: epoch % is not %', want_epoch, cur USING ERRCODE = 'HD001';
    END IF;
    tli := heddle_timeline();
    IF tli IS DISTINCT FROM want_timeline THEN
        RAISE EXCEPTION 'fenced: timeline % is not %', want_timeline, tli USING ERRCODE = 'HD001';
    END IF;
END $$;

CREATE FUNCTION heddle_timeline() RETURNS int4 LANGUAGE sql VOLATILE AS $$
    SELECT ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int4
$$;

-- Ends the other sessions of this database that hold the fence's lock: a reign
-- that is stuck. The halves of the key are what pg_locks shows of it.
CREATE FUNCTION heddle_end_fence_holders() RETURNS int8 LANGUAGE sql VOLATILE AS $$
    SELECT count(pg_terminate_backend(l.pid)) FROM pg_locks l, fence f
     WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
       AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
       AND l.classid::int8 = f.lock_key >> 32 AND l.objid::int8 = f.lock_key & 4294967295
       AND l.pid <> pg_backend_pid()
$$;

-- The dictionary of (queue, kind). Append-only; engines cache it whole.
CREATE TABLE routes (
    id    int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text COLLATE "C" NOT NULL,
    kind  text COLLATE "C" NOT NULL,
    UNIQUE (queue, kind)
);

CREATE TABLE queues (
    name      text COLLATE "C" PRIMARY KEY,
    paused_at timestamptz,
    limits    bytea
);

-- One row per graph of more than one node: the root batch, node 0.
-- state: 1 running, 2 ended. outcome: 1 succeeded, 2 failed, 4 cancelled, 8 skipped, 0 none.
-- flags: see engine/store/flags.go.
CREATE TABLE workflows (
    id                uuid PRIMARY KEY,
    created_at        timestamptz NOT NULL,
    finished_at       timestamptz,
    next_node         int4 NOT NULL,
    flags             int4 NOT NULL DEFAULT 0,
    total             int4 NOT NULL,
    succeeded         int4 NOT NULL DEFAULT 0,
    failed            int4 NOT NULL DEFAULT 0,
    cancelled         int4 NOT NULL DEFAULT 0,
    skipped           int4 NOT NULL DEFAULT 0,
    tolerance_count   int4 NOT NULL DEFAULT 0,
    tolerance_percent float8 NOT NULL DEFAULT 0,
    life              int4 NOT NULL DEFAULT 0,
    state             int2 NOT NULL,
    outcome           int2 NOT NULL DEFAULT 0,
    priority          int2 NOT NULL DEFAULT 0,
    name              text,
    unique_key        text,
    digest            bytea,
    headers           bytea
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
-- Paused workflows: the leader holds their jobs back.
CREATE INDEX workflows_paused ON workflows (id) WHERE flags & 1 <> 0;

-- Batches other than the root. state: 0 blocked, 1 running, 2 ended.
-- lo..hi is the range of the numbers of all members, nested ones inside.
CREATE TABLE batches (
    workflow_id       uuid NOT NULL,
    started_at        timestamptz,
    finished_at       timestamptz,
    node              int4 NOT NULL,
    parent            int4 NOT NULL,
    lo                int4 NOT NULL,
    hi                int4 NOT NULL,
    need              int4 NOT NULL DEFAULT 0,
    slack             int4 NOT NULL DEFAULT 0,
    join_k            int4,
    released_by       int4,
    flags             int4 NOT NULL DEFAULT 0,
    total             int4 NOT NULL,
    succeeded         int4 NOT NULL DEFAULT 0,
    failed            int4 NOT NULL DEFAULT 0,
    cancelled         int4 NOT NULL DEFAULT 0,
    skipped           int4 NOT NULL DEFAULT 0,
    tolerance_count   int4 NOT NULL DEFAULT 0,
    tolerance_percent float8 NOT NULL DEFAULT 0,
    life              int4 NOT NULL DEFAULT 0,
    state             int2 NOT NULL,
    outcome           int2 NOT NULL DEFAULT 0,
    priority          int2 NOT NULL DEFAULT 0,
    name              text,
    PRIMARY KEY (workflow_id, node)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

-- Unfinished jobs only. state: 0 blocked, 1 available (released, unfinished).
-- turn: outcomes written for this job, counted or not; never falls.
-- losses: how often a session was lost with it, in this life.
-- expires_at: when it fails although nobody runs it (wait in queue, deadline).
CREATE TABLE jobs (
    workflow_id  uuid NOT NULL,
    run_at       timestamptz NOT NULL,
    expires_at   timestamptz,
    deadline_at  timestamptz,
    node         int4 NOT NULL,
    route        int4 NOT NULL,
    turn         int4 NOT NULL DEFAULT 0,
    batch        int4,
    released_by  int4,
    flags        int4,
    need         int4,
    slack        int4,
    join_k       int4,
    life         int4,
    state        int2 NOT NULL,
    priority     int2 NOT NULL,
    attempt      int2 NOT NULL DEFAULT 0,
    losses       int2 NOT NULL DEFAULT 0,
    max_attempts int2 NOT NULL,
    key          text COLLATE "C" NOT NULL DEFAULT '',
    name         text,
    args         bytea,
    opts         bytea,
    PRIMARY KEY (workflow_id, node)
) WITH (fillfactor = 100,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_threshold = -1,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000, vacuum_truncate = off);
ALTER TABLE jobs ALTER args SET STORAGE EXTERNAL, ALTER opts SET STORAGE EXTERNAL;
CREATE INDEX jobs_ready ON jobs (route, key, priority, run_at, workflow_id, node) WHERE state = 1;
-- Paths are resolved batch by batch; jobs without a name pay nothing.
CREATE INDEX jobs_names ON jobs (workflow_id, batch, name) WHERE name IS NOT NULL AND batch IS NOT NULL;
CREATE INDEX jobs_expiry ON jobs (expires_at) WHERE expires_at IS NOT NULL;

-- What has ended, partitioned by the time in the workflow's id, a UTC day
-- each; there is never a default partition.
CREATE TABLE finished_jobs (
    workflow_id  uuid NOT NULL,
    run_at       timestamptz NOT NULL,
    started_at   timestamptz,
    finished_at  timestamptz NOT NULL,
    node         int4 NOT NULL,
    route        int4 NOT NULL,
    turn         int4 NOT NULL,
    batch        int4,
    released_by  int4,
    flags        int4,
    join_k       int4,
    life         int4,
    outcome      int2 NOT NULL,
    priority     int2 NOT NULL,
    attempt      int2 NOT NULL,
    max_attempts int2 NOT NULL,
    key          text COLLATE "C" NOT NULL,
    name         text,
    worker       text,
    args         bytea,
    opts         bytea,
    result       bytea,
    error        text,
    PRIMARY KEY (workflow_id, node)
) PARTITION BY RANGE (workflow_id);
ALTER TABLE finished_jobs ALTER args SET STORAGE EXTERNAL, ALTER opts SET STORAGE EXTERNAL, ALTER result SET STORAGE EXTERNAL;
CREATE INDEX finished_names ON finished_jobs (workflow_id, batch, name) WHERE name IS NOT NULL AND batch IS NOT NULL;
CREATE INDEX finished_other ON finished_jobs (outcome, finished_at, workflow_id, node) WHERE outcome <> 1;

-- Args (slot 0) and results (slot 1) above 1 KiB.
CREATE TABLE payloads (
    workflow_id uuid NOT NULL,
    node        int4 NOT NULL,
    slot        int2 NOT NULL,
    body        bytea NOT NULL,
    PRIMARY KEY (workflow_id, node, slot)
) PARTITION BY RANGE (workflow_id);

-- Attempts that did not finish their job.
-- how: 1 failed, 2 lost, 3 snoozed, 4 released, 5 timeout.
CREATE TABLE attempts (
    workflow_id uuid NOT NULL,
    started_at  timestamptz,
    finished_at timestamptz NOT NULL,
    node        int4 NOT NULL,
    turn        int4 NOT NULL,
    attempt     int2 NOT NULL,
    how         int2 NOT NULL,
    worker      text,
    error       text,
    PRIMARY KEY (workflow_id, node, turn)
) PARTITION BY RANGE (workflow_id);

-- on_set: sum of the outcomes that fire the edge.
CREATE TABLE edges (
    workflow_id uuid NOT NULL,
    parent      int4 NOT NULL,
    child       int4 NOT NULL,
    on_set      int2 NOT NULL DEFAULT 1,
    PRIMARY KEY (workflow_id, parent, child)
) PARTITION BY RANGE (workflow_id);
CREATE INDEX edges_in ON edges (workflow_id, child);

-- What a batch of many members has still to hand down to them.
-- kind: 1 start, 2 skip, 3 cancel, 4 cancel with force. Members below cursor are done.
CREATE TABLE cascades (
    workflow_id uuid NOT NULL,
    node        int4 NOT NULL,
    kind        int2 NOT NULL,
    cursor      int4 NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workflow_id, node)
);

-- Keys of Append: the second append of a key answers with the first.
CREATE TABLE append_keys (
    workflow_id uuid NOT NULL,
    key         text COLLATE "C" NOT NULL,
    first_node  int4 NOT NULL,
    nodes       int4 NOT NULL,
    PRIMARY KEY (workflow_id, key)
);

-- The structure of the graph view, computed once at submit and append.
-- los/grps: the numbers of the nodes in ascending order fall into ranges that
-- start at los[i] and belong to card grps[i]; -1: appended later, in no card.
-- merged: how far cards were merged already, of how many groups.
CREATE TABLE group_ranges (
    workflow_id uuid PRIMARY KEY,
    los         int4[] NOT NULL,
    grps        int4[] NOT NULL,
    groups      int4 NOT NULL,
    merged      text NOT NULL DEFAULT ''
);
CREATE TABLE groups (
    workflow_id uuid NOT NULL,
    grp         int4 NOT NULL,
    batch       int4 NOT NULL,
    box         int4 NOT NULL,
    node        int4,
    first_node  int4 NOT NULL,
    last_node   int4 NOT NULL,
    rank        int4 NOT NULL,
    last_rank   int4 NOT NULL,
    size        int4 NOT NULL,
    x           float8 NOT NULL,
    y           float8 NOT NULL,
    width       float8 NOT NULL,
    height      float8 NOT NULL,
    is_batch    bool NOT NULL,
    label       text NOT NULL,
    kind        text NOT NULL,
    PRIMARY KEY (workflow_id, grp)
);
CREATE TABLE group_edges (
    workflow_id uuid NOT NULL,
    from_grp    int4 NOT NULL,
    to_grp      int4 NOT NULL,
    on_set      int2 NOT NULL,
    size        int4 NOT NULL,
    PRIMARY KEY (workflow_id, from_grp, to_grp)
);

-- Submissions made inside the users' own transactions; an engine imports them
-- after their commit and is woken by pg_notify on heddle_submissions. body:
-- heddle.v1.Submission, cut into parts that are numbered from 0.
CREATE TABLE submissions (
    workflow_id uuid NOT NULL,
    part        int4 NOT NULL,
    parts       int4 NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    body        bytea NOT NULL,
    PRIMARY KEY (workflow_id, part)
);

CREATE TABLE schedules (
    name       text COLLATE "C" PRIMARY KEY,
    spec       bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    paused_at  timestamptz,
    next_at    timestamptz,
    last_at    timestamptz
);

CREATE TABLE unique_keys (
    key         text COLLATE "C" PRIMARY KEY,
    workflow_id uuid NOT NULL,
    expires_at  timestamptz
);

CREATE TABLE signals (
    workflow_id uuid NOT NULL,
    id          int8 GENERATED ALWAYS AS IDENTITY,
    name        text NOT NULL,
    key         text,
    payload     bytea,
    sent_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workflow_id, id)
);

-- What operators did (dismiss, retry, cancel by hand), kept with the workflow.
CREATE TABLE audit (
    workflow_id uuid NOT NULL,
    id          int8 GENERATED ALWAYS AS IDENTITY,
    node        int4,
    at          timestamptz NOT NULL DEFAULT now(),
    action      text NOT NULL,
    note        text,
    PRIMARY KEY (workflow_id, id)
);

CREATE TABLE stats_minutely (
    minute    timestamptz NOT NULL,
    route     int4 NOT NULL,
    succeeded int8 NOT NULL DEFAULT 0,
    failed    int8 NOT NULL DEFAULT 0,
    cancelled int8 NOT NULL DEFAULT 0,
    retried   int8 NOT NULL DEFAULT 0,
    run_us    int8 NOT NULL DEFAULT 0,
    wait_us   int8 NOT NULL DEFAULT 0,
    PRIMARY KEY (minute, route)
);

-- For people: the dictionary joined back, the states in words. A job that runs
-- is available here: who runs what is not in Postgres.
CREATE VIEW heddle_jobs AS
SELECT j.workflow_id, j.node, r.queue, r.kind, j.name, j.key, j.priority,
       CASE WHEN j.state = 0 THEN 'blocked' WHEN j.run_at <= now() THEN 'available'
            WHEN j.attempt > 0 THEN 'retryable' ELSE 'scheduled' END AS state,
       j.run_at, j.attempt, j.max_attempts, NULL::timestamptz AS finished_at, NULL::text AS error
  FROM jobs j JOIN routes r ON r.id = j.route
UNION ALL
SELECT f.workflow_id, f.node, r.queue, r.kind, f.name, f.key, f.priority,
       CASE f.outcome WHEN 1 THEN 'succeeded' WHEN 2 THEN 'failed' WHEN 4 THEN 'cancelled' ELSE 'skipped' END,
       f.run_at, f.attempt, f.max_attempts, f.finished_at, f.error
  FROM finished_jobs f JOIN routes r ON r.id = f.route;
