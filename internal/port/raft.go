package port

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// ErrRefused is wrapped by Dial when the other node answers that it will not
// have the connection; the error's text has its reason.
var ErrRefused = errors.New("refused")

// Raft is Raft's side of a port: a listener of introduced connections, and the
// way to those of other nodes.
type Raft struct {
	*inlet
	port *Port
}

// Dial connects to the node with this id at addr and introduces this one; whoever
// else answers there is refused. timeout bounds all of it.
func (r *Raft) Dial(id, addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(r.port.life, timeout)
	defer cancel()
	c, err := r.port.dial(ctx, id, addr)
	if err != nil {
		return nil, fmt.Errorf("dial node %q at %s: %w", id, addr, err)
	}
	return c, nil
}

// dial connects and introduces.
func (p *Port) dial(ctx context.Context, id, addr string) (_ net.Conn, err error) {
	c, err := p.cfg.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	raw := c
	if p.cfg.Identity != nil {
		t := tls.Client(c, p.cfg.Identity.client(protocolRaft))
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, Explain(err)
		}
		if err := Names(t.ConnectionState().PeerCertificates[0], id); err != nil {
			return nil, err
		}
		c = t
	}
	if _, err := c.Write(hello{from: p.cfg.Node, to: id}.encode()); err != nil {
		return nil, Explain(err)
	}
	switch a, err := readAnswer(c); {
	case err != nil:
		return nil, Explain(err)
	case !a.ok:
		return nil, fmt.Errorf("%w: %s", ErrRefused, a.text)
	}
	if !stop() {
		return nil, context.Cause(ctx) // it is being closed
	}
	return c, raw.SetDeadline(time.Time{})
}
