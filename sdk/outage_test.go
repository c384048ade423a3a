package heddle

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// However many calls fail while an engine is away, its going and its coming are
// one line each.
func TestOutageIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer // read only while everything is blocked
	var away atomic.Bool
	gone := connect.NewError(connect.CodeUnavailable, errors.New("nobody there"))
	var calls atomic.Int32
	bubble(t, WorkerConfig{Slots: 2, Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(r *rig) {
		noop.Do(r.w, func(context.Context, None) error { return nil })
		r.p.onPoll = func(ctx context.Context, _ *heddlev1.PollRequest, answer func() (*heddlev1.PollResponse, error)) (*heddlev1.PollResponse, error) {
			calls.Add(1)
			if away.Load() {
				return nil, gone
			}
			return answer()
		}
		r.p.onBeat = func(_ context.Context, _ *heddlev1.HeartbeatRequest, answer func() (*heddlev1.HeartbeatResponse, error)) (*heddlev1.HeartbeatResponse, error) {
			if away.Load() {
				return nil, gone
			}
			return answer()
		}
	}, func(r *rig) {
		for range 2 {
			synctest.Wait()
			calls.Store(0)
			away.Store(true)
			r.nets[0].cut()
			time.Sleep(10 * time.Second)
			away.Store(false)
			time.Sleep(20 * time.Second)
			synctest.Wait()
			if n := calls.Load(); n < 5 {
				t.Errorf("only %d polls meanwhile: nothing is tested", n)
			}
			text := log.String()
			log.Reset()
			if n := strings.Count(text, "nobody there"); n != 1 {
				t.Errorf("the outage is told %d times:\n%s", n, text)
			}
			if n := strings.Count(text, `msg="engine available again"`); n != 1 {
				t.Errorf("its end is told %d times:\n%s", n, text)
			}
		}
	})
}
