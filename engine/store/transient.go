package store

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// errMoving ends a flush whose rows are never as they were found a moment ago.
var errMoving = errors.New("rows keep changing")

// Transient reports whether an error of a transaction says nothing about its
// content: the database is away, busy, full, or ended the transaction. What is
// not transient is the fault of something that was written or of a row that
// was met, damaged ones among them, and comes again with it.
func Transient(err error) bool {
	if code := sqlState(err); code != "" {
		switch code[:min(2, len(code))] {
		case "22", "23", "54": // bad data, broken constraint, too large
			return false
		}
		return code != codeDamagedData && code != codeDamagedIndex
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.Timeout(err) || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errMoving)
}
