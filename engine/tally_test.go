package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/engine/store"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

func TestTally(t *testing.T) {
	const second = int64(1e6)
	begin := int64(1_700_000_040) * second // a full minute
	end := func(route int32, ending model.Ending, ran time.Duration, waited int64) item {
		return item{
			finish: model.Finish{Ending: ending, Ran: ran}, lease: fsm.Lease{GrantedAt: begin}, job: heldJob{route: route, runAt: begin - waited},
		}
	}
	group := []item{
		end(1, model.EndSucceeded, 10*time.Microsecond, 5), end(1, model.EndRetry, 20*time.Microsecond, 5), end(2, model.EndFailed, time.Microsecond, -9),
		end(1, model.EndCancelled, 0, 0), end(1, model.EndSnooze, time.Hour, 0), end(2, model.EndSucceeded, 0, 0), end(1, model.EndSucceeded, time.Hour, 0),
	}
	flushed := make([]model.Flushed, len(group))
	flushed[5].Stale = true
	flushed[6].Err = errors.New("refused")
	var tl tally
	tl.ended(begin, group, flushed)
	tl.started(begin+second, 3)
	tl.ended(begin+61*second, group[:1], flushed[:1])

	rates := tl.rates(begin + 62*second)
	if len(rates) != 62 {
		t.Fatalf("%d rates", len(rates))
	}
	if r := rates[0]; r.GetSecond() != begin/second || r.GetSucceeded() != 1 || r.GetRetried() != 1 || r.GetFailed() != 1 || r.GetCancelled() != 1 || r.GetStarted() != 0 {
		t.Errorf("first second %v", r)
	}
	if rates[1].GetStarted() != 3 || rates[2].GetSucceeded() != 0 || rates[61].GetSucceeded() != 1 {
		t.Errorf("rates %v", rates)
	}
	if late := tl.rates(begin + 3600*second); len(late) != tallySeconds || late[0].GetSecond() != begin/second+3000 || late[599].GetSucceeded() != 0 {
		t.Errorf("%d rates an hour later, from %v", len(late), late[0])
	}

	var written []store.MinuteSum
	fail := error(safe{})
	add := func(_ context.Context, sums []store.MinuteSum) error {
		if fail != nil {
			return fail
		}
		written = append(written, sums...)
		return nil
	}
	if err := tl.write(t.Context(), add); err == nil {
		t.Fatal("an error is not told")
	}
	fail = nil
	tl.ended(begin+30*second, group[:1], flushed[:1])
	if err := tl.write(t.Context(), add); err != nil {
		t.Fatal(err)
	}
	want := map[tallyKey]store.MinuteSum{
		{begin / second / 60, 1}: {Succeeded: 2, Retried: 1, Cancelled: 1, RunUs: 40, WaitUs: 15},
		{begin / second / 60, 2}: {Failed: 1, RunUs: 1},
		{begin/second/60 + 1, 1}: {Succeeded: 1, RunUs: 10, WaitUs: 5},
	}
	if len(written) != len(want) {
		t.Errorf("written %v", written)
	}
	for _, s := range written {
		k := tallyKey{s.Minute.Unix() / 60, s.Route}
		s.Minute, s.Route = time.Time{}, 0
		if s != want[k] {
			t.Errorf("%v: got %+v, want %+v", k, s, want[k])
		}
	}
	// What may have been written is not written again.
	tl.ended(begin, group, flushed)
	fail = errors.New("cut off")
	if err := tl.write(t.Context(), add); err == nil {
		t.Fatal("an error is not told")
	}
	fail, written = nil, nil
	if err := tl.write(t.Context(), add); err != nil || len(written) != 0 {
		t.Errorf("written %v, %v", written, err)
	}
}

// safe is the error of a statement that was not sent.
type safe struct{}

func (safe) Error() string     { return "not sent" }
func (safe) SafeToRetry() bool { return true }

func BenchmarkTally(b *testing.B) {
	var tl tally
	group := make([]item, flushLimit)
	for i := range group {
		group[i] = item{finish: model.Finish{Ending: model.EndSucceeded}, job: heldJob{route: int32(i % 3), runAt: 1}, lease: fsm.Lease{GrantedAt: 2}}
	}
	flushed := make([]model.Flushed, len(group))
	for b.Loop() {
		tl.ended(1e15, group, flushed)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/flushLimit, "ns/job")
}
