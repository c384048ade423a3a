package raftsched

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// TestHungDisk: a leader that cannot commit stops its Raft node and says so.
func TestHungDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		k := w.worker("p0")
		free := w.log.stick()
		w.submit(1)
		begun := time.Now()
		_, _, err := w.node.Poll(context.Background(), k.request(1, time.Minute))
		if !errors.Is(err, ErrNotLeader) {
			t.Errorf("poll: %v", err)
		}
		if d := time.Since(begun); d < w.cfg.CommitStall || d > w.cfg.CommitStall+time.Second {
			t.Errorf("gave up after %v", d)
		}
		if err := <-w.fatal; err == nil || !strings.Contains(err.Error(), "no commit for 3s") {
			t.Errorf("fatal: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := w.node.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop beside a hung disk: %v", err)
		}
		free()
		w.stop()
	})
}

// TestFullDisk: entries fail, Raft stands for election again and again; after a
// while the node gives up.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Logger = nil
		w.start()
		k := w.worker("p0")
		full := errors.New("no space left on device")
		w.log.mu.Lock()
		w.log.err = full
		w.log.mu.Unlock()
		w.submit(1)
		if _, _, err := w.node.Poll(context.Background(), k.request(1, time.Minute)); !errors.Is(err, ErrNotLeader) {
			t.Errorf("poll: %v", err)
		}
		if err := <-w.fatal; !errors.Is(err, full) {
			t.Errorf("fatal: %v", err)
		}
		w.stop()
	})
}

// TestFullDiskAtStart: the node itself proposes nothing, as Raft cannot store
// the first entry of its term. It gives up all the same.
func TestFullDiskAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Logger = nil
		w.start()
		w.stop()
		full := errors.New("no space left on device")
		w.log.mu.Lock()
		w.log.err = full
		w.log.mu.Unlock()
		w.boot()
		if err := <-w.fatal; !errors.Is(err, full) {
			t.Errorf("fatal: %v", err)
		}
		w.stop()
	})
}

// fullStable keeps what it has and takes nothing new under one key.
type fullStable struct {
	raft.StableStore
	key string
	err error
}

func (s fullStable) Set(key, value []byte) error {
	if string(key) == s.key {
		return s.err
	}
	return s.StableStore.Set(key, value)
}

func (s fullStable) SetUint64(key []byte, value uint64) error {
	if string(key) == s.key {
		return s.err
	}
	return s.StableStore.SetUint64(key, value)
}

// TestNoRoomForTheTerm: when the term or the vote cannot be saved, the node
// stops and says so. Its host lives on.
func TestNoRoomForTheTerm(t *testing.T) {
	for _, key := range []string{currentTerm, "LastVoteTerm", "LastVoteCand"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.cfg.Logger = nil
			w.start()
			w.stop()
			full := errors.New("no space left on device")
			w.disk.stable = fullStable{w.disk.stable, key, full}
			w.boot()
			if err := <-w.fatal; !errors.Is(err, full) {
				t.Errorf("%s: fatal: %v", key, err)
			}
			w.stop()
		})
	}
}

// TestLostAndRegained: true after true means that the leadership was lost in
// between: the reign ends, another begins.
func TestLostAndRegained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		changes := make(chan bool, 2)
		n, err := New(w.cfg, w.table, w)
		if err != nil {
			t.Fatal(err)
		}
		n.open = func(Config) (*disk, error) { return w.disk, nil }
		n.leadership = func(*raft.Raft) <-chan bool { return changes }
		w.node = n
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.await("leader", func() bool { return n.raft.State() == raft.Leader })
		ended := make(chan uint64, 2)
		n.cfg.Lead = func(ctx context.Context, epoch uint64) {
			<-ctx.Done()
			ended <- epoch
		}
		changes <- true
		w.await("reign", n.Ready)
		changes <- true
		if epoch := <-ended; epoch != 1 {
			t.Errorf("epoch %d ended", epoch)
		}
		w.await("second reign", n.Ready)
		if epoch, _ := n.Leader(); epoch != 2 {
			t.Errorf("epoch %d", epoch)
		}
		k := w.worker("p0")
		w.submit(1)
		g := k.poll(1, time.Second)[0]
		changes <- false
		<-ended
		w.await("no reign", func() bool { epoch, _ := n.Leader(); return epoch == 0 })
		// A node that does not lead: nothing is known, nothing is promised.
		if a, l := n.Admit(k.session, []HeldLease{{g.Lease.Job, g.Lease.ID}}); a[0] != Unknown || l[0].ID != 0 {
			t.Errorf("a lease that stands: %v %v", a, l)
		}
		if a, _ := n.Admit(1, []HeldLease{{ID: 1 << 40}}); a[0] != Unknown {
			t.Errorf("a lease beyond what was applied: %v", a)
		}
		if a, _ := n.Admit(1, []HeldLease{{ID: 1}}); a[0] != Stale {
			t.Errorf("a lease that is gone for good: %v", a)
		}
		if n.Begin() != 0 || n.Running() != nil {
			t.Error("answers without a reign")
		}
		n.Done(Done{Mark: 5})
		n.Hint(nil)
		w.stop()
	})
}

func TestForeignCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.table.cluster = fsm.WorkflowID{1}
		w.boot()
		time.Sleep(10 * time.Second)
		if w.node.Ready() {
			t.Error("leads over another cluster's database")
		}
		w.stop()
		w.cfg.Cluster = fsm.WorkflowID{1} // adopted explicitly
		w.start()
		if w.node.Cluster() != (fsm.WorkflowID{1}) {
			t.Errorf("cluster %v", w.node.Cluster())
		}
		w.stop()
		w.cfg.Cluster = fsm.WorkflowID{}
		w.start()
		w.stop()
	})
}

// TestRestartKeepsLeases on a real log: running workers keep their jobs (I7).
func TestRestartKeepsLeases(t *testing.T) {
	w := newWorld(t)
	w.cfg.Ephemeral, w.cfg.Dir = false, t.TempDir()
	w.cfg.Raft = RaftTimings{Heartbeat: 20 * time.Millisecond, LeaderLease: 20 * time.Millisecond, Commit: 5 * time.Millisecond}
	start := func() {
		t.Helper()
		n, err := New(w.cfg, w.table, w)
		if err != nil {
			t.Fatal(err)
		}
		w.node = n
		if err := n.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(20 * time.Second)
		for !n.Ready() {
			if time.Now().After(deadline) {
				t.Fatal("not ready")
			}
			time.Sleep(time.Millisecond)
		}
	}
	start()
	k := w.worker("p0")
	w.submit(1)
	g := k.poll(1, 5*time.Second)
	if len(g) != 1 {
		t.Fatal("not granted")
	}
	second, err := New(w.cfg, w.table, w)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Start(context.Background()); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), w.cfg.Dir) {
		t.Fatalf("a second node in the same directory: %v", err)
	}
	cluster := w.node.Cluster()
	if err := w.node.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		w.stop()
		start()
		if w.node.Cluster() != cluster {
			t.Fatal("another cluster id")
		}
		if c := k.mustBeat(); len(c.Lost) != 0 {
			t.Fatalf("I7: %+v", c)
		}
	}
	if k.report(g[0], nil) != Admitted {
		t.Fatal("I7: the report after the restarts")
	}
	w.stop()

	other := w.cfg
	other.ID = "n2"
	n, err := New(other, w.table, w)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(context.Background()); err == nil || !strings.Contains(err.Error(), `"n2" is not a member`) {
		t.Fatalf("another node's directory: %v", err)
	}
	if err := n.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(w.cfg.Dir, "raft.db")); err != nil {
		t.Fatal(err)
	}
}

func TestConfigNamesAllFaults(t *testing.T) {
	err := Config{SessionTTL: 1, Raft: RaftTimings{LeaderLease: 1}}.Validate()
	for _, field := range []string{"ID", "Dir", "SessionTTL", "Window", "MaxGrants", "ReleaseDelay", "SweepInterval", "CommitStall", "Raft"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not named in %v", field, err)
		}
	}
	c := DefaultConfig()
	c.ID, c.Ephemeral = "n", true
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}
