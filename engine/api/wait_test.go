package api

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

const (
	available = heddlev1.State_STATE_AVAILABLE
	running   = heddlev1.State_STATE_RUNNING
	succeeded = heddlev1.State_STATE_SUCCEEDED
)

// watched is a fake whose workflow ends when done is set.
func watched() (f *fake, done *atomic.Bool) {
	done = new(atomic.Bool)
	f = &fake{touch: make(chan struct{}, 1), end: make(chan struct{}, 1)}
	f.nodeState = func(dag.ID) (heddlev1.State, []byte, string, bool) {
		if done.Load() {
			return succeeded, []byte("7"), "", true
		}
		return available, nil, "", false
	}
	f.workflow = func() *heddlev1.Workflow {
		if done.Load() {
			return ended()
		}
		return &heddlev1.Workflow{Id: textID, Jobs: &heddlev1.Counts{Total: 1, Available: 1}}
	}
	return f, done
}

// touched tells of a change, as a Watcher does.
func (f *fake) touched() {
	select {
	case f.touch <- struct{}{}:
	default:
	}
}

// waiting runs await in a goroutine of the bubble.
func waiting(ctx context.Context, f *fake, node dag.ID, timeout time.Duration) <-chan func() (*heddlev1.WaitResponse, error) {
	out := make(chan func() (*heddlev1.WaitResponse, error), 1)
	go func() {
		res, err := f.service().await(ctx, theID, node, timeout)
		out <- func() (*heddlev1.WaitResponse, error) { return res, err }
	}()
	return out
}

func TestWaitAnswersAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, done := watched()
		began := time.Now()
		out := waiting(t.Context(), f, dag.Root, time.Minute)
		synctest.Wait()
		time.Sleep(3 * time.Second)
		f.touch <- struct{}{} // of no interest to who waits for the whole
		synctest.Wait()
		if n := f.reads.Load(); n != 1 {
			t.Errorf("read %d times, want once", n)
		}
		done.Store(true)
		f.end <- struct{}{}
		res, err := (<-out)()
		if err != nil || !res.GetEnded() || res.GetState() != succeeded || string(res.GetResult()) != "7" {
			t.Errorf("got %v, %v", res, err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestWaitAnswersAtTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for node, job := range map[dag.ID]int32{3: 3, dag.Root: 1} { // the latter: a lone job
			f, _ := watched()
			f.leases = []fsm.Lease{{Job: fsm.JobID{Workflow: theID, Node: job}}}
			began := time.Now()
			res, err := (<-waiting(t.Context(), f, node, 5*time.Second))()
			if err != nil || res.GetEnded() || res.GetState() != running || time.Since(began) != 5*time.Second {
				t.Errorf("got %v, %v after %v", res, err, time.Since(began))
			}
		}
	})
}

// A node of a busy workflow is not read more often than every waitEvery.
func TestWaitReadsANodeNotTooOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, done := watched()
		out := waiting(t.Context(), f, 3, time.Minute)
		for range 1000 {
			time.Sleep(time.Millisecond)
			f.touched()
		}
		synctest.Wait()
		if n, most := f.reads.Load(), int32(time.Second/waitEvery)+2; n > most || n < most/2 {
			t.Errorf("read %d times in a second", n)
		}
		done.Store(true)
		f.touched()
		if res, err := (<-out)(); err != nil || !res.GetEnded() {
			t.Errorf("got %v, %v", res, err)
		}
	})
}

// An end of which no news came is found all the same.
func TestWaitLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, done := watched()
		began := time.Now()
		out := waiting(t.Context(), f, dag.Root, time.Minute)
		synctest.Wait()
		done.Store(true)
		if res, err := (<-out)(); err != nil || !res.GetEnded() || time.Since(began) != lookAgain {
			t.Errorf("got %v, %v after %v", res, err, time.Since(began))
		}
	})
}

func TestWaitEndsWithItsCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, node := range []dag.ID{dag.Root, 3} {
			f, _ := watched()
			ctx, cancel := context.WithCancel(t.Context())
			out := waiting(ctx, f, node, time.Minute)
			synctest.Wait()
			if node != dag.Root {
				f.touch <- struct{}{}
				synctest.Wait()
			}
			cancel()
			if _, err := (<-out)(); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}
	})
}

// W2: what ends after the handler cannot be waited for by it.
func TestWaitOfAHandler(t *testing.T) {
	w := (&fake{}).service()
	own := &heddlev1.LeaseRef{WorkflowId: theID[:], Node: 3, Lease: 7, Session: 11}
	for path, want := range map[string]string{
		"":                  "refused: job " + textID + "/3 cannot wait for its own workflow, which ends after it",
		"all":               "refused: job " + textID + "/3 cannot wait for its own batch, which ends after it",
		"all/emails":        "refused: job " + textID + "/3 cannot wait for its own batch, which ends after it",
		"all/emails/render": "refused: job " + textID + "/3 cannot wait for itself, which ends after it",
		"other":             "",
	} {
		err := failure(w.Wait, &heddlev1.WaitRequest{WorkflowId: textID, Path: path, Lease: own})
		if want == "" && err == nil {
			continue
		}
		if err == nil || err.Error() != want || !errors.Is(err, model.ErrRefused) {
			t.Errorf("%q: got %v, want %s", path, err, want)
		}
	}
	other := &heddlev1.LeaseRef{WorkflowId: make([]byte, 16), Node: 3}
	if err := failure(w.Wait, &heddlev1.WaitRequest{WorkflowId: textID, Lease: other}); err != nil {
		t.Errorf("another workflow: %v", err)
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, done := watched()
		sent := make(chan *heddlev1.Workflow, 100)
		out := make(chan error, 1)
		go func() {
			out <- f.service().watch(t.Context(), theID, func(m *heddlev1.WatchResponse) error {
				sent <- m.GetWorkflow()
				return nil
			})
		}()
		synctest.Wait()
		if len(sent) != 1 {
			t.Fatalf("sent %d states at once", len(sent))
		}
		for range 1000 {
			time.Sleep(time.Millisecond)
			f.touched()
		}
		synctest.Wait()
		if len(sent) != 5 {
			t.Errorf("sent %d states in a second, want 4 and the first", len(sent))
		}
		time.Sleep(watchEvery) // the last change
		synctest.Wait()
		n := len(sent)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if len(sent) > n+1 {
			t.Errorf("sent %d states without a change", len(sent)-n)
		}
		newest(sent)
		f.mu.Lock()
		f.leases = []fsm.Lease{{Job: fsm.JobID{Workflow: theID, Node: 1}, ID: 9}}
		f.mu.Unlock()
		time.Sleep(leasesEvery + watchEvery)
		synctest.Wait()
		if newest(sent) == nil {
			t.Error("a start was not told")
		}
		done.Store(true)
		f.end <- struct{}{}
		if err := <-out; err != nil {
			t.Error(err)
		}
		if last := newest(sent); last.GetState() != succeeded {
			t.Errorf("the last state is %v", last)
		}
	})
}

// newest takes all states and gives the last; nil: there are none.
func newest(sent chan *heddlev1.Workflow) (last *heddlev1.Workflow) {
	for len(sent) > 0 {
		last = <-sent
	}
	return last
}

func TestWatchEndsWithItsCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := watched()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := f.service().watch(ctx, theID, func(*heddlev1.WatchResponse) error { return nil })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		gone := errors.New("gone")
		if err := f.service().watch(t.Context(), theID, func(*heddlev1.WatchResponse) error { return gone }); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
	})
}
