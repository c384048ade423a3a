package chaos

import (
	"context"
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/heddle-io/heddle/internal/oracle"
)

var (
	kills = flag.Int("chaos.kills", 2, "how often TestLeaderKilled kills the leader, and TestRestartInTurn restarts the nodes")
	bars  = flag.Bool("chaos.bars", false, "fail if nothing starts for longer than promised; for machines that do nothing else")
)

// The promised lengths of the pauses, and what a test puts up with on a machine
// that does other things too.
const (
	killMedian  = time.Second
	killMost    = 2 * time.Second
	restartMost = 500 * time.Millisecond
	patience    = 20 * time.Second
)

// pauseOf measures the longest time without a start from before a fault until
// jobs run again.
func (w *World) pauseOf(t *testing.T, fault func() error) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.AwaitStarts(ctx, 50); err != nil {
		t.Fatal(err)
	}
	since := oracle.Now()
	if err := fault(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Cluster.AwaitLeader(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.AwaitStarts(ctx, 50); err != nil {
		t.Fatal(err)
	}
	return w.Longest(since)
}

// The leader is killed (-9) under load, again and again: another one takes over
// within the promised time, and nothing is lost, run twice or charged.
func TestLeaderKilled(t *testing.T) {
	w := newWorld(t, func(s *Setup) { s.Pause = 50 * time.Millisecond })
	var pauses []time.Duration
	for range *kills {
		n, err := w.Cluster.AwaitLeader(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		pauses = append(pauses, w.pauseOf(t, func() error { w.killNode(n); return nil }))
		if err := w.revive(n); err != nil {
			t.Fatal(err)
		}
		if err := w.Cluster.AwaitMember(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(pauses)
	median, most := pauses[len(pauses)/2], pauses[len(pauses)-1]
	t.Logf("%d kills: pauses of %v in the median, %v at most: %v", len(pauses), median, most, pauses)
	if *bars && (median >= killMedian || most >= killMost) || most >= patience {
		t.Errorf("no job started for %v in the median, %v at most", median, most)
	}
	if v := w.judge(t, 2*time.Minute); v.Losses != 0 {
		t.Errorf("%d attempts were charged", v.Losses)
	}
}

// The nodes are ended in order and started again, one after the other: work
// goes on almost without a pause.
func TestRestartInTurn(t *testing.T) {
	w := newWorld(t, func(s *Setup) { s.Pause = 50 * time.Millisecond })
	var pauses []time.Duration
	for range *kills {
		for _, n := range w.Cluster.Nodes {
			pauses = append(pauses, w.pauseOf(t, func() error { return w.restart(t.Context(), n) }))
		}
	}
	slices.Sort(pauses)
	most := pauses[len(pauses)-1]
	t.Logf("%d restarts: pauses of %v in the median, %v at most: %v", len(pauses), pauses[len(pauses)/2], most, pauses)
	if *bars && most >= restartMost || most >= patience {
		t.Errorf("no job started for %v", most)
	}
	v := w.judge(t, 2*time.Minute)
	if v.Losses != 0 {
		t.Errorf("%d attempts were charged", v.Losses)
	}
	w.judgeInShares(t, v)
}

// judgeInShares: the verdict is the same when the journals are longer than
// memory and are read in parts.
func (w *World) judgeInShares(t *testing.T, whole *oracle.Verdict) {
	t.Helper()
	c, err := w.Case()
	if err != nil {
		t.Fatal(err)
	}
	c.Share = 256 << 10
	v, err := oracle.Judge(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if v.String() != whole.String() {
		t.Errorf("read in parts: %v; at once: %v", v, whole)
	}
}
