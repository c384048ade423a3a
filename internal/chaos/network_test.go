package chaos

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	return l.Addr().String()
}

// caller has a connection through a proxy.
type caller struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func call(t *testing.T, addr string) *caller {
	t.Helper()
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &caller{t, c, bufio.NewReader(c)}
}

// says sends a line and gives what comes back in time.
func (c *caller) says(line string, within time.Duration) (string, error) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.conn, line); err != nil {
		return "", err
	}
	return c.hears(within)
}

func (c *caller) hears(within time.Duration) (string, error) {
	c.conn.SetReadDeadline(time.Now().Add(within))
	return c.in.ReadString('\n')
}

const soon, long = 50 * time.Millisecond, 10 * time.Second

// A cut link is silent, in one direction or both, and goes on where it was when
// it is healed; other links know nothing of it.
func TestCut(t *testing.T) {
	n := NewNetwork()
	defer n.Close()
	a, err := n.Proxy("a", echo(t))
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.Proxy("b", echo(t))
	if err != nil {
		t.Fatal(err)
	}
	to := map[string]*caller{"a": call(t, a.Addr()), "b": call(t, b.Addr())}
	for name, c := range to {
		if got, err := c.says("hello", long); got != "hello\n" {
			t.Fatalf("%s: %q, %v", name, got, err)
		}
	}
	links := []link{{"here", "a"}, {"a", "here"}, {Everyone, "a"}, {"a", Everyone}}
	if !CanTellLinks {
		links = links[2:]
	}
	for _, l := range links {
		n.Set(l.from, l.to, Rule{Cut: true})
		if got, err := to["a"].says("lost?", soon); err == nil {
			t.Errorf("%v is cut, and %q came", l, got)
		}
		late := call(t, a.Addr())
		if got, err := late.says("me too", soon); err == nil {
			t.Errorf("%v is cut, and %q came to a new connection", l, got)
		}
		if got, err := to["b"].says("still here", long); err != nil {
			t.Errorf("%v is cut, and b: %q, %v", l, got, err)
		}
		n.Set(l.from, l.to, Rule{})
		if got, err := to["a"].hears(long); got != "lost?\n" {
			t.Errorf("%v is healed: %q, %v", l, got, err)
		}
		if got, err := late.hears(long); got != "me too\n" {
			t.Errorf("%v is healed, the new connection: %q, %v", l, got, err)
		}
	}
}

// A link that resets ends its connections, also idle ones, and refuses others.
func TestReset(t *testing.T) {
	n := NewNetwork()
	defer n.Close()
	p, err := n.Proxy("a", echo(t))
	if err != nil {
		t.Fatal(err)
	}
	old := call(t, p.Addr())
	if _, err := old.says("hello", long); err != nil {
		t.Fatal(err)
	}
	n.Isolate("a", Rule{Reset: true})
	if got, err := old.hears(long); err == nil || os.IsTimeout(err) {
		t.Errorf("an idle connection is not reset: %q, %v", got, err)
	}
	if got, err := call(t, p.Addr()).hears(long); err == nil || os.IsTimeout(err) {
		t.Errorf("a new connection is not reset: %q, %v", got, err)
	}
	n.Heal()
	if got, err := call(t, p.Addr()).says("again", long); got != "again\n" {
		t.Errorf("healed: %q, %v", got, err)
	}
}

// A proxy whose target moves: connections there are stay where they are.
func TestRetargetAndBreak(t *testing.T) {
	n := NewNetwork()
	defer n.Close()
	p, err := n.Proxy("db", echo(t))
	if err != nil {
		t.Fatal(err)
	}
	old := call(t, p.Addr())
	if _, err := old.says("hello", long); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	p.Retarget(l.Addr().String()) // nobody is there
	if got, err := old.says("still", long); got != "still\n" {
		t.Errorf("the old connection: %q, %v", got, err)
	}
	if got, err := call(t, p.Addr()).hears(long); err == nil || os.IsTimeout(err) {
		t.Errorf("a new connection to nobody: %q, %v", got, err)
	}
	p.Break()
	if got, err := old.hears(long); err == nil || os.IsTimeout(err) {
		t.Errorf("the old connection after Break: %q, %v", got, err)
	}
}

// Bytes over a slow link come later.
func TestDelay(t *testing.T) {
	n := NewNetwork()
	defer n.Close()
	p, err := n.Proxy("a", echo(t))
	if err != nil {
		t.Fatal(err)
	}
	c := call(t, p.Addr())
	if _, err := c.says("hello", long); err != nil {
		t.Fatal(err)
	}
	n.Isolate("a", Rule{Delay: 30 * time.Millisecond})
	begun := time.Now()
	if _, err := c.says("slowly", long); err != nil || time.Since(begun) < 60*time.Millisecond {
		t.Errorf("there and back took %v, %v", time.Since(begun), err)
	}
}
