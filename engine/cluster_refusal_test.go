package engine

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	. "github.com/heddle-io/heddle/internal/enginetest"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/pgtest"
	"github.com/heddle-io/heddle/raftsched"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// troubled waits until a node says what is wrong.
func (r *ring) troubled(id, says string) {
	r.t.Helper()
	eventually(r.t, id+" says: "+says, func() bool {
		return strings.Contains(r.engines[id].cluster.Here().GetTrouble(), says)
	})
}

// ready asks a node's readiness.
func (r *ring) ready(id string) (ok bool, body string) {
	r.t.Helper()
	code, body := get(r.t, r.engines[id].URL()+"/readyz")
	return code == http.StatusOK, body
}

// A node of another cluster is refused, and both sides say so.
func TestForeignNode(t *testing.T) {
	r := newRing(t, nil, "a")
	r.start("a")
	r.leader()
	other := newRing(t, nil, "b")
	other.start("b")
	other.leader()
	addr := other.engines["b"].Addr()
	other.stop("b")

	// It has learned of the wrong peers.
	b := other.configs["b"]
	b.Listen, b.Peers = addr, []string{r.addrs[0]}
	other.configs["b"] = b
	other.start("b") // it leads its own cluster all the same
	other.leader()
	_, err := r.engines["a"].cluster.peers.Join(t.Context(), addr, raftsched.JoinRequest{
		Member: memberIn(r.status("a").GetMembers()[0]), Cluster: r.engines["a"].node.Cluster(),
	})
	if !errors.Is(err, raftsched.ErrForeignCluster) || !strings.Contains(err.Error(), "correct its list of peers") {
		t.Errorf("a node of another cluster joins: %v", err)
	}
	if ok, body := other.ready("b"); !ok {
		t.Errorf("its own cluster suffers: %s", body)
	}
}

// Two clusters do not share a database: the second one takes no job, says so
// wherever it is asked, and goes on once it has adopted the database.
func TestTwoClustersOnOneDatabase(t *testing.T) {
	r := newRing(t, nil, "a")
	r.start("a")
	r.leader()
	owner := r.engines["a"].node.Cluster()
	id := Dial(t, r.engines["a"].Addr()).Put(Lone("k", "", nil))[0]
	r.stop("a")

	second := newRing(t, func(c *Config) { c.Postgres = r.dsn }, "x", "y", "z")
	second.start("x", "y", "z")
	for _, node := range []string{"x", "y", "z"} {
		eventually(t, node+" is not ready", func() bool { ok, _ := second.ready(node); return !ok })
	}
	says := "engine cluster adopt --owner " + owner.String()
	var refused string
	eventually(t, "the node that would lead says what to do", func() bool {
		for node, e := range second.engines {
			if _, body := second.ready(node); strings.Contains(e.cluster.Here().GetTrouble(), says) && strings.Contains(body, says) {
				refused = node
			}
		}
		return refused != ""
	})
	// Submissions and reads go on.
	c := Dial(t, second.engines[refused].Addr())
	another := c.Put(Lone("k", "", nil))[0]
	c.JobOf(id, 1)

	admin := second.admin(refused)
	for name, c := range map[string]struct {
		owner string
		code  connect.Code
	}{
		"nobody":  {"", connect.CodeInvalidArgument},
		"no id":   {"mine", connect.CodeInvalidArgument},
		"another": {fsm.WorkflowID{1}.String(), connect.CodeFailedPrecondition},
		"itself":  {second.engines[refused].node.Cluster().String(), connect.CodeFailedPrecondition},
	} {
		if _, err := admin.Adopt(t.Context(), connect.NewRequest(&heddlev1.ClusterServiceAdoptRequest{Owner: c.owner})); connect.CodeOf(err) != c.code {
			t.Errorf("adopted from %s: %v", name, err)
		}
	}
	if _, err := admin.Adopt(t.Context(), connect.NewRequest(&heddlev1.ClusterServiceAdoptRequest{Owner: owner.String()})); err != nil {
		t.Fatal(err)
	}
	leader := second.leader()
	w := Dial(t, second.engines[leader].Addr())
	worker := w.Work(2, map[string]Handler{"k": ok})
	w.WantThrough(id, stateSucceeded)
	w.WantThrough(another, stateSucceeded)
	worker.Stop()
	if text := second.engines[leader].cluster.Here().GetTrouble(); strings.Contains(text, "belongs to another") {
		t.Errorf("still said: %s", text)
	}
}

// Adopt is what "serve --adopt" sets: the database is taken over at the start.
func TestAdoptAtStart(t *testing.T) {
	r := newRing(t, nil, "a")
	r.start("a")
	r.leader()
	r.stop("a")
	second := newRing(t, func(c *Config) { c.Postgres, c.Adopt = r.dsn, true }, "x", "y", "z")
	second.start("x", "y", "z")
	second.leader()

	// A node alone is refused at its start, as ever.
	alone := testConfig(t, r.dsn)
	e, err := New(alone)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := e.Start(ctx); err == nil || !strings.Contains(err.Error(), "start once with Adopt") {
		t.Errorf("a second owner starts: %v", err)
	}
}

// What a node alone cannot do it refuses with a sentence.
func TestJoinRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		says   string
	}{
		{"ephemeral", func(c *Config) { c.Ephemeral = true }, "start it with --data-dir"},
		{"no address", func(c *Config) { c.Listen, c.AllowPlaintext = "0.0.0.0:0", true }, "start it with --advertise"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := testConfig(t, pgtest.DSN(t))
			config.NodeID = "a"
			c.change(&config)
			e := startEngine(t, config)
			_, port, _ := strings.Cut(e.Addr(), "]:")
			addr := e.Addr()
			if port != "" {
				addr = "127.0.0.1:" + port
			}
			p := newPeers(nil, "", nil)
			defer p.close()
			_, err := p.Meet(t.Context(), addr, raftsched.Introduction{ID: "b", Address: "127.0.0.1:1"}, nil)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
		})
	}
}

// An id that a living member has is refused, and so is a data directory that
// belongs to another id.
func TestIDs(t *testing.T) {
	r := newRing(t, nil, "a", "b", "c")
	r.start("a", "b", "c")
	r.known("a", "b", "c")
	double := r.config(r.follower(), "127.0.0.1:0")
	r.configs["double"] = double
	r.start("double")
	r.troubled("double", "an id of its own")
	r.stop("double")

	id := r.follower()
	r.stop(id)
	renamed := r.configs[id]
	renamed.NodeID = "renamed"
	e, err := New(renamed)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := e.Start(ctx); err == nil || !strings.Contains(err.Error(), id) || !strings.Contains(err.Error(), "renamed") {
		t.Errorf("a data directory changes its node: %v", err)
	}
}

// Nodes that do not find enough others say whom they wait for.
func TestWaitingForOthers(t *testing.T) {
	r := newRing(t, nil, "a", "b", "c")
	r.start("a")
	r.troubled("a", "met 1 of the 3 nodes")
	if ok, body := r.ready("a"); ok || !strings.Contains(body, "met 1 of the 3 nodes") {
		t.Errorf("readiness: %v, %s", ok, body)
	}
	if s := r.status("a"); s.GetState() != "waiting" || s.GetClusterId() != "" {
		t.Errorf("status: %v", s)
	}
	begin := time.Now()
	r.start("b", "c")
	r.leader()
	t.Logf("leads %v after the last node's start", time.Since(begin))
}
