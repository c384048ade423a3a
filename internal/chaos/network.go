package chaos

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"sync"
	"time"
)

// Everyone stands for every process in the rules of a network.
const Everyone = "*"

// Network is the links between processes, each known by a name. It is safe for
// concurrent use.
type Network struct {
	mu      sync.Mutex
	rules   map[link]Rule
	pids    map[int]string
	changed chan struct{} // closed when a rule has changed
	proxies []*Proxy
}

// link is the bytes that one process sends to another, whoever dialled.
type link struct{ from, to string }

// Rule is what happens to the bytes of a link. The zero value lets them pass.
type Rule struct {
	// Cut holds them back until the rule changes.
	Cut bool
	// Reset breaks the connections instead, and refuses new ones.
	Reset bool
	// Delay is how much later they arrive.
	Delay time.Duration
}

// NewNetwork is a network without faults.
func NewNetwork() *Network {
	return &Network{rules: make(map[link]Rule), pids: map[int]string{os.Getpid(): "here"}, changed: make(chan struct{})}
}

// Know says which process has a name from now on. This process is "here".
func (n *Network) Know(pid int, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for old, called := range n.pids {
		if called == name {
			delete(n.pids, old)
		}
	}
	n.pids[pid] = name
}

// Set puts a rule on a link; from and to may be Everyone.
func (n *Network) Set(from, to string, r Rule) {
	n.change(func() {
		if r == (Rule{}) {
			delete(n.rules, link{from, to})
		} else {
			n.rules[link{from, to}] = r
		}
	})
}

// Isolate puts a rule on all links of a process, in both directions.
func (n *Network) Isolate(name string, r Rule) {
	n.Set(name, Everyone, r)
	n.Set(Everyone, name, r)
}

// Heal takes all rules away.
func (n *Network) Heal() { n.change(func() { clear(n.rules) }) }

func (n *Network) change(rules func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	rules()
	close(n.changed)
	n.changed = make(chan struct{})
}

// rule of a link: of all that match, the strictest.
func (n *Network) rule(from, to string) (r Rule, changed <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range []link{{from, to}, {from, Everyone}, {Everyone, to}} {
		more := n.rules[l]
		r.Cut, r.Reset, r.Delay = r.Cut || more.Cut, r.Reset || more.Reset, max(r.Delay, more.Delay)
	}
	return r, n.changed
}

// owner names the process at the other end of a connection to us; "": unknown.
func (n *Network) owner(c *net.TCPConn) string {
	n.mu.Lock()
	pids := maps.Clone(n.pids)
	n.mu.Unlock()
	return pids[socketOwner(c.RemoteAddr().(*net.TCPAddr), c.LocalAddr().(*net.TCPAddr), pids)]
}

// Close closes all proxies.
func (n *Network) Close() {
	n.mu.Lock()
	proxies := n.proxies
	n.proxies = nil
	n.mu.Unlock()
	for _, p := range proxies {
		p.close()
	}
}

// Proxy stands before one process. Its address does not change, the one behind
// it may.
type Proxy struct {
	name     string
	net      *Network
	listener *net.TCPListener
	done     chan struct{}
	work     sync.WaitGroup

	mu     sync.Mutex
	target string
	conns  map[*pipe]bool
}

// Proxy makes a proxy for the process of a name, which is to be at target.
func (n *Network) Proxy(name, target string) (*Proxy, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy of %s: %w", name, err)
	}
	p := &Proxy{name: name, net: n, listener: l.(*net.TCPListener), done: make(chan struct{}), target: target, conns: make(map[*pipe]bool)}
	n.mu.Lock()
	n.proxies = append(n.proxies, p)
	n.mu.Unlock()
	p.work.Go(p.accept)
	return p, nil
}

// Addr is the proxy's own address.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Retarget sends new connections to another address. Those there are go on.
func (p *Proxy) Retarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Break resets the connections there are.
func (p *Proxy) Break() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.reset()
	}
}

func (p *Proxy) close() {
	close(p.done)
	p.listener.Close()
	p.Break()
	p.work.Wait()
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.AcceptTCP()
		if err != nil {
			select {
			case <-p.done:
				return
			case <-time.After(10 * time.Millisecond): // no file left, say
				continue
			}
		}
		p.work.Go(func() { p.serve(conn) })
	}
}

// pipe is one connection through a proxy.
type pipe struct {
	p      *Proxy
	from   string
	near   *net.TCPConn // dialled by from
	broken chan struct{}
	once   sync.Once

	mu  sync.Mutex
	far *net.TCPConn
}

func (c *pipe) reset() {
	c.once.Do(func() {
		close(c.broken)
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, conn := range []*net.TCPConn{c.near, c.far} {
			if conn != nil {
				_ = conn.SetLinger(0) // then Close resets
				conn.Close()
			}
		}
	})
}

func (p *Proxy) serve(near *net.TCPConn) {
	c := &pipe{p: p, from: p.net.owner(near), near: near, broken: make(chan struct{})}
	p.mu.Lock()
	p.conns[c] = true
	p.mu.Unlock()
	defer func() {
		c.reset()
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	}()
	select {
	case <-p.done: // Break may have come before us
		return
	default:
	}
	// A handshake needs both directions.
	if c.pass(c.from, p.name) != nil || c.pass(p.name, c.from) != nil {
		return
	}
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	far, err := net.DialTimeout("tcp4", target, 5*time.Second)
	if err != nil {
		return
	}
	c.mu.Lock()
	c.far = far.(*net.TCPConn)
	c.mu.Unlock()
	select {
	case <-c.broken:
		far.Close()
		return
	default:
	}
	var both sync.WaitGroup
	both.Go(func() { c.copy(c.far, c.near, c.from, p.name) })
	both.Go(func() { c.copy(c.near, c.far, p.name, c.from) })
	idle := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { c.watch(idle) })
	both.Wait()
	close(idle)
	watch.Wait()
}

// errReset: a rule or a Break has ended the connection.
var errReset = errors.New("connection is reset")

// pass waits until the link lets bytes pass.
func (c *pipe) pass(from, to string) error {
	for {
		r, changed := c.p.net.rule(from, to)
		switch {
		case r.Reset:
			c.reset()
			return errReset
		case !r.Cut:
			if r.Delay == 0 {
				return nil
			}
			t := time.NewTimer(r.Delay)
			defer t.Stop()
			select {
			case <-t.C:
				return nil
			case <-c.broken:
				return errReset
			}
		}
		select {
		case <-changed:
		case <-c.broken:
			return errReset
		}
	}
}

// watch resets the connection as soon as a rule says so, also when no bytes
// come.
func (c *pipe) watch(idle <-chan struct{}) {
	for {
		there, changed := c.p.net.rule(c.from, c.p.name)
		back, _ := c.p.net.rule(c.p.name, c.from)
		if there.Reset || back.Reset {
			c.reset()
			return
		}
		select {
		case <-changed:
		case <-idle:
			return
		case <-c.broken:
			return
		}
	}
}

// copy carries the bytes of one direction, to their end.
func (c *pipe) copy(to, from *net.TCPConn, sender, receiver string) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if c.pass(sender, receiver) != nil {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				c.reset()
				return
			}
		}
		if errors.Is(err, io.EOF) {
			if c.pass(sender, receiver) == nil {
				_ = to.CloseWrite() // an error means that it is closed
			}
			return
		}
		if err != nil {
			_ = c.pass(sender, receiver)
			c.reset()
			return
		}
	}
}
