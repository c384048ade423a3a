package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/heddle-io/heddle/engine/model"
)

// commit ends a transaction. It does not listen to ctx's end: a cancelled
// COMMIT may be visible and still be lost with the server. An error that
// leaves the outcome open, and a WARNING, are model.ErrDoubt.
func commit(ctx context.Context, tx pgx.Tx) error {
	conn := tx.Conn().PgConn()
	takeWarning(conn)
	return commitOutcome(conn, tx.Commit(context.WithoutCancel(ctx)))
}

// commitOutcome judges what a COMMIT on conn has answered. A refusal by the
// server is certain; a lost connection and a warning are not. Whether the
// driver takes the error for one before sending does not count: it says so of
// a connection that broke while COMMIT waited for a standby.
func commitOutcome(conn *pgconn.PgConn, err error) error {
	if err == nil {
		if message, warned := takeWarning(conn); warned {
			return fmt.Errorf("%w: %s", model.ErrDoubt, message)
		}
		return nil
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) && !endsConnection(refused) || errors.Is(err, pgx.ErrTxCommitRollback) {
		return err
	}
	return fmt.Errorf("%w: %w", model.ErrDoubt, err)
}

// endsConnection tells the errors with which a server says goodbye: they may
// reach a client instead of the answer to its COMMIT.
func endsConnection(err *pgconn.PgError) bool {
	return err.Severity == "FATAL" || err.Severity == "PANIC" || len(err.Code) == 5 && err.Code[:2] == "57"
}

// lostConnection tells the errors that say nothing of what was sent.
func lostConnection(err error) bool {
	var refused *pgconn.PgError
	return !errors.As(err, &refused) || endsConnection(refused)
}

// sqlState gives the error's SQLSTATE, or "".
func sqlState(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// The SQLSTATEs on which the store branches.
const (
	codeUnique      = "23505"
	codeDeadlock    = "40P01"
	codeSerialize   = "40001"
	codeLockTimeout = "55P03"

	codeDamagedData  = "XX001"
	codeDamagedIndex = "XX002"
)

// passing tells the errors that another try may not meet.
func passing(err error) bool {
	switch sqlState(err) {
	case codeDeadlock, codeSerialize, codeLockTimeout:
		return true
	}
	return false
}
