package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// copyFrom is the number of rows from which COPY beats a statement with
// arrays.
const copyFrom = 64

// copyBuffer builds the rows of a COPY in PostgreSQL's binary format. Encoding
// them by hand costs a tenth of going through values of any.
type copyBuffer struct {
	buf  []byte
	rows int64
}

var copySignature = []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")

// pgEpoch is 2000-01-01 in microseconds since the Unix epoch.
const pgEpoch = 946_684_800_000_000

func (c *copyBuffer) reset() {
	c.buf = append(c.buf[:0], copySignature...)
	c.rows = 0
}

// row begins a row of n columns.
func (c *copyBuffer) row(n int) {
	c.buf = binary.BigEndian.AppendUint16(c.buf, uint16(n))
	c.rows++
}

func (c *copyBuffer) null() { c.buf = append(c.buf, 0xff, 0xff, 0xff, 0xff) }

func (c *copyBuffer) uuid(id fsm.WorkflowID) {
	c.buf = append(c.buf, 0, 0, 0, 16)
	c.buf = append(c.buf, id[:]...)
}

func (c *copyBuffer) int4(v int32) {
	c.buf = append(c.buf, 0, 0, 0, 4)
	c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(v))
}

// int4Unless writes NULL for the value that stands for nothing.
func (c *copyBuffer) int4Unless(v, nothing int32) {
	if v == nothing {
		c.null()
		return
	}
	c.int4(v)
}

func (c *copyBuffer) int2(v int16) {
	c.buf = append(c.buf, 0, 0, 0, 2)
	c.buf = binary.BigEndian.AppendUint16(c.buf, uint16(v))
}

// time writes microseconds since the Unix epoch; 0 is NULL.
func (c *copyBuffer) time(micros int64) {
	if micros == 0 {
		c.null()
		return
	}
	c.buf = append(c.buf, 0, 0, 0, 8)
	c.buf = binary.BigEndian.AppendUint64(c.buf, uint64(micros-pgEpoch))
}

func (c *copyBuffer) text(s string) {
	c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(len(s)))
	c.buf = append(c.buf, s...)
}

// textUnlessEmpty writes NULL for "".
func (c *copyBuffer) textUnlessEmpty(s string) {
	if s == "" {
		c.null()
		return
	}
	c.text(s)
}

// bytes writes NULL for nil.
func (c *copyBuffer) bytes(b []byte) {
	if b == nil {
		c.null()
		return
	}
	c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(len(b)))
	c.buf = append(c.buf, b...)
}

// send copies the rows into table.
func (c *copyBuffer) send(ctx context.Context, tx pgx.Tx, table string, columns string) error {
	c.buf = append(c.buf, 0xff, 0xff)
	tag, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(c.buf), "COPY "+table+" ("+columns+") FROM STDIN BINARY")
	if err != nil {
		return fmt.Errorf("copy into %s: %w", table, err)
	}
	if tag.RowsAffected() != c.rows {
		return fmt.Errorf("copy into %s: %d of %d rows", table, tag.RowsAffected(), c.rows)
	}
	return nil
}

const (
	jobColumns = "workflow_id, run_at, expires_at, deadline_at, node, route, batch, flags, need, slack, join_k," +
		" state, priority, max_attempts, key, name, args, opts"
	edgeColumns    = "workflow_id, parent, child, on_set"
	payloadColumns = "workflow_id, node, slot, body"
)

func (c *copyBuffer) job(id fsm.WorkflowID, j *jobRow) {
	c.row(18)
	c.uuid(id)
	c.time(j.runAt)
	c.time(j.expiresAt)
	c.time(j.deadlineAt)
	c.int4(j.node)
	c.int4(j.route)
	c.int4Unless(j.batch, -1)
	c.int4Unless(j.flags, 0)
	c.int4Unless(j.need, 0)
	c.int4Unless(j.slack, 0)
	c.int4Unless(j.join, 0)
	c.int2(j.state)
	c.int2(j.priority)
	c.int2(j.maxAttempts)
	c.text(j.key)
	c.textUnlessEmpty(j.name)
	c.bytes(j.args)
	c.bytes(j.opts)
}

func (c *copyBuffer) edge(id fsm.WorkflowID, e dag.Edge) {
	c.row(4)
	c.uuid(id)
	c.int4(int32(e.Parent))
	c.int4(int32(e.Child))
	c.int2(int16(e.On))
}

func (c *copyBuffer) payload(id fsm.WorkflowID, j *jobRow) {
	c.row(4)
	c.uuid(id)
	c.int4(j.node)
	c.int2(slotArgs)
	c.bytes(j.payload)
}
