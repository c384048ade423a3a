package sdktest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	heddle "github.com/heddle-io/heddle/sdk"
	"github.com/heddle-io/heddle/sdk/sdktest"
)

// example stands for the *testing.T of a test in runnable examples.
type example struct{ testing.TB }

func (example) Helper()                   {}
func (example) Context() context.Context  { return context.Background() }
func (example) Output() io.Writer         { return io.Discard }
func (example) Error(args ...any)         { fmt.Println(args...) }
func (example) Fatal(args ...any)         { panic(fmt.Sprint(args...)) }
func (example) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

var t example // in a test: its *testing.T

var (
	chargeCard = heddle.NewKind[string, string]("card.charge", heddle.JobOptions{Retry: &heddle.Retry{Attempts: 3}})
	shipOrder  = heddle.NewKind[string, heddle.None]("order.ship")
	refundCard = heddle.NewKind[string, heddle.None]("card.refund")
)

// shopOrder charges, ships, and refunds if it could not ship.
func shopOrder(id string) *heddle.Workflow {
	wf := heddle.NewWorkflow("order")
	charged := wf.Add(chargeCard.Job(id, heddle.JobOptions{Name: "charge"}))
	shipped := wf.Add(shipOrder.Job(id, heddle.JobOptions{Name: "ship"})).After(charged)
	wf.Add(refundCard.Job(id, heddle.JobOptions{Name: "refund"})).After(charged, shipped.On(heddle.NotSucceeded))
	return wf
}

// A graph with stand-ins for its handlers: who ran, and how it ended.
func Example() {
	e := sdktest.New(t)
	sdktest.Stub(e, chargeCard, "ch_1")
	sdktest.Fail(e, shipOrder, heddle.NoRetry(errors.New("out of stock")))
	sdktest.Stub(e, refundCard, heddle.None{})
	run := e.Submit(shopOrder("7"))
	e.Drain()
	run.Want(map[string]heddle.Outcome{ // reports what is different
		"charge": heddle.Succeeded, "ship": heddle.Failed, "refund": heddle.Succeeded,
	})
	fmt.Println(run.Error("ship"))
	fmt.Println("refunded:", sdktest.Calls(e, refundCard))
	// Output:
	// out of stock
	// refunded: [7]
}

// The real handler, whose service is down at first: the delays between attempts
// are simulated.
func ExampleEngine_Drain() {
	e := sdktest.New(t)
	start := e.Now()
	chargeCard.Handle(e, func(ctx context.Context, id string) (string, error) {
		if heddle.JobInfo(ctx).Attempt < 3 {
			return "", errors.New("bank not reached")
		}
		return "ch_" + id, nil
	})
	run := e.Submit(chargeCard.Job("7"))
	e.Drain()
	fmt.Println(sdktest.Result(run, chargeCard, ""), "after some time:", e.Now().Sub(start) > 20*time.Second)
	// Output: ch_7 after some time: true
}

// What waits for a time stays until the clock is moved.
func ExampleEngine_Advance() {
	e := sdktest.New(t)
	sdktest.Stub(e, shipOrder, heddle.None{})
	run := e.Submit(shipOrder.Job("7", heddle.JobOptions{Delay: 24 * time.Hour}))
	e.Drain()
	fmt.Println("at once:", run.Outcome("") == heddle.Succeeded)
	e.Advance(25 * time.Hour)
	fmt.Println("a day later:", run.Outcome(""))
	// Output:
	// at once: false
	// a day later: succeeded
}

// A retry by hand takes the outcome back, and what was skipped waits again.
func ExampleRun_Retry() {
	e := sdktest.New(t)
	sdktest.Fail(e, chargeCard, errors.New("bank not reached"))
	sdktest.Stub(e, shipOrder, heddle.None{})
	run := e.Submit(shopOrder("7"))
	e.Drain()
	fmt.Println(run.Outcome("charge"), run.Outcome("ship"))

	sdktest.Stub(e, chargeCard, "ch_1")
	run.Retry("charge")
	e.Drain()
	fmt.Println(run.Outcome("charge"), run.Outcome("ship"))
	// Output:
	// failed skipped
	// succeeded succeeded
}
