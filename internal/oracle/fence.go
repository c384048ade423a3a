package oracle

import (
	"context"
	"fmt"
)

// watchFence writes down, in the transaction itself, which reign wrote it and
// which took over. The numbers of the transactions lead to their commit times.
// An older reign's transaction that is still under way holds the fence's lock,
// for which the takeover waits: its commit is earlier by the clock of one
// server.
const watchFence = `
CREATE TABLE IF NOT EXISTS oracle_fence (epoch int8 NOT NULL, xid xid8 NOT NULL, takeover bool NOT NULL, PRIMARY KEY (xid, epoch, takeover));
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_proc WHERE proname = 'oracle_fence_of' AND pronamespace = current_schema()::regnamespace) THEN
        ALTER FUNCTION heddle_fence(int8, int4) RENAME TO oracle_fence_of;
    END IF;
END $$;
CREATE OR REPLACE FUNCTION heddle_fence(want_epoch int8, want_timeline int4) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM oracle_fence_of(want_epoch, want_timeline);
    INSERT INTO oracle_fence VALUES (want_epoch, pg_current_xact_id(), false) ON CONFLICT DO NOTHING;
END $$;
CREATE OR REPLACE FUNCTION oracle_takeover() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO oracle_fence VALUES (NEW.epoch, pg_current_xact_id(), true) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS oracle_takeover ON fence;
CREATE TRIGGER oracle_takeover AFTER UPDATE ON fence FOR EACH ROW WHEN (NEW.epoch <> OLD.epoch) EXECUTE FUNCTION oracle_takeover();
`

// WatchFence makes the database of a migrated engine write down every
// transaction of every reign, so that Judge can check I6. The server must run
// with track_commit_timestamp. It costs a row per flush: for tests only.
func WatchFence(ctx context.Context, dsn, schema string) error {
	conn, err := dial(ctx, dsn, schema)
	if err != nil {
		return fmt.Errorf("watch the fence: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, watchFence); err != nil {
		return fmt.Errorf("watch the fence: %w", err)
	}
	return nil
}

// checkFence: no transaction of a reign commits after a newer one has taken
// over (I6).
func checkFence(ctx context.Context, db Queryer) ([]Violation, error) {
	rows, err := db.Query(ctx, `
WITH at AS MATERIALIZED (
    SELECT epoch, takeover, pg_xact_commit_timestamp(xid::text::xid) AS at FROM oracle_fence
), takeovers AS (
    SELECT epoch, min(at) AS at FROM at WHERE takeover GROUP BY epoch
), next AS (
    SELECT epoch, at, min(at) OVER (ORDER BY epoch ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS ends FROM takeovers
)
SELECT w.epoch, format('wrote at %s, and was followed at %s', max(w.at), n.ends)
  FROM at w JOIN next n ON n.epoch = w.epoch
 WHERE NOT w.takeover AND w.at > n.ends
 GROUP BY w.epoch, n.ends`)
	if err != nil {
		return nil, fmt.Errorf("check I6: %w", err)
	}
	defer rows.Close()
	var found []Violation
	for rows.Next() {
		var epoch int64
		var text string
		if err := rows.Scan(&epoch, &text); err != nil {
			return nil, fmt.Errorf("check I6: %w", err)
		}
		found = append(found, Violation{Invariant: "I6", Sort: Fence, Subject: fmt.Sprintf("epoch %d", epoch), Text: text})
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("check I6: %w", err)
	}
	return found, nil
}
