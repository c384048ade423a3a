package heddle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/signpost"
)

// cluster is a worker in a bubble with peers that are nodes of one cluster.
type cluster struct {
	t     *testing.T
	peers []*peer
	nets  []*pipes
	c     *Client
	w     *Worker
	log   bytes.Buffer // read only while everything is blocked
}

// among runs a worker that is given the addresses (indices of nodes; -1: one
// where nobody is). Node 0 leads, and all say so. setup registers handlers and
// bends the peers; the worker runs while body does.
func among(t *testing.T, addrs []int, setup, body func(k *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k := &cluster{t: t, peers: []*peer{newPeer(), newPeer(), newPeer()}}
		all, nets, end := serve(t, ClientConfig{}, k.peers...)
		defer end()
		cfg := all.cfg
		cfg.Addrs, cfg.Logger = nil, slog.New(slog.NewTextHandler(&k.log, nil))
		for _, i := range addrs {
			if i < 0 {
				cfg.Addrs = append(cfg.Addrs, "http://nowhere:1")
				continue
			}
			cfg.Addrs = append(cfg.Addrs, all.cfg.Addrs[i])
		}
		k.nets = nets
		k.lead(0)
		var err error
		if k.c, err = NewClient(cfg); err != nil {
			t.Fatal(err)
		}
		k.w = NewWorker(k.c, WorkerConfig{Slots: 4})
		setup(k)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- k.w.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
		}()
		synctest.Wait()
		body(k)
	})
}

var addrs = []string{"http://a:1", "http://b:1", "http://c:1"}

// lead has all nodes name this one as the leader, of a higher epoch. All change at
// once: a poll that got in between would wait at a node that never leads.
func (k *cluster) lead(leader int) {
	for _, p := range k.peers {
		p.mu.Lock()
	}
	for i, p := range k.peers {
		p.epoch++
		p.strict = true
		p.says = map[string]string{signpost.Members: "http://a:1,http://b:1,http://c:1"}
		if i != leader {
			p.says[signpost.Leader] = addrs[leader]
		}
		p.happened()
	}
	for _, p := range k.peers {
		p.mu.Unlock()
	}
}

// kill ends a node at once.
func (k *cluster) kill(i int) {
	_ = k.nets[i].Close()
	k.nets[i].cut()
}

// calls counts what a node was asked by workers.
func (p *peer) calls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int(p.sessions) + len(p.polls) + len(p.beats) + len(p.reports)
}

// works gives a node jobs until one is reported there, and fails unless that is
// so within a time. One job alone may be handed to a poll just as that is closed;
// an engine would grant it again.
func (k *cluster) works(i int, within time.Duration) {
	k.t.Helper()
	p, began := k.peers[i], time.Now()
	p.mu.Lock()
	before := len(p.reports)
	p.mu.Unlock()
	for time.Since(began) <= within {
		p.add(1, "test.noop")
		time.Sleep(within / 50)
		p.mu.Lock()
		n := len(p.reports)
		p.mu.Unlock()
		if n > before {
			return
		}
	}
	k.t.Errorf("nothing is done for node %d after %v", i, within)
}

func ignore(k *cluster) { noop.Do(k.w, func(context.Context, None) error { return nil }) }

func TestWorkerOfAnotherNodeGoesToTheLeader(t *testing.T) {
	among(t, []int{1}, func(k *cluster) {
		ignore(k)
		// A poll that comes to the old leader late is not kept waiting there.
		k.peers[0].onPoll = func(_ context.Context, _ *heddlev1.PollRequest, answer func() (*heddlev1.PollResponse, error)) (*heddlev1.PollResponse, error) {
			k.peers[0].mu.Lock()
			led := k.peers[0].says[signpost.Leader] == ""
			k.peers[0].mu.Unlock()
			if !led {
				return nil, connect.NewError(connect.CodeUnavailable, errors.New("not the leader"))
			}
			return answer()
		}
	}, func(k *cluster) {
		k.peers[0].add(10, "test.noop")
		k.peers[0].until(t, "reports at the leader", func() bool { return len(k.peers[0].reports) == 10 })
		if n := k.peers[1].calls(); n != 1 {
			t.Errorf("%d calls at the node that does not lead, want the first one only", n)
		}
		// The leader changes: the old one names the new one.
		k.lead(2)
		before := k.peers[0].calls()
		k.works(2, 50*time.Millisecond)
		time.Sleep(time.Minute)
		if n := k.peers[0].calls() - before; n > 6 {
			t.Errorf("%d calls at the old leader", n)
		}
	})
}

// A worker that was given one address outlives that node.
func TestWorkerLearnsTheOtherNodes(t *testing.T) {
	among(t, []int{0}, ignore, func(k *cluster) {
		k.peers[0].add(1, "test.noop")
		k.peers[0].until(t, "a report", func() bool { return len(k.peers[0].reports) == 1 })
		k.lead(1)
		k.kill(0)
		k.works(1, 50*time.Millisecond)
		k.lead(2)
		k.kill(1)
		k.works(2, 50*time.Millisecond)
		// A call that finds another engine at once is no news.
		synctest.Wait()
		if text := k.log.String(); strings.Contains(text, "WARN") {
			t.Errorf("logged:\n%s", text)
		}
	})
}

func TestWorkerWithADeadAddress(t *testing.T) {
	began := time.Now()
	among(t, []int{-1, 1}, ignore, func(k *cluster) {
		began = time.Now()
		k.peers[0].add(1, "test.noop")
		k.peers[0].until(t, "a report", func() bool { return len(k.peers[0].reports) == 1 })
		if d := time.Since(began); d > 10*time.Millisecond {
			t.Errorf("took %v", d)
		}
	})
}

// An end that is on its way when the leader dies goes to the next one at once.
func TestReportIsNotDelayedByADeadLeader(t *testing.T) {
	among(t, []int{0, 1, 2}, func(k *cluster) {
		ignore(k)
		k.peers[0].onReport = func(ctx context.Context, _ *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
			k.peers[0].do(func() { k.peers[0].groups = append(k.peers[0].groups, 1) })
			<-ctx.Done()
			return nil, ctx.Err()
		}
	}, func(k *cluster) {
		k.peers[0].add(1, "test.noop")
		k.peers[0].until(t, "a report under way", func() bool { return len(k.peers[0].groups) == 1 })
		k.lead(1)
		k.kill(0)
		began := time.Now()
		k.peers[1].until(t, "the report at the next leader", func() bool { return len(k.peers[1].reports) == 1 })
		if d := time.Since(began); d > 10*time.Millisecond {
			t.Errorf("took %v", d)
		}
	})
}

// A leader that hangs with its connections open is left within some two seconds:
// polls, heartbeats and reports.
func TestFrozenLeaderIsLeft(t *testing.T) {
	var release chan struct{}
	among(t, []int{0, 1}, func(k *cluster) {
		release = make(chan struct{})
		ignore(k)
		greet.Do(k.w, func(context.Context, string) error { <-release; return nil })
	}, func(k *cluster) {
		k.peers[0].add(1, "test.greet", func(l *heddlev1.Lease) { l.Args = []byte(`"x"`) })
		time.Sleep(10 * time.Second)
		k.nets[0].freeze()
		k.lead(1)
		began := time.Now()
		close(release) // its report goes to the leader that hangs
		k.peers[1].until(t, "the report at the new leader", func() bool { return len(k.peers[1].reports) == 1 })
		k.works(1, 50*time.Millisecond)
		if d := time.Since(began); d > 2500*time.Millisecond {
			t.Errorf("took %v", d)
		}
	})
}

// Without probes of its connections, as with a transport of the user's own, a
// worker notices by its heartbeat, well before its session's time is up.
func TestOverdueHeartbeatLeavesTheLeader(t *testing.T) {
	var hangs atomic.Bool
	among(t, []int{0, 1}, func(k *cluster) {
		ignore(k)
		a := k.peers[0]
		a.onReport = func(ctx context.Context, m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
			hangs.Store(true)
			<-ctx.Done()
			return nil, ctx.Err()
		}
		a.onBeat = func(ctx context.Context, m *heddlev1.HeartbeatRequest, answer func() (*heddlev1.HeartbeatResponse, error)) (*heddlev1.HeartbeatResponse, error) {
			if hangs.Load() {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return answer()
		}
	}, func(k *cluster) {
		k.peers[1].do(func() { k.peers[1].epoch, k.peers[1].says = 9, nil }) // the others do not know
		began := time.Now()
		k.peers[0].add(1, "test.noop")
		k.peers[1].until(t, "the report at the new leader", func() bool { return len(k.peers[1].reports) == 1 })
		k.works(1, 50*time.Millisecond)
		// The heartbeat that waited was answered; the next one is not.
		if d := time.Since(began); d > (3750+3750+1500+50)*time.Millisecond {
			t.Errorf("took %v", d)
		}
	})
}

// After an outage of all nodes work goes on within a second of their return,
// however long it was.
func TestWorkGoesOnAfterALongOutage(t *testing.T) {
	var away atomic.Bool
	var ran atomic.Int32
	among(t, []int{0, 1, 2}, func(k *cluster) {
		noop.Do(k.w, func(context.Context, None) error { ran.Add(1); return nil })
		for _, p := range k.peers {
			p.onBeat = func(_ context.Context, _ *heddlev1.HeartbeatRequest, answer func() (*heddlev1.HeartbeatResponse, error)) (*heddlev1.HeartbeatResponse, error) {
				if away.Load() {
					return nil, unavailable()
				}
				return answer()
			}
			p.onPoll = func(_ context.Context, _ *heddlev1.PollRequest, answer func() (*heddlev1.PollResponse, error)) (*heddlev1.PollResponse, error) {
				if away.Load() {
					return nil, unavailable()
				}
				return answer()
			}
		}
	}, func(k *cluster) {
		for range 2 {
			away.Store(true)
			for _, n := range k.nets {
				n.cut()
			}
			asked := k.peers[0].calls() + k.peers[1].calls() + k.peers[2].calls()
			time.Sleep(2 * time.Minute)
			if n := k.peers[0].calls() + k.peers[1].calls() + k.peers[2].calls() - asked; n > 2000 {
				t.Errorf("%d calls meanwhile", n)
			}
			away.Store(false)
			// Wherever it is now: that node would pass its calls on.
			ran.Store(0)
			for _, p := range k.peers {
				p.add(1, "test.noop")
			}
			time.Sleep(1100 * time.Millisecond)
			if ran.Load() == 0 {
				t.Error("nothing is done")
			}
		}
	})
}

// A poll that fails while all else works is not repeated without a pause.
func TestFailingPollIsPaced(t *testing.T) {
	var calls atomic.Int32
	among(t, []int{0, 1, 2}, func(k *cluster) {
		ignore(k)
		for _, p := range k.peers {
			p.onPoll = func(context.Context, *heddlev1.PollRequest, func() (*heddlev1.PollResponse, error)) (*heddlev1.PollResponse, error) {
				calls.Add(1)
				return nil, connect.NewError(connect.CodeInternal, errors.New("broken"))
			}
		}
	}, func(k *cluster) {
		time.Sleep(time.Minute)
		if n := calls.Load(); n < 5 || n > 200 {
			t.Errorf("%d polls in a minute", n)
		}
	})
}

// A leader that only other nodes can reach is left to them.
func TestUnreachableLeader(t *testing.T) {
	among(t, []int{1}, ignore, func(k *cluster) {
		for _, p := range k.peers {
			p.do(func() { p.says = map[string]string{signpost.Leader: "http://inside:1"} })
		}
		k.kill(0)
		time.Sleep(time.Minute) // it knows of three others, and ends where it began
		before := k.peers[1].calls()
		for range 20 {
			k.works(1, time.Second)
			time.Sleep(time.Minute)
		}
		if n := k.peers[1].calls() - before; n > 1000 {
			t.Errorf("%d calls in 20 minutes", n)
		}
	})
}

// A network that swallows what goes to the leader costs a worker nothing, as long
// as another node passes its calls on; when it is whole again the worker goes
// back to the leader.
func TestLeaderBehindAHole(t *testing.T) {
	among(t, []int{0, 1, 2}, ignore, func(k *cluster) {
		k.nets[0].mu.Lock()
		k.nets[0].hole = true
		k.nets[0].mu.Unlock()
		k.nets[0].cut()
		k.works(1, 100*time.Millisecond)
		var worst time.Duration
		for range 600 {
			began := time.Now()
			k.works(1, time.Second)
			worst = max(worst, time.Since(began))
			time.Sleep(time.Second)
		}
		if worst > 50*time.Millisecond {
			t.Errorf("a job waited %v", worst)
		}
		k.nets[0].mu.Lock()
		k.nets[0].hole = false
		k.nets[0].mu.Unlock()
		time.Sleep(2 * shunMost)
		k.works(0, time.Second)
	})
}

func TestAddresses(t *testing.T) {
	list := func(a *addresses) (out []string) {
		e := a.given[0]
		for range a.number() {
			out = append(out, e.addr)
			e = a.next(e)
		}
		return out
	}
	members := func(text string) http.Header { return http.Header{signpost.Members: {text}} }
	for _, test := range []struct {
		name  string
		given []string
		told  []string
		want  string
	}{
		{"given only", []string{"http://a", "http://b"}, nil, "[http://a http://b]"},
		{"the same twice", []string{"http://a/", "http://a", "http://b"}, nil, "[http://a http://b]"},
		{"told", []string{"http://a"}, []string{"http://a,http://b,http://c"}, "[http://a http://b http://c]"},
		{"told anew", []string{"http://a"}, []string{"http://a,http://b,http://c", "http://a,http://d,http://d"}, "[http://a http://d]"},
		{"told nothing", []string{"http://a"}, []string{"http://b", ""}, "[http://a http://b]"},
		{"told nonsense", []string{"http://a"}, []string{"b:1,::,ftp://c,http://,,http://d"}, "[http://a http://d]"},
		{"a token is not sent in clear text", []string{"https://a"}, []string{"http://b,https://c"}, "[https://a https://c]"},
	} {
		a := newAddresses(test.given, func(addr string) *endpoint { return &endpoint{addr: addr} })
		for _, text := range test.told {
			a.learn(members(text))
		}
		if got := fmt.Sprint(list(a)); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	a := newAddresses([]string{"https://a"}, func(addr string) *endpoint { return &endpoint{addr: addr} })
	if a.leader("http://b") != nil || a.leader("") != nil || a.leader("https://b/") != a.at("https://b") {
		t.Error("the wrong leader")
	}
	a.at("https://b").shun()
	if a.leader("https://b") != nil {
		t.Error("sent to an engine that could not be reached")
	}
	b := newAddresses([]string{"http://a", "http://b", "http://c"}, func(addr string) *endpoint { return &endpoint{addr: addr} })
	b.at("http://b").shun()
	if e := b.next(b.at("http://a")); e.addr != "http://c" {
		t.Errorf("after a, while b cannot be reached: %s", e.addr)
	}
	b.at("http://a").shun()
	b.at("http://c").shun()
	if e := b.next(b.at("http://a")); e.addr != "http://b" {
		t.Errorf("after a, while none can be reached: %s", e.addr)
	}
	if e := a.next(a.at("https://stranger")); e.addr != "https://a" {
		t.Errorf("after a stranger: %s", e.addr)
	}
}

// doubter cannot say whether it has done what it was asked for.
type doubter struct {
	*peer
	calls atomic.Int32
}

func (d *doubter) Retry(context.Context, *connect.Request[heddlev1.RetryRequest]) (*connect.Response[heddlev1.RetryResponse], error) {
	d.calls.Add(1)
	e := connect.NewError(connect.CodeUnavailable, errors.New("who knows"))
	e.Meta().Set(signpost.Doubt, "1")
	return nil, e
}

// What must not be done twice is not repeated after an answer that leaves open
// whether it was done.
func TestDoubtIsNotRepeated(t *testing.T) {
	d := &doubter{peer: newPeer()}
	c, _, stop := serveAll(t, ClientConfig{RetryFor: time.Second}, d)
	defer stop()
	if _, err := c.Run("x").Retry(t.Context(), RetryOptions{}); !errors.Is(err, ErrUnavailable) || d.calls.Load() != 1 {
		t.Errorf("%v after %d calls", err, d.calls.Load())
	}
}

// Submissions go to the next node when one is gone, and are told as repeats.
func TestSubmitGoesToTheNextNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPeer(), newPeer()
		c, nets, stop := serve(t, ClientConfig{}, a, b)
		defer stop()
		a.onSubmit = func(ctx context.Context, m *heddlev1.SubmitRequest) (*heddlev1.SubmitResponse, error) {
			nets[0].cut() // it may have been done
			return a.persist(m)
		}
		began := time.Now()
		for range 3 {
			if _, err := c.Submit(t.Context(), greet.Job("x")); err != nil {
				t.Fatal(err)
			}
		}
		if len(a.submits) != 1 || len(b.submits) != 3 || !b.submits[0].GetSubmissions()[0].GetRepeat() || b.submits[0].GetSubmissions()[0].GetId() != a.submits[0].GetSubmissions()[0].GetId() {
			t.Errorf("at the first %v, at the second %v", a.submits, b.submits)
		}
		if d := time.Since(began); d > 10*time.Millisecond {
			t.Errorf("took %v", d)
		}
	})
}
