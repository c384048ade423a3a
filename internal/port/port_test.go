package port

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
	"github.com/heddle-io/heddle/internal/porttest"
)

// logged collects what a port logs.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// node is a port with an API behind it, and Raft's connections echoed.
type node struct {
	*Port
	addr string
	log  *logged
}

// member is the ClusterService of a node; it only tells its name, and what
// protocol the call came by.
type member struct {
	heddlev1connect.UnimplementedClusterServiceHandler
	name string
}

func (m member) Status(_ context.Context, req *connect.Request[heddlev1.ClusterServiceStatusRequest]) (*connect.Response[heddlev1.ClusterServiceStatusResponse], error) {
	return connect.NewResponse(&heddlev1.ClusterServiceStatusResponse{Node: m.name, State: req.Peer().Protocol}), nil
}

func start(t *testing.T, c Config) *node {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{addr: l.Addr().String(), log: &logged{}}
	c.Logger = slog.New(slog.NewTextHandler(n.log, nil))
	n.Port = New(l, c)

	mux := http.NewServeMux()
	mux.Handle(heddlev1connect.NewClusterServiceHandler(member{name: c.Node}))
	mux.HandleFunc("GET /proto", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) })
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: mux, Protocols: &protocols, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(n.API()) })
	wg.Go(func() {
		for {
			c, err := n.Raft().Accept()
			if err != nil {
				return
			}
			wg.Go(func() { io.Copy(c, c); c.Close() })
		}
	})
	t.Cleanup(func() {
		server.Close()
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	return n
}

// echo proves that a Raft connection works.
func echo(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "raft"); err != nil {
		return err
	}
	b := make([]byte, 4)
	_, err := io.ReadFull(c, b)
	if err == nil && string(b) != "raft" {
		err = errors.New("echoed " + string(b))
	}
	return err
}

func get(t *testing.T, transport *http.Transport, url string) (string, error) {
	t.Helper()
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	res, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

func protocols(set func(*http.Protocols)) *http.Protocols {
	var p http.Protocols
	set(&p)
	return &p
}

// Every protocol is served at one address, with and without TLS.
func TestOnePortForAll(t *testing.T) {
	ca := porttest.New(t)
	for _, c := range []struct {
		name   string
		secure bool
	}{{"plaintext", false}, {"tls", true}} {
		t.Run(c.name, func(t *testing.T) {
			a, b := Config{Node: "a"}, Config{Node: "b"}
			var clientTLS *tls.Config
			scheme := "http://"
			if c.secure {
				a.Identity = identity(t, "a", ca.Issue(t, "a", nil))
				b.Identity = identity(t, "b", ca.Issue(t, "b", byURI("b")))
				clientTLS, scheme = ca.Client(), "https://"
			}
			na, nb := start(t, a), start(t, b)

			one := &http.Transport{Protocols: protocols(func(p *http.Protocols) { p.SetHTTP1(true) }), TLSClientConfig: clientTLS}
			two := &http.Transport{Protocols: protocols(func(p *http.Protocols) { p.SetHTTP2(c.secure); p.SetUnencryptedHTTP2(!c.secure) }), TLSClientConfig: clientTLS.Clone()}
			for want, transport := range map[string]*http.Transport{"HTTP/1.1": one, "HTTP/2.0": two} {
				if got, err := get(t, transport, scheme+na.addr+"/proto"); err != nil || got != want {
					t.Errorf("%q, %v; want %s", got, err, want)
				}
			}
			for want, opts := range map[string][]connect.ClientOption{
				"connect": nil, "grpc": {connect.WithGRPC()}, "grpcweb": {connect.WithGRPCWeb()},
			} {
				cluster := heddlev1connect.NewClusterServiceClient(&http.Client{Transport: two}, scheme+na.addr, opts...)
				res, err := cluster.Status(t.Context(), connect.NewRequest(&heddlev1.ClusterServiceStatusRequest{}))
				if err != nil || res.Msg.GetNode() != "a" || res.Msg.GetState() != want {
					t.Errorf("%s: %v, %v", want, res, err)
				}
			}
			for _, way := range [][2]*node{{na, nb}, {nb, na}} {
				conn, err := way[0].Raft().Dial(way[1].cfg.Node, way[1].addr, 10*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				if err := echo(conn); err != nil {
					t.Errorf("raft connection: %v", err)
				}
				conn.Close()
			}
			peers := Transport(b.Identity, nil, nil)
			if got, err := get(t, peers, scheme+na.addr+"/proto"); err != nil || got != "HTTP/2.0" {
				t.Errorf("a node's own transport: %q, %v", got, err)
			}
		})
	}
}

// Clients that say nothing, or say it slowly, hold nobody up, and are let go.
func TestSilentClients(t *testing.T) {
	n := start(t, Config{Node: "a"})
	var silent []net.Conn
	for range 50 {
		c, err := net.Dial("tcp", n.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	if _, err := silent[0].Write([]byte{helloByte}); err != nil { // and no more
		t.Fatal(err)
	}
	transport := &http.Transport{}
	if got, err := get(t, transport, "http://"+n.addr+"/proto"); err != nil || got != "HTTP/1.1" {
		t.Errorf("with silent clients: %q, %v", got, err)
	}
	// Closing the port lets them go at once.
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range silent {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a silent client is not let go: %v", err)
		}
	}
}

// pipes is a network of one listener, within a bubble.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }
func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// A client has a bounded time for its first byte, its handshake, and its
// introduction.
func TestSilenceEnds(t *testing.T) {
	ca := porttest.New(t)
	id := identity(t, "a", ca.Issue(t, "a", nil))
	for _, c := range []struct {
		name  string
		id    *Identity
		says  []byte
		after time.Duration
	}{
		{"nothing", nil, nil, sniffTime},
		{"half an introduction", nil, []byte{helloByte, helloVersion, 3, 'x'}, sniffTime},
		{"no handshake", id, nil, sniffTime},
		{"half a handshake", id, []byte{0x16, 3, 1, 0, 200, 1}, sniffTime},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newPipes()
				p := New(l, Config{Node: "a", Identity: c.id})
				conn, err := l.dial(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				if len(c.says) > 0 {
					if _, err := conn.Write(c.says); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := io.Copy(io.Discard, conn); err != nil {
					t.Errorf("the connection ends with %v", err)
				}
				if d := time.Since(begin); d != c.after {
					t.Errorf("let go after %v, want %v", d, c.after)
				}
				conn.Close()
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A dialler that meets silence gives up when its time is over.
func TestDialEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mute := newPipes()
		p := New(newPipes(), Config{Node: "a", Dial: mute.dial})
		go func() {
			if c, err := mute.Accept(); err == nil {
				io.Copy(io.Discard, c)
			}
		}()
		begin := time.Now()
		if _, err := p.Raft().Dial("b", "b:1", 3*time.Second); err == nil {
			t.Error("silence is taken for an answer")
		}
		if d := time.Since(begin); d != 3*time.Second {
			t.Errorf("gave up after %v, want 3s", d)
		}
		mute.Close()
		p.Close()
	})
}

// Closing Raft's side turns its connections away, and leaves the API's alone.
func TestRaftCloses(t *testing.T) {
	a, b := start(t, Config{Node: "a"}), start(t, Config{Node: "b"})
	a.Raft().Close()
	if c, err := b.Raft().Dial("a", a.addr, 10*time.Second); err == nil {
		if err := echo(c); err == nil {
			t.Error("a connection is taken")
		}
		c.Close()
	}
	if got, err := get(t, &http.Transport{}, "http://"+a.addr+"/proto"); err != nil || got != "HTTP/1.1" {
		t.Errorf("the API: %q, %v", got, err)
	}
}

// What has connected before the end is still heard; who is silent is not waited
// for without end.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		p := New(l, Config{Node: "a"})
		early, err := l.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // it is being looked at
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		drained := make(chan struct{})
		go func() {
			p.Drain(ctx)
			close(drained)
		}()
		synctest.Wait()
		if _, err := l.dial(t.Context(), "", ""); err == nil {
			t.Error("it still listens")
		}
		go early.Write([]byte("GET"))
		c, err := p.API().Accept()
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 3)
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "GET" {
			t.Errorf("%q, %v", b, err)
		}
		<-drained
		if ctx.Err() != nil {
			t.Error("it waits for what has been handed over")
		}
		early.Close()
		if err := p.Close(); err != nil {
			t.Error(err)
		}

		silent := newPipes()
		p = New(silent, Config{Node: "a"})
		mute, err := silent.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p.Drain(ctx)
		mute.Close()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A connection that nobody accepts is let go.
func TestNobodyAccepts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		p, from := New(l, Config{Node: "a"}), New(newPipes(), Config{Node: "b", Dial: l.dial})
		c, err := from.Raft().Dial("a", "", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("the connection ends with %v", err)
		}
		if d := time.Since(begin); d != takeTime {
			t.Errorf("let go after %v, want %v", d, takeTime)
		}
		c.Close()
		for _, p := range []*Port{p, from} {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// Whoever is at the wrong door learns so, on both sides.
func TestRefusals(t *testing.T) {
	ca, other := porttest.New(t), porttest.New(t)
	secure := func(a *porttest.Authority, node, names string) *Identity {
		if node == names {
			return identity(t, node, a.Issue(t, node, nil))
		}
		return identity(t, names, a.Issue(t, names, nil)) // and lies about its id
	}
	for _, c := range []struct {
		name   string
		dials  Config
		listen Config
		says   string // in the dialler's error
		logs   string // in the listener's log
	}{
		{name: "another node at this address", dials: Config{Node: "a"}, listen: Config{Node: "c"},
			says: `looks for node "b" at this address, where node "c" listens`, logs: "--advertise"},
		{name: "the same id", dials: Config{Node: "a"}, listen: Config{Node: "a"}, says: "give it another --node-id", logs: "--node-id"},
		{name: "plaintext to TLS", dials: Config{Node: "a"}, listen: Config{Node: "b", Identity: secure(ca, "b", "b")},
			says: "that node speaks TLS only", logs: "it speaks no TLS"},
		{name: "TLS to plaintext", dials: Config{Node: "a", Identity: secure(ca, "a", "a")}, listen: Config{Node: "b"},
			says: "that node speaks no TLS"},
		{name: "the listener's CA is another", dials: Config{Node: "a", Identity: secure(ca, "a", "a")}, listen: Config{Node: "b", Identity: secure(other, "b", "b")},
			says: "another CA than this node's --tls-ca"},
		{name: "the dialler's CA is another", listen: Config{Node: "b", Identity: secure(ca, "b", "b")},
			dials: Config{Node: "a", Identity: func() *Identity {
				i := secure(other, "a", "a")
				i.now.ca = secure(ca, "x", "x").now.ca // it trusts the listener all the same
				return i
			}()},
			says: "that node's --tls-ca does not know"},
		{name: "the dialler's certificate names another", dials: Config{Node: "a", Identity: secure(ca, "a", "x")}, listen: Config{Node: "b", Identity: secure(ca, "b", "b")},
			says: `does not name node "a"`, logs: "heddle:a"},
		{name: "the listener's certificate names another", dials: Config{Node: "a", Identity: secure(ca, "a", "a")}, listen: Config{Node: "b", Identity: secure(ca, "b", "x")},
			says: `does not name node "b" but ["x"]`},
		{name: "no CA at the listener", dials: Config{Node: "a", Identity: secure(ca, "a", "a")},
			listen: Config{Node: "b", Identity: func() *Identity { f := ca.Issue(t, "b", nil); f.CA = ""; return identity(t, "b", f) }()},
			says:   "that node has no --tls-ca"},
		{name: "no CA at the dialler", listen: Config{Node: "b", Identity: secure(ca, "b", "b")},
			dials: Config{Node: "a", Identity: func() *Identity { f := ca.Issue(t, "a", nil); f.CA = ""; return identity(t, "a", f) }()},
			says:  "this node has no --tls-ca"},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, to := start(t, c.dials), start(t, c.listen)
			for range 3 {
				conn, err := from.Raft().Dial("b", to.addr, 10*time.Second)
				if err == nil {
					conn.Close()
					t.Fatal("it gets in")
				}
				if !strings.Contains(err.Error(), c.says) {
					t.Errorf("%q is not said in: %v", c.says, err)
				}
			}
			if c.logs == "" {
				return
			}
			if n := strings.Count(to.log.String(), "refused"); n != 1 || !strings.Contains(to.log.String(), c.logs) {
				t.Errorf("logged %d times, want once, with %q:\n%s", n, c.logs, to.log)
			}
		})
	}
}

// Clients of the API that mistake the protocol read why.
func TestWrongScheme(t *testing.T) {
	ca := porttest.New(t)
	plain, secure := start(t, Config{Node: "a"}), start(t, Config{Node: "b", Identity: identity(t, "b", ca.Issue(t, "b", nil))})
	if got, err := get(t, &http.Transport{}, "http://"+secure.addr+"/proto"); err != nil || !strings.Contains(got, "call it by https") {
		t.Errorf("http to https: %q, %v", got, err)
	}
	if _, err := get(t, Transport(nil, nil, nil), "http://"+secure.addr+"/proto"); err == nil || !strings.Contains(Explain(err).Error(), "that node speaks TLS only") {
		t.Errorf("h2c to https: %v", err)
	}
	if _, err := get(t, &http.Transport{TLSClientConfig: ca.Client()}, "https://"+plain.addr+"/proto"); err == nil || !strings.Contains(err.Error(), "HTTP response to HTTPS client") {
		t.Errorf("https to http: %v", err)
	}
}

// A node of a later version is told to be of the same one.
func TestAnotherVersion(t *testing.T) {
	n := start(t, Config{Node: "a"})
	c, err := net.Dial("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte{helloByte, helloVersion + 1}); err != nil {
		t.Fatal(err)
	}
	a, err := readAnswer(c)
	if err != nil || a.ok || !strings.Contains(a.text, "same version") {
		t.Errorf("%+v, %v", a, err)
	}
}

// What is no engine is not taken for one.
func TestNoEngine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "220 mail.example.org ESMTP\r\n")
			c.Close()
		}
	}()
	defer l.Close()
	n := start(t, Config{Node: "a"})
	if _, err := n.Raft().Dial("b", l.Addr().String(), 10*time.Second); err == nil {
		t.Error("a mail server is taken for a node")
	}
}

func FuzzHello(f *testing.F) {
	f.Add(hello{"a", "b"}.encode()[1:])
	f.Add(answer{false, "a"}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := readHello(bytes.NewReader(b)); err == nil && !bytes.HasPrefix(b, h.encode()[1:]) {
			t.Errorf("%x is read as %+v", b, h)
		}
		if a, err := readAnswer(bytes.NewReader(b)); err == nil && !bytes.HasPrefix(b, a.encode()) {
			t.Errorf("%x is read as %+v", b, a)
		}
	})
}
