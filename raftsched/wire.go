package raftsched

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// wire is Raft's stream layer over a Network. Whoever dials says first who it
// is, whom it means and of which cluster it speaks; a node hangs up on what is
// not meant for it. So neither an address that has changed hands nor a node that
// lost its disk can mix two logs: a node without a bond hears nobody.
type wire struct {
	net     Network
	id      string
	addr    string
	cluster func() fsm.WorkflowID
	moves   *moves
	log     *slog.Logger

	mu      sync.Mutex
	conns   map[*wireConn]struct{}
	closed  bool
	refused map[string]time.Time // when a refusal of this sender was logged
}

const (
	greetingVersion = 1
	greetingMost    = 1024
	greetingWait    = 5 * time.Second
	refusalEvery    = time.Minute
)

var errWireClosed = errors.New("raft's network is closed")

func newWire(cfg Config, cluster func() fsm.WorkflowID, moves *moves) *wire {
	return &wire{
		net: cfg.Network, id: cfg.ID, addr: cfg.Address, cluster: cluster, moves: moves, log: cfg.Logger,
		conns: map[*wireConn]struct{}{}, refused: map[string]time.Time{},
	}
}

// target puts the id before an address: Raft knows both, its stream layer gets
// the address only.
func target(id raft.ServerID, addr raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(string(id) + "\x00" + string(addr))
}

// Dial implements raft.StreamLayer.
func (w *wire) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, addr, _ := strings.Cut(string(to), "\x00")
	cluster := w.cluster()
	if cluster == (fsm.WorkflowID{}) {
		return nil, errors.New("this node belongs to no cluster yet")
	}
	addr = w.moves.of(id, addr)
	raw, err := w.net.Dial(id, addr, timeout)
	if err != nil {
		return nil, err
	}
	c, err := w.track(raw)
	if err != nil {
		return nil, err
	}
	if err := c.say(greeting{from: w.id, to: id, cluster: cluster}, timeout); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("greet %q at %s: %w", id, addr, err)
	}
	return c, nil
}

// Accept implements raft.StreamLayer. The greeting is read with the first
// bytes, by whoever serves the connection, so a silent one holds up no other.
func (w *wire) Accept() (net.Conn, error) {
	raw, err := w.net.Accept()
	if err != nil {
		return nil, err
	}
	c, err := w.track(raw)
	if err != nil {
		return nil, err
	}
	c.greet = sync.OnceValue(func() error { return w.hear(c.Conn) })
	return c, nil
}

// Addr implements raft.StreamLayer: the address that others know.
func (w *wire) Addr() net.Addr { return wireAddr(w.addr) }

// Close implements raft.StreamLayer. It ends all connections: Raft's transport
// leaves those that were accepted, and those in its pool, to their other ends.
func (w *wire) Close() error {
	w.mu.Lock()
	w.closed = true
	conns := w.conns
	w.conns = nil
	w.mu.Unlock()
	err := w.net.Close()
	for c := range conns {
		_ = c.Conn.Close()
	}
	return err
}

func (w *wire) track(raw net.Conn) (*wireConn, error) {
	c := &wireConn{Conn: raw, wire: w}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		_ = raw.Close()
		return nil, errWireClosed
	}
	w.conns[c] = struct{}{}
	return c, nil
}

// hear reads the greeting of a connection and refuses what is not meant for
// this node.
func (w *wire) hear(c net.Conn) error {
	if err := c.SetReadDeadline(time.Now().Add(greetingWait)); err != nil {
		return err
	}
	g, err := readGreeting(c)
	if err != nil {
		return err
	}
	if err := w.refuse(g); err != nil {
		w.mu.Lock()
		again := time.Since(w.refused[g.from]) < refusalEvery
		if !again {
			w.refused[g.from] = time.Now()
		}
		w.mu.Unlock()
		if !again {
			w.log.Warn("raft connection refused", "from", g.from, "address", c.RemoteAddr().String(), "reason", err)
		}
		return io.EOF // Raft just sees it end
	}
	return c.SetReadDeadline(time.Time{})
}

func (w *wire) refuse(g greeting) error {
	mine := w.cluster()
	switch {
	case g.to != w.id:
		return fmt.Errorf("it is meant for node %q", g.to)
	case mine == fsm.WorkflowID{}:
		return fmt.Errorf("it speaks for cluster %v, this node belongs to none yet", g.cluster)
	case g.cluster != mine:
		return fmt.Errorf("it speaks for cluster %v, this node belongs to %v", g.cluster, mine)
	}
	return nil
}

// moves are members' addresses that Raft does not have yet. A leader notes a new
// address, but when most members have moved there is none: those who met know
// better then.
type moves struct {
	mu sync.Mutex
	by map[string]move
}

// move of a member whose address was from when it introduced itself.
type move struct{ from, to string }

func (m *moves) note(id, from, to string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.by == nil {
		m.by = map[string]move{}
	}
	m.by[id] = move{from, to}
}

// of a member: where it is, if addr is what it had when it moved.
func (m *moves) of(id, addr string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if moved, ok := m.by[id]; ok && moved.from == addr {
		return moved.to
	}
	return addr
}

// wireConn is a connection that its wire knows.
type wireConn struct {
	net.Conn
	wire  *wire
	greet func() error // nil: dialled
}

// say the greeting within a time.
func (c *wireConn) say(g greeting, within time.Duration) error {
	if err := c.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := c.Write(g.encode()); err != nil {
		return err
	}
	return c.SetWriteDeadline(time.Time{})
}

func (c *wireConn) Read(b []byte) (int, error) {
	if c.greet != nil {
		if err := c.greet(); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(b)
}

func (c *wireConn) Close() error {
	c.wire.mu.Lock()
	delete(c.wire.conns, c)
	c.wire.mu.Unlock()
	return c.Conn.Close()
}

type wireAddr string

func (wireAddr) Network() string  { return "tcp" }
func (a wireAddr) String() string { return string(a) }

// greeting opens a connection: a version, the length of the rest, the cluster,
// and the two ids, each behind its length.
type greeting struct {
	from, to string
	cluster  fsm.WorkflowID
}

func (g greeting) encode() []byte {
	b := append(make([]byte, 3), g.cluster[:]...)
	b = append(binary.AppendUvarint(b, uint64(len(g.from))), g.from...)
	b = append(binary.AppendUvarint(b, uint64(len(g.to))), g.to...)
	b[0] = greetingVersion
	binary.BigEndian.PutUint16(b[1:], uint16(len(b)-3))
	return b
}

func readGreeting(from io.Reader) (g greeting, err error) {
	var head [3]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return g, err
	}
	size := int(binary.BigEndian.Uint16(head[1:]))
	if head[0] != greetingVersion || size > greetingMost || size < len(g.cluster)+2 {
		return g, fmt.Errorf("greeting begins with %x: %w", head, fsm.ErrMalformed)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(from, b); err != nil {
		return g, err
	}
	copy(g.cluster[:], b)
	b = b[len(g.cluster):]
	for _, to := range []*string{&g.from, &g.to} {
		n, used := binary.Uvarint(b)
		if used <= 0 || n > uint64(len(b)-used) {
			return g, fmt.Errorf("greeting: %w", fsm.ErrMalformed)
		}
		*to, b = string(b[used:used+int(n)]), b[used+int(n):]
	}
	return g, nil
}
