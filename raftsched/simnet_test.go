package raftsched

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// simnet is a network in the bubble's time. Its links are directed: what is
// written into one that is cut waits, as TCP's packets do, and comes through
// late when it heals, unless somebody has given up before.
type simnet struct {
	mu        sync.Mutex
	delay     time.Duration
	listeners map[string]*simListener
	cut       map[[2]string]bool
	conns     map[*simConn]struct{} // open ends
}

func newSimnet() *simnet {
	return &simnet{
		delay: 200 * time.Microsecond, listeners: map[string]*simListener{}, cut: map[[2]string]bool{}, conns: map[*simConn]struct{}{},
	}
}

func (s *simnet) isCut(from, to string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut[[2]string{from, to}]
}

// setCut cuts or heals one direction of a link.
func (s *simnet) setCut(from, to string, cut bool) {
	s.mu.Lock()
	s.cut[[2]string{from, to}] = cut
	var conns []*simConn
	for c := range s.conns {
		if c.to == from && c.from == to { // whose reader waits
			conns = append(conns, c)
		}
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.in.wake()
	}
}

// listen gives the node its Network.
func (s *simnet) listen(addr string) *simListener {
	l := &simListener{net: s, addr: addr, incoming: make(chan *simConn, 16), closed: make(chan struct{})}
	s.mu.Lock()
	s.listeners[addr] = l
	s.mu.Unlock()
	return l
}

// kill ends all connections of a node, as its kernel does when it dies.
func (s *simnet) kill(addr string) {
	s.mu.Lock()
	var conns []*simConn
	for c := range s.conns {
		if c.from == addr || c.to == addr {
			conns = append(conns, c)
		}
	}
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

type simListener struct {
	net      *simnet
	addr     string
	incoming chan *simConn
	once     sync.Once
	closed   chan struct{}
}

func (l *simListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.incoming:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *simListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.net.mu.Lock()
		if l.net.listeners[l.addr] == l {
			delete(l.net.listeners, l.addr)
		}
		l.net.mu.Unlock()
		for {
			select {
			case c := <-l.incoming:
				_ = c.Close()
				continue
			default:
			}
			return
		}
	})
	return nil
}

func (l *simListener) Addr() net.Addr { return wireAddr(l.addr) }

var errRefused = errors.New("connection refused")

// Dial waits out its time when a direction of the link is cut.
func (l *simListener) Dial(_, addr string, timeout time.Duration) (net.Conn, error) {
	s := l.net
	deadline := time.Now().Add(timeout)
	for s.isCut(l.addr, addr) || s.isCut(addr, l.addr) {
		if !time.Now().Before(deadline) {
			return nil, os.ErrDeadlineExceeded
		}
		time.Sleep(20 * time.Millisecond)
	}
	time.Sleep(2 * s.delay)
	there, back := newSimPipe(s, l.addr, addr), newSimPipe(s, addr, l.addr)
	mine := &simConn{net: s, from: l.addr, to: addr, out: there, in: back}
	theirs := &simConn{net: s, from: addr, to: l.addr, out: back, in: there}
	s.mu.Lock()
	peer := s.listeners[addr]
	s.conns[mine], s.conns[theirs] = struct{}{}, struct{}{}
	s.mu.Unlock()
	if peer != nil {
		select {
		case <-peer.closed:
		case peer.incoming <- theirs:
			return mine, nil
		}
	}
	_, _ = mine.Close(), theirs.Close()
	return nil, errRefused
}

// simConn is one end of a connection.
type simConn struct {
	net      *simnet
	from, to string
	out, in  *simPipe
}

func (c *simConn) Read(b []byte) (int, error)        { return c.in.read(b) }
func (c *simConn) Write(b []byte) (int, error)       { return c.out.write(b) }
func (c *simConn) LocalAddr() net.Addr               { return wireAddr(c.from) }
func (c *simConn) RemoteAddr() net.Addr              { return wireAddr(c.to) }
func (c *simConn) SetReadDeadline(t time.Time) error { c.in.setDeadline(t); return nil }
func (c *simConn) SetWriteDeadline(time.Time) error  { return nil } // its buffers have room
func (c *simConn) SetDeadline(t time.Time) error     { return c.SetReadDeadline(t) }
func (c *simConn) Close() error {
	c.net.mu.Lock()
	delete(c.net.conns, c)
	c.net.mu.Unlock()
	c.out.finish(io.EOF)
	c.in.finish(net.ErrClosed)
	return nil
}

// simPipe is one direction.
type simPipe struct {
	net      *simnet
	from, to string

	mu       sync.Mutex
	cond     *sync.Cond
	queue    []simChunk
	end      error // of what follows the queue
	deadline time.Time
	timer    *time.Timer
}

type simChunk struct {
	data []byte
	at   time.Time
}

func newSimPipe(s *simnet, from, to string) *simPipe {
	p := &simPipe{net: s, from: from, to: to}
	p.cond = sync.NewCond(&p.mu)
	return p
}

func (p *simPipe) wake() {
	p.mu.Lock()
	p.cond.Broadcast()
	p.mu.Unlock()
}

func (p *simPipe) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end != nil {
		return 0, io.ErrClosedPipe
	}
	p.queue = append(p.queue, simChunk{append([]byte(nil), b...), time.Now().Add(p.net.delay)})
	time.AfterFunc(p.net.delay, p.wake)
	return len(b), nil
}

func (p *simPipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case !p.deadline.IsZero() && !time.Now().Before(p.deadline):
			return 0, os.ErrDeadlineExceeded
		case errors.Is(p.end, net.ErrClosed):
			return 0, p.end
		case p.net.isCut(p.from, p.to):
		case len(p.queue) > 0 && !time.Now().Before(p.queue[0].at):
			n := copy(b, p.queue[0].data)
			if p.queue[0].data = p.queue[0].data[n:]; len(p.queue[0].data) == 0 {
				p.queue = p.queue[1:]
			}
			return n, nil
		case len(p.queue) == 0 && p.end != nil:
			return 0, p.end
		}
		p.cond.Wait()
	}
}

func (p *simPipe) setDeadline(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = t
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	if !t.IsZero() {
		p.timer = time.AfterFunc(time.Until(t), p.wake)
	}
	p.cond.Broadcast()
}

func (p *simPipe) finish(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end == nil || errors.Is(why, net.ErrClosed) {
		p.end = why
	}
	if p.timer != nil && errors.Is(why, net.ErrClosed) {
		p.timer.Stop()
	}
	p.cond.Broadcast()
}
