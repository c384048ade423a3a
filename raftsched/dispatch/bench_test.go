package dispatch

import (
	"strconv"
	"testing"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// feed is the database of a benchmark: streams with rows in order.
type feed struct {
	rows map[LanePriority][]Row
	at   map[LanePriority]int
}

func jobID(n int) fsm.JobID {
	var id fsm.JobID
	for i := range 4 {
		id.Workflow[4+i] = byte(n >> (24 - 8*i))
		id.Workflow[12+i] = byte(n * 2654435761 >> (8 * i))
	}
	id.Node = loneNode
	return id
}

func newFeed(lanes, perLane int) *feed {
	f := &feed{rows: map[LanePriority][]Row{}, at: map[LanePriority]int{}}
	args := []byte("{}")
	n := 0
	for l := range lanes {
		id := LanePriority{Lane: Lane{Route: 1}, Priority: 2}
		if l > 0 {
			id.Key = "tenant-" + strconv.Itoa(l)
		}
		rows := make([]Row, perLane)
		for i := range rows {
			n++
			rows[i] = Row{Job: jobID(n), Lane: id.Lane, Priority: 2, RunAt: int64(n), Batch: -1, Args: args}
		}
		f.rows[id] = rows
	}
	return f
}

func (f *feed) load(loads []Load, answers []Loaded) []Loaded {
	answers = answers[:0]
	for _, l := range loads {
		rows := f.rows[l.Lane]
		at := f.at[l.Lane]
		n := min(len(rows)-at, l.Limit)
		f.at[l.Lane] = at + n
		answers = append(answers, Loaded{Lane: l.Lane, Rows: rows[at : at+n], End: n < l.Limit, Now: 1})
	}
	return answers
}

// work runs everything that the feed has through a dispatcher, in matches of up
// to 1,000, two in flight. It returns the number of jobs.
func work(f *feed) int {
	d := New(Config{})
	d.SetRoutes([]Route{{ID: 1, Queue: "q", Kind: "k"}})
	const now = int64(1_000_000_000)
	queues, kinds := []Queue{{Name: "q"}}, []string{"k"}
	var lanes []LanePriority
	for id := range f.rows {
		lanes = append(lanes, id)
	}
	poll := uint64(1)
	d.Poll(Poll{Session: 1, Poll: poll, Max: 1_000, Queues: queues, Kinds: kinds})
	d.Wants(now)
	d.Hint(lanes)
	var answers []Loaded
	var matches []Match
	var ended []fsm.Lease
	done, idle := 0, 0
	for idle < 3 {
		w := d.Wants(now)
		if len(w.Loads) > 0 {
			m := d.Begin()
			answers = f.load(w.Loads, answers)
			d.Loaded(m, w.Loads, answers)
		}
		m := d.Begin()
		matches = d.Match(now, 4_096, matches[:0])
		ended = ended[:0]
		for i := range matches {
			d.Granted(matches[i].Row.Job)
			ended = append(ended, fsm.Lease{Job: matches[i].Row.Job, Turn: matches[i].Row.Turn})
		}
		d.Commit(m, ended, nil, nil)
		done += len(matches)
		if len(matches) > 0 {
			poll++
			d.Poll(Poll{Session: 1, Poll: poll, Max: 1_000, Queues: queues, Kinds: kinds})
			idle = 0
		} else {
			idle++
		}
	}
	return done
}

func benchmarkLoaded(b *testing.B, lanes, perLane int) {
	f := newFeed(lanes, perLane)
	b.ReportAllocs()
	for b.Loop() {
		clear(f.at)
		if n := work(f); n != lanes*perLane {
			b.Fatalf("%d jobs ran", n)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(lanes*perLane), "ns/job")
}

func BenchmarkOneLane(b *testing.B)   { benchmarkLoaded(b, 1, 100_000) }
func BenchmarkManyLanes(b *testing.B) { benchmarkLoaded(b, 2_000, 50) }
func BenchmarkManyKeys(b *testing.B)  { benchmarkLoaded(b, 100_000, 2) }

// BenchmarkReady is the path of rows that the leader itself committed: Commit,
// Match, Granted, Commit.
func BenchmarkReady(b *testing.B) {
	for _, keys := range []int{1, 2_000, 100_000} {
		b.Run(strconv.Itoa(keys)+"keys", func(b *testing.B) { benchmarkReady(b, keys) })
	}
}

func benchmarkReady(b *testing.B, keys int) {
	d := New(Config{})
	d.SetRoutes([]Route{{ID: 1, Queue: "q", Kind: "k"}})
	const group = 500
	queues, kinds := []Queue{{Name: "q"}}, []string{"k"}
	names := make([]string, keys)
	for i := range names {
		names[i] = "tenant-" + strconv.Itoa(i)
	}
	rows := make([]Row, group)
	ended := make([]fsm.Lease, group)
	var matches []Match
	now, n := int64(1_000_000_000), 0
	d.Wants(now)
	cycle := func() {
		now += 1_000
		for i := range rows {
			n++
			rows[i] = Row{Job: jobID(n), Lane: Lane{Route: 1, Key: names[n%keys]}, Priority: 2, RunAt: now, Batch: -1}
		}
		d.Commit(d.Begin(), nil, nil, rows)
		d.Poll(Poll{Session: 1, Poll: uint64(n), Max: 1_000, Queues: queues, Kinds: kinds})
		m := d.Begin()
		matches = d.Match(now, 4_096, matches[:0])
		if len(matches) != group {
			b.Fatalf("%d matches", len(matches))
		}
		for i := range matches {
			d.Granted(matches[i].Row.Job)
			ended[i] = fsm.Lease{Job: matches[i].Row.Job}
		}
		d.Commit(m, ended, nil, nil)
	}
	for range keys/group + 1 {
		cycle()
	}
	b.ReportAllocs()
	for b.Loop() {
		cycle()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/group, "ns/job")
}
