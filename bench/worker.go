package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"
)

// recorder collects in the worker process what its handlers see, and tells it
// to the parent: a line of JSON every 10 ms and a last one at the end.
type recorder struct {
	jobs   atomic.Int64
	chains atomic.Int64
	final  atomic.Int64
	mu     sync.Mutex
	micros []int64
	ended  map[int]time.Time // when the last job of a chain ended
}

// report is one such line.
type report struct {
	Jobs   int64   `json:"jobs"`
	Chains int64   `json:"chains"`
	Final  int64   `json:"final"` // Unix nanoseconds of the continuation's start
	Micros []int64 `json:"micros,omitempty"`
}

func (r *recorder) noop() { r.jobs.Add(1) }

func (r *recorder) stamp(at int64) {
	d := time.Since(time.Unix(0, at)).Microseconds()
	r.mu.Lock()
	r.micros = append(r.micros, d)
	r.mu.Unlock()
	r.jobs.Add(1)
}

// step records the time between the end of the job before it in the chain and
// its own start. It returns a function for its end.
func (r *recorder) step(chain, left int) (end func()) {
	now := time.Now()
	r.mu.Lock()
	if before, ok := r.ended[chain]; ok {
		r.micros = append(r.micros, now.Sub(before).Microseconds())
	}
	r.mu.Unlock()
	return func() {
		r.mu.Lock()
		r.ended[chain] = time.Now()
		r.mu.Unlock()
		if left == 0 {
			r.chains.Add(1)
		}
	}
}

func (r *recorder) finale() { r.final.Store(time.Now().UnixNano()) }

func (r *recorder) line(all bool) report {
	p := report{Jobs: r.jobs.Load(), Chains: r.chains.Load(), Final: r.final.Load()}
	if all {
		r.mu.Lock()
		p.Micros = r.micros
		r.mu.Unlock()
	}
	return p
}

// workerMain is the worker process. It ends when its standard input does.
func workerMain(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("worker", flag.ContinueOnError)
	peer := fs.String("peer", "", "peer")
	target := fs.String("target", "", "what the peer's worker connects to")
	profile := fs.String("profile", "", "file for a CPU profile")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { io.Copy(io.Discard, os.Stdin); cancel() }()
	rec := &recorder{ended: map[int]time.Time{}}
	enc := json.NewEncoder(os.Stdout)
	done := make(chan error, 1)
	go func() { done <- workers[*peer](ctx, *target, rec) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, context.Canceled) {
				return err
			}
			return enc.Encode(rec.line(true))
		case <-tick.C:
			if err := enc.Encode(rec.line(false)); err != nil {
				return err
			}
		}
	}
}

var workers = map[string]func(ctx context.Context, target string, rec *recorder) error{
	"river": riverWorker, "heddle": heddleWorker,
}

// events are what the worker process has told so far.
type events struct {
	jobs   int
	chains int
	final  int64
	Micros []int64
}

// worker is the worker process as its parent sees it.
type worker struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	mu     sync.Mutex
	ev     events
	change chan struct{}
	ended  chan struct{}
	once   sync.Once
}

func startWorker(ctx context.Context, s system, o options) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := append([]string{"worker"}, s.workerArgs()...)
	if o.profile != "" {
		args = append(args, "-profile", filepath.Join(o.profile, fmt.Sprintf("worker-%d.pprof", time.Now().UnixNano())))
	}
	w := &worker{cmd: exec.CommandContext(ctx, self, args...), change: make(chan struct{}, 1), ended: make(chan struct{})}
	w.cmd.Stderr = os.Stderr
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	go w.read(out)
	return w, nil
}

func (w *worker) read(out io.Reader) {
	defer close(w.ended)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var r report
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			continue
		}
		w.mu.Lock()
		w.ev = events{jobs: int(r.Jobs), chains: int(r.Chains), final: r.Final, Micros: r.Micros}
		w.mu.Unlock()
		select {
		case w.change <- struct{}{}:
		default:
		}
	}
}

func (w *worker) last() events {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ev
}

// wait until the worker has told enough.
func (w *worker) wait(ctx context.Context, enough func(*events) bool) error {
	for {
		ev := w.last()
		if enough(&ev) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.ended:
			return errors.New("the worker process ended early")
		case <-w.change:
		}
	}
}

// stop ends the process in order and gives its last word.
func (w *worker) stop() events {
	w.once.Do(func() {
		w.stdin.Close()
		<-w.ended
		_ = w.cmd.Wait() // its last line was read, or is missed by the caller
	})
	return w.last()
}
