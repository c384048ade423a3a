package heddle

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddle-io/heddle/internal/signpost"
)

// addresses are the engines a client knows of: those it was given, and those
// that engines have told of since. Any of them takes any call, so that one
// address that works is enough to find the others, and to outlive it.
type addresses struct {
	make  func(addr string) *endpoint
	given []*endpoint
	// current is the endpoint that calls go to which do not need the leader.
	current atomic.Pointer[endpoint]

	mu   sync.Mutex
	told []*endpoint // not among given
	text string      // of which told was made
	all  map[string]*endpoint
}

// shunFirst is how long nobody is sent to an engine that could not be reached,
// and shunMost how long if that goes on: it may be one that only other engines
// can reach.
const (
	shunFirst = 5 * time.Second
	shunMost  = time.Minute
)

func newAddresses(given []string, endpointOf func(addr string) *endpoint) *addresses {
	a := &addresses{make: endpointOf, all: make(map[string]*endpoint)}
	for _, addr := range given {
		if e := a.at(addr); !slices.Contains(a.given, e) {
			a.given = append(a.given, e)
		}
	}
	a.current.Store(a.given[0])
	return a
}

// at gives the endpoint of an address.
func (a *addresses) at(addr string) *endpoint {
	addr = strings.TrimRight(addr, "/")
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.all[addr]
	if e == nil {
		e = a.make(addr)
		a.all[addr] = e
	}
	return e
}

// number of engines that are known.
func (a *addresses) number() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.given) + len(a.told)
}

// next is the engine to turn to after e: one that could be reached lately, if
// there is any.
func (a *addresses) next(e *endpoint) *endpoint {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := append(a.given[:len(a.given):len(a.given)], a.told...)
	at := slices.Index(list, e) // -1: a stranger, after whom comes the first
	for i := 1; i <= len(list); i++ {
		if n := list[(at+i)%len(list)]; !n.shunned() {
			return n
		}
	}
	return list[(at+1)%len(list)]
}

// leave turns calls away from an engine that did not answer.
func (a *addresses) leave(e *endpoint) { a.current.CompareAndSwap(e, a.next(e)) }

// learn takes note of the engines an answer names.
func (a *addresses) learn(h http.Header) {
	text := h.Get(signpost.Members)
	if text == "" {
		return
	}
	a.mu.Lock()
	known := text == a.text
	a.text = text
	a.mu.Unlock()
	if known {
		return
	}
	var told []*endpoint
	for addr := range strings.SplitSeq(text, ",") {
		if !a.trusted(addr) {
			continue
		}
		if e := a.at(addr); !slices.Contains(a.given, e) && !slices.Contains(told, e) {
			told = append(told, e)
		}
	}
	a.mu.Lock()
	a.told = told
	a.mu.Unlock()
}

// leader gives the engine that leads according to an answer; nil: the one that
// answered, or none that can be used.
func (a *addresses) leader(addr string) *endpoint {
	if addr == "" || !a.trusted(addr) {
		return nil
	}
	if e := a.at(addr); !e.shunned() {
		return e
	}
	return nil
}

// trusted: the address is one of an engine, and not in clear text where those
// that were given are not.
func (a *addresses) trusted(addr string) bool {
	u, err := url.Parse(addr)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	return u.Scheme == "https" || !slices.ContainsFunc(a.given, func(e *endpoint) bool { return strings.HasPrefix(e.addr, "https:") })
}

// shun marks an engine that could not be reached.
func (e *endpoint) shun() {
	if !e.shunned() {
		d := shunFirst << min(e.missed.Add(1)-1, 10)
		e.until.Store(time.Now().Add(min(d, shunMost)).UnixNano())
	}
}

func (e *endpoint) shunned() bool { return time.Now().UnixNano() < e.until.Load() }

// reached takes note that it can be.
func (e *endpoint) reached() {
	if e.missed.Load() != 0 {
		e.missed.Store(0)
	}
}
