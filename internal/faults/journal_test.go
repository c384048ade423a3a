package faults

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// event is one line of the log that worker processes write. What a line says
// has happened before it was written.
type event struct {
	// At is when, in nanoseconds of the clock all processes of this machine
	// share.
	At int64 `json:"at"`
	// What: "grant" (an answer to a poll came in), "start" and "end" (of a
	// handler), "ack" (the answer to a report came in).
	What   string `json:"what"`
	Worker string `json:"worker"`

	Workflow string `json:"workflow,omitempty"`
	Node     int32  `json:"node,omitempty"`
	Attempt  int    `json:"attempt,omitempty"`
	Lease    uint64 `json:"lease,omitempty"`

	// Ending and Status of a report; How of an end: "ok", or the error.
	Ending string `json:"ending,omitempty"`
	Status string `json:"status,omitempty"`
	How    string `json:"how,omitempty"`
}

// job names a job in the log and in the tables.
type job struct {
	workflow string
	node     int32
}

func (j job) String() string { return fmt.Sprintf("%s/%d", j.workflow, j.node) }

func (e *event) job() job { return job{e.Workflow, e.Node} }

// journal is the writing end of the log in a worker process.
type journal struct {
	mu     sync.Mutex
	file   *os.File
	worker string
}

func openJournal(path, worker string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &journal{file: f, worker: worker}, nil
}

// write appends events. Killed in the middle, the process leaves half a line,
// which readers pass over.
func (j *journal) write(events ...event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	now := time.Now().UnixNano()
	for _, e := range events {
		e.At, e.Worker = now, j.worker
		if err := enc.Encode(e); err != nil {
			panic(err)
		}
	}
	if _, err := j.file.Write(buf.Bytes()); err != nil {
		fmt.Fprintln(os.Stderr, "journal:", err)
		os.Exit(2)
	}
}

// events is the reading end: the files of all workers of a test in one folder.
type events struct {
	t   testing.TB
	dir string

	offset map[string]int64
	all    []event
}

func newEvents(t testing.TB) *events {
	return &events{t: t, dir: t.TempDir(), offset: make(map[string]int64)}
}

func (v *events) path(worker string) string { return filepath.Join(v.dir, worker+".jsonl") }

// read takes in what was written since, and gives everything in order of time.
func (v *events) read() []event {
	v.t.Helper()
	paths, err := filepath.Glob(filepath.Join(v.dir, "*.jsonl"))
	if err != nil {
		v.t.Fatal(err)
	}
	before := len(v.all)
	for _, path := range paths {
		v.readFile(path)
	}
	if len(v.all) > before {
		slices.SortStableFunc(v.all, func(a, b event) int { return int(a.At - b.At) })
	}
	return v.all
}

func (v *events) readFile(path string) {
	v.t.Helper()
	f, err := os.Open(path)
	if err != nil {
		v.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Seek(v.offset[path], 0); err != nil {
		v.t.Fatal(err)
	}
	for r := bufio.NewReader(f); ; {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return // the rest, if any, is not a whole line yet
		}
		v.offset[path] += int64(len(line))
		var e event
		if json.Unmarshal(line, &e) == nil {
			v.all = append(v.all, e)
		}
	}
}

// count gives the number of events that match.
func (v *events) count(match func(*event) bool) int {
	v.t.Helper()
	all, n := v.read(), 0
	for i := range all {
		if match(&all[i]) {
			n++
		}
	}
	return n
}

// starts counts the handlers begun by a worker; "" is all of them.
func (v *events) starts(worker string) int {
	v.t.Helper()
	return v.count(func(e *event) bool { return e.What == "start" && (worker == "" || e.Worker == worker) })
}

// acks counts the acknowledged ends.
func (v *events) acks() int {
	v.t.Helper()
	return v.count(func(e *event) bool { return e.What == "ack" && e.Status == ackDone })
}

// longestPause is the longest time between two starts.
func (v *events) longestPause() time.Duration {
	v.t.Helper()
	var before, longest int64
	for _, e := range v.read() {
		if e.What != "start" {
			continue
		}
		if before != 0 {
			longest = max(longest, e.At-before)
		}
		before = e.At
	}
	return time.Duration(longest)
}

// startedBy gives the jobs that a worker has started.
func (v *events) startedBy(worker string) []job {
	v.t.Helper()
	var jobs []job
	for _, e := range v.read() {
		if e.What == "start" && e.Worker == worker && !slices.Contains(jobs, e.job()) {
			jobs = append(jobs, e.job())
		}
	}
	return jobs
}
