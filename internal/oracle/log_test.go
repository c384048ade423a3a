package oracle

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	heddle "github.com/heddle-io/heddle/sdk"
)

// What several processes write is read in order of time, whole lines only, all
// at once or while they write.
func TestJournalsAreMerged(t *testing.T) {
	dir := t.TempDir()
	tail := NewTail(dir)
	journals := make([]*Journal, 3)
	for i, name := range []string{"a", "b", "c"} {
		var err error
		if journals[i], err = OpenJournal(filepath.Join(dir, name+".jsonl"), name); err != nil {
			t.Fatal(err)
		}
		defer journals[i].Close()
	}
	write := func(from, to uint64) {
		for n := from; n < to; n++ {
			journals[n%3].Write(Event{What: Start, Lease: n}, Event{What: End, Lease: n})
		}
	}
	leases := func(events []Event) (list []uint64) {
		for _, e := range events {
			if e.What == Start {
				list = append(list, e.Lease)
			}
		}
		return list
	}
	write(1, 50)
	half, err := os.OpenFile(filepath.Join(dir, "c.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	const line = `{"mono":1,"what":"start","lease":99}` + "\n"
	if _, err := half.WriteString(line[:20]); err != nil {
		t.Fatal(err)
	}
	first, err := tail.Read()
	if got := leases(first); err != nil || len(got) != 49 || !slices.IsSorted(got) {
		t.Errorf("the tail: %v, %v", got, err)
	}
	var merged []Event
	paths, err := Logs(dir)
	if err != nil || len(paths) != 3 {
		t.Fatal(paths, err)
	}
	if err := Merge(paths, func(e *Event) error { merged = append(merged, *e); return nil }); err != nil {
		t.Fatal(err)
	}
	if got := leases(merged); len(got) != 49 || !slices.IsSorted(got) {
		t.Errorf("merged: %v", got)
	}
	if e := merged[0]; e.Who != "b" || e.At == 0 || e.Mono == 0 {
		t.Errorf("the first event: %+v", e)
	}
	if _, err := half.WriteString(line[20:]); err != nil {
		t.Fatal(err)
	}
	if rest, err := tail.Read(); err != nil || len(rest) != 1 || rest[0].Lease != 99 {
		t.Errorf("the rest of a line: %v, %v", rest, err)
	}
	if none, err := tail.Read(); err != nil || len(none) != 0 {
		t.Errorf("nothing new: %v, %v", none, err)
	}
}

// The witness writes a start and an end for every run, also of a handler that
// panics.
func TestWitness(t *testing.T) {
	dir := t.TempDir()
	j, err := OpenJournal(filepath.Join(dir, "w.jsonl"), "w")
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	w := NewWitness(j)
	run := func(h heddle.HandlerFunc) {
		defer func() { _ = recover() }()
		_, _ = w.Handler(h)(context.Background(), nil)
	}
	run(func(context.Context, []byte) ([]byte, error) { return nil, nil })
	run(func(context.Context, []byte) ([]byte, error) { return nil, os.ErrInvalid })
	run(func(context.Context, []byte) ([]byte, error) { panic("no") })
	events, err := NewTail(dir).Read()
	if err != nil || len(events) != 6 {
		t.Fatal(events, err)
	}
	for i, how := range []string{HowOK, HowError, HowError} {
		start, end := events[2*i], events[2*i+1]
		if start.What != Start || end.What != End || end.How != how || start.Nonce == "" || start.Nonce != end.Nonce {
			t.Errorf("run %d: %+v %+v", i, start, end)
		}
	}
}

// The longest pause counts what overlaps the window, and one that has not ended.
func TestPauses(t *testing.T) {
	var p Pauses
	for _, at := range []int64{10, 20, 50, 60, 100, 105} {
		p.See(&Event{What: Start, Mono: at})
		p.See(&Event{What: End, Mono: at + 1})
	}
	for _, c := range []struct {
		from   int64
		window time.Duration
		want   time.Duration
	}{{0, 200, 95}, {15, 30, 25}, {15, 80, 35}, {15, 90, 40}, {55, 10, 10}, {104, 3, 5}, {105, 50, 50}} {
		if got := p.Longest(c.from, c.window); got != c.want {
			t.Errorf("from %d for %d: %d, want %d", c.from, c.window, got, c.want)
		}
	}
}
