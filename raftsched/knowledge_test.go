package raftsched

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// A negative answer needs knowledge (C2), wherever it is given.

// TestUnknownToWhomItIsAhead: a leader that is deposed and unaware knows neither
// the sessions nor the leases of its successor. It does not say that they are gone.
func TestUnknownToWhomItIsAhead(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k := w.worker("p0")
		var index uint64
		var cluster fsm.WorkflowID
		w.node.replica.read(func(s *fsm.State) { index, cluster = s.Index(), s.Cluster() })
		ahead := k.session&^(1<<40-1) + index + 1000
		for what, call := range map[string]func(session uint64) error{
			"heartbeat": func(session uint64) error {
				_, err := w.node.Heartbeat(context.Background(), Heartbeat{Session: session})
				return err
			},
			"poll": func(session uint64) error {
				_, _, err := w.node.Poll(context.Background(), PollRequest{Session: session, Poll: 1, Max: 1, Wait: time.Second})
				return err
			},
			"close": func(session uint64) error { return w.node.CloseSession(context.Background(), session, 0) },
		} {
			if err := call(ahead); !errors.Is(err, ErrNotLeader) {
				t.Errorf("%s of a session opened behind this node's state: %v", what, err)
			}
			if err := call(1 << 30); what != "close" && !errors.Is(err, ErrUnknownSession) {
				t.Errorf("%s of a session of another cluster than %v: %v", what, cluster, err)
			}
		}
		k.held[job(1)] = Grant{Lease: fsm.Lease{Job: job(1), ID: index + 1000}}
		if c := k.mustBeat(); len(c.Lost) != 0 {
			t.Errorf("a lease granted behind this node's state is lost: %+v", c)
		}
	})
}

// TestLostWhenCommitted: a session is lost when the log says so. While that is
// under way it may yet fail, so nobody is told.
func TestLostWhenCommitted(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k := w.worker("p0")
		polled := make(chan error, 1)
		go func() {
			_, _, err := w.node.Poll(context.Background(), k.request(1, time.Hour))
			polled <- err
		}()
		time.Sleep(w.cfg.SessionTTL - time.Second)
		free := w.log.stick()
		time.Sleep(2 * time.Second)
		if _, err := k.beat(); !errors.Is(err, ErrNotLeader) {
			t.Errorf("heartbeat while the loss is under way: %v", err)
		}
		if len(polled) != 0 {
			t.Error("the poll was answered while the loss is under way")
		}
		free()
		synctest.Wait()
		if _, err := k.beat(); !errors.Is(err, ErrUnknownSession) {
			t.Errorf("heartbeat after the loss: %v", err)
		}
		if err := <-polled; !errors.Is(err, ErrUnknownSession) {
			t.Errorf("poll after the loss: %v", err)
		}
	})
}
