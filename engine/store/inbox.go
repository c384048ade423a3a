package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// InboxChannel is notified by whoever writes into the table submissions.
const InboxChannel = "heddle_submissions"

// Import submits what users have written into the table submissions inside
// transactions of their own, at most limit submissions, the oldest first, and
// then removes it from there. A crash in between is harmless: submitting again
// changes nothing. Several nodes may import at once. The answers carry what is
// wrong with a single submission, which is removed all the same; the error is
// the database's.
func (s *Store) Import(ctx context.Context, decode func(body []byte) (model.Submission, error), limit int) ([]model.Submitted, error) {
	tx, err := s.main.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("import submissions: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	q := db.New(tx)
	taken, err := q.TakeSubmissions(ctx, int32(limit))
	if err != nil {
		return nil, fmt.Errorf("import submissions: %w", err)
	}
	if len(taken) == 0 {
		return nil, nil
	}
	out := make([]model.Submitted, len(taken))
	var subs []model.Submission
	var at []int
	written := map[fsm.WorkflowID]time.Time{}
	for i, t := range taken {
		out[i].ID = t.WorkflowID
		sub, err := readSubmission(ctx, q, t.WorkflowID, decode)
		if sqlState(err) != "" || ctx.Err() != nil {
			return nil, fmt.Errorf("import submission %s: %w", t.WorkflowID, err)
		}
		if err != nil {
			out[i].Err = err
			continue
		}
		subs, at = append(subs, sub), append(at, i)
		written[t.WorkflowID] = t.CreatedAt.Time
	}
	// The window of ids is that of the writing: it may have waited here long.
	for i, done := range s.submit(ctx, subs, func(id fsm.WorkflowID) time.Time { return written[id] }) {
		out[at[i]] = done
	}
	var done []fsm.WorkflowID
	for i := range out {
		switch err := out[i].Err; {
		case err == nil:
		case errors.Is(err, model.ErrInvalid), errors.Is(err, model.ErrAlreadyExists):
			s.log.ErrorContext(ctx, "submission from a transaction refused", "workflow", out[i].ID.String(), "error", err)
		default:
			continue // stays for the next time
		}
		done = append(done, out[i].ID)
	}
	if err := q.RemoveSubmissions(ctx, done); err != nil {
		return out, fmt.Errorf("import submissions: %w", err)
	}
	if err := tx.Commit(context.WithoutCancel(ctx)); err != nil {
		return out, fmt.Errorf("import submissions: %w", err)
	}
	return out, nil
}

// readSubmission puts the parts of a submission together.
func readSubmission(ctx context.Context, q *db.Queries, id fsm.WorkflowID, decode func(body []byte) (model.Submission, error)) (model.Submission, error) {
	parts, err := q.SubmissionParts(ctx, id)
	if err != nil {
		return model.Submission{}, err
	}
	var body []byte
	for _, p := range parts {
		if int(p.Parts) != len(parts) {
			return model.Submission{}, invalid("submission %s has %d of %d parts", id, len(parts), p.Parts)
		}
		body = append(body, p.Body...)
	}
	sub, err := decode(body)
	if err != nil {
		return model.Submission{}, fmt.Errorf("submission %s: %w", id, asInvalid(err))
	}
	if sub.ID != id {
		return model.Submission{}, invalid("submission %s holds the id %s", id, sub.ID)
	}
	return sub, nil
}

// listenPause is the wait before a lost connection is made anew.
const listenPause = time.Second

// Listen calls wake after each notification that submissions were written, and
// once whenever it begins to listen, until ctx ends. It keeps a connection of
// its own and makes it anew when it is lost.
func (s *Store) Listen(ctx context.Context, wake func()) error {
	config := s.main.Config().ConnConfig.Copy()
	delete(config.RuntimeParams, "idle_in_transaction_session_timeout")
	lost := false
	for {
		err := listen(ctx, config, wake)
		if ctx.Err() != nil {
			return nil
		}
		if !lost {
			s.log.WarnContext(ctx, "listening for submissions interrupted", "error", err)
			lost = true
		}
		timer := time.NewTimer(listenPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

func listen(ctx context.Context, config *pgx.ConnConfig, wake func()) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{InboxChannel}.Sanitize()); err != nil {
		return err
	}
	for {
		wake()
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}
