package port

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	// sniffTime bounds how long a new connection may take to show what it is:
	// its first byte, or its TLS handshake.
	sniffTime = 10 * time.Second
	// helloTime bounds the introduction of a Raft connection.
	helloTime = 5 * time.Second
	// takeTime bounds how long a connection waits to be accepted.
	takeTime = 5 * time.Second
	// acceptPause is the longest pause after the system refused a connection,
	// for want of files as a rule.
	acceptPause = time.Second
)

// The protocols that TLS agrees on.
const (
	protocolRaft  = "heddle-raft"
	protocolHTTP2 = "h2"
	protocolHTTP1 = "http/1.1"
)

// Config of a Port. Node must be set.
type Config struct {
	// Node is this node's id.
	Node string
	// Identity is the certificate of this node; nil: plaintext.
	Identity *Identity
	// Dial makes connections. Nil: a net.Dialer does.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Logger is told of connections that were refused. Nil: nobody is.
	Logger *slog.Logger
}

// Port is a listener that API and Raft share.
type Port struct {
	cfg      Config
	listener net.Listener
	api      *inlet
	raft     *Raft
	refusals refusals
	wg       sync.WaitGroup

	life context.Context // of handshakes under way
	end  context.CancelFunc
}

// New takes over a listener and begins to accept. Close closes it.
func New(l net.Listener, c Config) *Port {
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Port{cfg: c, listener: l, api: newInlet(l.Addr())}
	p.raft = &Raft{inlet: newInlet(l.Addr()), port: p}
	p.refusals.log = c.Logger
	p.life, p.end = context.WithCancel(context.Background())
	p.wg.Go(p.accept)
	return p
}

// API gives the connections of the API. With TLS they are *tls.Conn whose
// handshake is done, as http.Server wants them for HTTP/2. Closing it closes
// neither the port nor Raft's side.
func (p *Port) API() net.Listener { return p.api }

// Raft gives the connections of Raft, and dials them.
func (p *Port) Raft() *Raft { return p.raft }

// Addr is where the port listens.
func (p *Port) Addr() net.Addr { return p.listener.Addr() }

// Drain takes no more connections and hands over those that are about to show
// what they are. It returns when there are none left, at the latest when ctx
// ends: a client that is silent may stay so.
func (p *Port) Drain(ctx context.Context) {
	p.listener.Close()
	done := make(chan struct{})
	go func() {
		p.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Close closes the listener and both sides, and waits for the port's goroutines.
// Connections that were accepted or dialled stay their owners'.
func (p *Port) Close() error {
	err := p.listener.Close()
	p.end()
	p.api.Close()
	p.raft.Close()
	p.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (p *Port) accept() {
	var pause time.Duration
	for {
		c, err := p.listener.Accept()
		switch {
		case err == nil:
			pause = 0
			p.wg.Go(func() { p.route(c) })
			continue
		case errors.Is(err, net.ErrClosed), p.life.Err() != nil:
			return
		}
		if pause == 0 {
			p.cfg.Logger.Warn("connections cannot be accepted for now", "listen", p.Addr().String(), "error", err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), acceptPause)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-p.life.Done():
		}
		t.Stop()
	}
}

// route finds out what a connection is and hands it over, or closes it.
func (p *Port) route(c net.Conn) {
	stop := context.AfterFunc(p.life, func() { c.Close() })
	defer stop()
	_ = c.SetDeadline(time.Now().Add(sniffTime)) // a dead connection fails below
	if p.cfg.Identity != nil {
		p.routeTLS(c)
	} else {
		p.routePlain(c)
	}
}

func (p *Port) routePlain(c net.Conn) {
	first := make([]byte, 1)
	if _, err := io.ReadFull(c, first); err != nil {
		c.Close() // silent, or gone: a look at whether the port is open
		return
	}
	switch first[0] {
	case helloByte:
		p.introduce(c, nil)
		return
	case tlsByte:
		farewell(c, badRequest+"this engine speaks no TLS: call it by http\n")
		return
	}
	_ = c.SetDeadline(time.Time{})
	p.api.put(&sniffed{Conn: c, head: first})
}

func (p *Port) routeTLS(c net.Conn) {
	t := tls.Server(c, p.cfg.Identity.server())
	if err := t.HandshakeContext(p.life); err != nil {
		var plain tls.RecordHeaderError
		if errors.As(err, &plain) && plain.Conn != nil {
			p.refusePlain(c, plain.RecordHeader)
			return
		}
		c.Close()
		return
	}
	state := t.ConnectionState()
	if state.NegotiatedProtocol == protocolRaft {
		_ = t.SetDeadline(time.Now().Add(helloTime))
		first := make([]byte, 1)
		if _, err := io.ReadFull(t, first); err != nil || first[0] != helloByte {
			t.Close()
			return
		}
		p.introduce(t, &state)
		return
	}
	_ = t.SetDeadline(time.Time{})
	p.api.put(t)
}

// refusePlain tells who speaks no TLS to a port that speaks nothing else; head
// is how it began.
func (p *Port) refusePlain(c net.Conn, head [5]byte) {
	switch {
	case head[0] == helloByte:
		p.refusals.note(c.RemoteAddr(), "it speaks no TLS: give it --tls-cert, --tls-key and --tls-ca")
		farewell(c, string(answer{text: "that node speaks TLS only: give this one --tls-cert, --tls-key and --tls-ca"}.encode()))
	case string(head[:]) == "PRI *":
		farewell(c, inadequateSecurity)
	default:
		farewell(c, badRequest+"this engine speaks TLS only: call it by https\n")
	}
}

const (
	// tlsByte opens a TLS handshake.
	tlsByte = 0x16
	// badRequest heads an answer that clients of any protocol can show.
	badRequest = "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
	// inadequateSecurity says to a client of HTTP/2 that it takes TLS: empty
	// SETTINGS, and a GOAWAY of the code INADEQUATE_SECURITY.
	inadequateSecurity = "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x08\x07\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x0c"
	// A farewell waits so long, and for so much, so that the other side has read
	// it before the connection is reset for what was not read.
	farewellTime  = 500 * time.Millisecond
	farewellBytes = 64 << 10
)

// farewell says a last thing and closes the connection.
func farewell(c net.Conn, text string) {
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		return
	}
	if half, ok := c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = c.SetDeadline(time.Now().Add(farewellTime))
		_, _ = io.CopyN(io.Discard, c, farewellBytes)
	}
}

// sniffed is a connection whose first byte has been read.
type sniffed struct {
	net.Conn
	head []byte
}

// Read implements net.Conn.
func (c *sniffed) Read(b []byte) (int, error) {
	if len(c.head) > 0 && len(b) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// CloseWrite ends the writing side, where the connection knows sides: the
// server of the API lets a client read its last answer so.
func (c *sniffed) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// inlet is one side of the port, as a listener.
type inlet struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newInlet(addr net.Addr) *inlet {
	return &inlet{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

// put hands a connection over, or closes it when nobody takes it: a node that
// starts accepts only once its Raft runs.
func (i *inlet) put(c net.Conn) {
	t := time.NewTimer(takeTime)
	defer t.Stop()
	select {
	case i.conns <- c:
		return
	case <-i.done:
	case <-t.C:
	}
	c.Close()
}

// Accept implements net.Listener.
func (i *inlet) Accept() (net.Conn, error) {
	select {
	case c := <-i.conns:
		return c, nil
	case <-i.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener: connections that come from now on are closed.
func (i *inlet) Close() error {
	i.once.Do(func() { close(i.done) })
	return nil
}

// Addr implements net.Listener.
func (i *inlet) Addr() net.Addr { return i.addr }

// refusals logs why connections of other nodes are refused: a node that is
// refused tries again many times a second.
type refusals struct {
	log *slog.Logger

	mu   sync.Mutex
	last map[string]time.Time
}

const (
	refusalPause = time.Minute
	refusalKinds = 100
)

func (r *refusals) note(from net.Addr, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if at, known := r.last[why]; known && now.Sub(at) < refusalPause {
		return
	}
	if r.last == nil || len(r.last) >= refusalKinds {
		r.last = make(map[string]time.Time)
	}
	r.last[why] = now
	r.log.Warn("connection of another node refused", "from", from.String(), "reason", why)
}
