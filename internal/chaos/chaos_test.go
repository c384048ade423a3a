package chaos

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/heddle-io/heddle/internal/oracle"
)

var (
	minutes = flag.Float64("chaos.minutes", 0.6, "how long TestChaos does harm")
	seed    = flag.Uint64("chaos.seed", 1, "of the schedule of TestChaos")
	race    = flag.Bool("chaos.race", false, "build the engines with the race detector")
)

// sessionTTL: a worker that is stopped or cut off for up to 5 s keeps its jobs.
const sessionTTL = 13 * time.Second

// startLimit is the bound of I10 on a machine that does other things too.
const startLimit = 10 * time.Second

// newWorld starts a world that is gone at the test's end; if that failed, its
// logs stay.
func newWorld(t *testing.T, change func(*Setup)) *World {
	t.Helper()
	dir, err := os.MkdirTemp("", "heddle-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("logs and journals are kept in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	var flags []string
	if *race {
		flags = append(flags, "-race")
	}
	engine, err := BuildEngine(t.Context(), dir, flags...)
	if err != nil {
		t.Fatal(err)
	}
	s := Setup{Dir: dir, Engine: engine, Workers: 2, Slots: 30, TTL: sessionTTL, Start: startLimit, Pause: 200 * time.Millisecond, Seed: *seed}
	if change != nil {
		change(&s)
	}
	w, err := Create(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			w.Dump()
		}
		if err := w.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
		w.readLogs(t)
	})
	return w
}

// readLogs fails for what no engine may ever say.
func (w *World) readLogs(t *testing.T) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(w.Dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range logs {
		log, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, never := range []string{"panic:", "fatal error:", "DATA RACE", "replicated state differs"} {
			if at := bytes.Index(log, []byte(never)); at >= 0 {
				t.Errorf("%s says: %s", filepath.Base(path), log[at:min(len(log), at+2000)])
			}
		}
	}
}

// judge lets everything come to its end and asks the oracle.
func (w *World) judge(t *testing.T, within time.Duration) *oracle.Verdict {
	t.Helper()
	if err := w.Settle(t.Context(), within); err != nil {
		t.Fatal(err)
	}
	c, err := w.Case()
	if err != nil {
		t.Fatal(err)
	}
	v, err := oracle.Judge(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range v.Violations {
		if i == 20 {
			t.Errorf("and %d more", len(v.Violations)-i)
			break
		}
		t.Error(f)
	}
	t.Log(v)
	for _, line := range w.Ended() {
		t.Log(line)
	}
	w.compareHashes(t)
	return v
}

// compareHashes: nodes that have noted the state of the same index have noted
// the same state (I11). All of them say that they are well, soon.
func (w *World) compareHashes(t *testing.T) {
	t.Helper()
	hashes := make(map[uint64]string)
	for _, n := range w.Cluster.Nodes {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		s, err := w.Cluster.AwaitWell(ctx, n)
		cancel()
		if err != nil {
			t.Error(err)
			continue
		}
		if other, noted := hashes[s.GetCheckedIndex()]; noted && other != s.GetStateHash() {
			t.Errorf("the state at index %d is %s on %s, and %s on another node (I11)", s.GetCheckedIndex(), s.GetStateHash(), n.ID, other)
		}
		hashes[s.GetCheckedIndex()] = s.GetStateHash()
	}
}

// TestChaos hurts a cluster as the seed says, for a while, and asks the oracle.
// "make chaos MINUTES=60" does it for long.
func TestChaos(t *testing.T) {
	w := newWorld(t, func(s *Setup) { s.Standby = true })
	t.Logf("seed %d, %v minutes", *seed, *minutes)
	if err := w.Run(t.Context(), testWriter{t}, time.Duration(*minutes*float64(time.Minute))); err != nil {
		t.Fatal(err)
	}
	v := w.judge(t, 2*time.Minute)
	if v.Jobs == 0 || v.Runs == 0 {
		t.Error("nothing has run")
	}
}

// testWriter writes the table into the test's log, line by line.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(bytes.TrimRight(p, "\n")))
	return len(p), nil
}
