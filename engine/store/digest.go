package store

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
)

// digester hashes the content of a graph, node by node and edge by edge, so
// that it does not matter how a stream was cut. Every string is preceded by
// its length.
type digester struct {
	sum hash.Hash
	buf []byte
}

func newDigester(header *model.Submission) *digester {
	d := &digester{sum: sha256.New(), buf: make([]byte, 0, 8<<10)}
	d.text(header.Name)
	d.bytes(header.Headers)
	d.batch(&header.Root)
	return d
}

func (d *digester) number(v int64) { d.buf = binary.AppendVarint(d.buf, v) }

func (d *digester) text(s string) {
	d.number(int64(len(s)))
	d.buf = append(d.buf, s...)
}

func (d *digester) bytes(b []byte) {
	d.number(int64(len(b)))
	if len(b) > 4<<10 {
		d.write()
		d.sum.Write(b)
		return
	}
	d.buf = append(d.buf, b...)
}

func (d *digester) flag(v bool) {
	if v {
		d.number(1)
	} else {
		d.number(0)
	}
}

func (d *digester) write() {
	d.sum.Write(d.buf)
	d.buf = d.buf[:0]
}

func (d *digester) batch(b *model.NewBatch) {
	d.number(int64(b.Tolerance.Count))
	d.number(int64(math.Float64bits(b.Tolerance.Percent)))
	d.flag(b.Open)
	d.number(int64(b.Priority))
}

func (d *digester) node(n *model.NewNode) {
	d.text(n.Name)
	d.number(int64(n.Container))
	d.number(int64(n.Join))
	d.flag(n.Hold)
	d.flag(n.Cleanup)
	if n.Batch != nil {
		d.number(1)
		d.batch(n.Batch)
	} else {
		j := n.Job
		d.number(2)
		d.text(j.Kind)
		d.text(j.Queue)
		d.text(j.Key)
		d.number(int64(j.Priority))
		if j.RunAt.IsZero() {
			d.number(0)
		} else {
			d.number(j.RunAt.UnixMicro())
		}
		d.number(int64(j.MaxAttempts))
		d.number(int64(j.WaitTimeout))
		d.number(int64(j.Deadline))
		d.number(int64(j.Delay))
		d.bytes(j.Args)
		d.bytes(j.Opts)
	}
	if len(d.buf) > 4<<10 {
		d.write()
	}
}

func (d *digester) edge(e dag.Edge) {
	d.number(3)
	d.number(int64(e.Parent))
	d.number(int64(e.Child))
	d.number(int64(e.On))
	if len(d.buf) > 4<<10 {
		d.write()
	}
}

func (d *digester) finish() []byte {
	d.write()
	return d.sum.Sum(nil)
}
