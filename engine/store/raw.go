package store

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// raw is a row in PostgreSQL's binary format. NULL reads as zero. The hot
// reads take rows apart by hand: scanning a wide row into values of any costs
// more than the database spends on it.
type raw [][]byte

func (r raw) int2(i int) int16 {
	if r[i] == nil {
		return 0
	}
	return int16(binary.BigEndian.Uint16(r[i]))
}

func (r raw) int4(i int) int32 {
	if r[i] == nil {
		return 0
	}
	return int32(binary.BigEndian.Uint32(r[i]))
}

// int4Or gives otherwise for NULL.
func (r raw) int4Or(i int, otherwise int32) int32 {
	if r[i] == nil {
		return otherwise
	}
	return int32(binary.BigEndian.Uint32(r[i]))
}

func (r raw) float8(i int) float64 {
	if r[i] == nil {
		return 0
	}
	return math.Float64frombits(binary.BigEndian.Uint64(r[i]))
}

func (r raw) id(i int) (id fsm.WorkflowID) {
	copy(id[:], r[i])
	return id
}

// time gives microseconds since the Unix epoch.
func (r raw) time(i int) int64 {
	if r[i] == nil {
		return 0
	}
	return int64(binary.BigEndian.Uint64(r[i])) + pgEpoch
}

func (r raw) text(i int) string { return string(r[i]) }

// bytes gives a copy; nil for NULL.
func (r raw) bytes(i int) []byte { return bytes.Clone(r[i]) }

// each calls f with every row. A row is good during its call only.
func each(rows pgx.Rows, f func(raw)) error {
	for rows.Next() {
		f(raw(rows.RawValues()))
	}
	rows.Close()
	return rows.Err()
}

// ready reads a job as the dispatcher wants it. All queries that give such
// rows have these columns, behind one that says which question they answer.
func (r raw) ready() dispatch.Row {
	return dispatch.Row{
		Job:  fsm.JobID{Workflow: r.id(1), Node: r.int4(2)},
		Lane: dispatch.Lane{Route: r.int4(3), Key: r.text(4)}, Priority: r.int2(5),
		RunAt: r.time(6), ExpiresAt: r.time(7), DeadlineAt: r.time(8),
		Turn: r.int4(9), Attempt: r.int2(10), Losses: r.int2(11), MaxAttempts: r.int2(12),
		Batch: r.int4Or(13, -1), Flags: r.int4(14), Name: r.text(15), Args: r.bytes(16), Opts: r.bytes(17),
	}
}
