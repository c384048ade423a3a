-- Who did what, and things done to many jobs. Takes ACCESS EXCLUSIVE on audit
-- for a moment: the new column is empty.
ALTER TABLE audit ADD COLUMN author text;

-- One row per operation. request: heddle.v1.OperationServiceStartRequest, as it
-- was frozen at created_at. cursor: how far the leader has come.
-- done: jobs looked at; of them changed, passed_over and failed.
CREATE TABLE operations (
    id          uuid PRIMARY KEY,
    created_at  timestamptz NOT NULL,
    finished_at timestamptz,
    total       int8 NOT NULL,
    done        int8 NOT NULL DEFAULT 0,
    changed     int8 NOT NULL DEFAULT 0,
    passed_over int8 NOT NULL DEFAULT 0,
    failed      int8 NOT NULL DEFAULT 0,
    more        bool NOT NULL,
    stop        bool NOT NULL DEFAULT false,
    request     bytea NOT NULL,
    author      text NOT NULL,
    stopped_by  text,
    error       text,
    cursor      text NOT NULL DEFAULT ''
);
CREATE INDEX operations_running ON operations (id) WHERE finished_at IS NULL;
