package heddle_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log"
	"os/signal"
	"slices"
	"syscall"
	"time"

	heddle "github.com/heddle-io/heddle/sdk"
)

var greet = heddle.NewKind[string, string]("greet")

// Mistakes of a graph are collected while it is built. Submit returns all of them
// before it sends anything.
func ExampleClient_Submit_mistakes() {
	client, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{"http://localhost:7400"}})
	if err != nil {
		log.Fatal(err)
	}
	wf := heddle.NewWorkflow("nightly")
	load := wf.Add(greet.Job("load", heddle.JobOptions{Name: "load"}))
	wf.Add(greet.Job("check", heddle.JobOptions{Name: "load", Priority: 9})).After(load)
	_, err = client.Submit(context.Background(), wf)
	fmt.Println(errors.Is(err, heddle.ErrInvalid))
	fmt.Println(err)
	// Output:
	// true
	// invalid: workflow: two nodes are named "load"
	// load: priority 9: must be 1 to 4
}

// A cycle is named by the starts and ends of the nodes in it.
func ExampleCycleError() {
	wf := heddle.NewWorkflow("knot")
	batch := wf.Batch("batch")
	batch.Add(greet.Job("member", heddle.JobOptions{Name: "member"})).After(batch)
	_, _, err := heddle.Encode(context.Background(), nil, wf)
	var cycle *heddle.CycleError
	fmt.Println(errors.As(err, &cycle))
	// Output: true
}

// A handler's error says what is to become of its job.
func ExampleNoRetry() {
	errBounced := errors.New("no such address")
	err := heddle.NoRetry(errBounced)
	fmt.Println(err, errors.Is(err, errBounced))
	// Output: no such address true
}

// A set of outcomes is the condition of an edge.
func ExampleNode_On() {
	fmt.Println(heddle.Failed | heddle.Cancelled)
	fmt.Println(heddle.Finished)
	// Output:
	// failed|cancelled
	// succeeded|failed|cancelled
}

// A lone job needs no workflow.
func ExampleClient_Submit() {
	ctx := context.Background()
	client, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{"http://localhost:7400"}})
	if err != nil {
		log.Fatal(err)
	}
	run, err := client.Submit(ctx, greet.Job("world", heddle.JobOptions{Delay: time.Minute}))
	if err != nil {
		log.Fatal(err)
	}
	outcome, err := run.Wait(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(run.ID(), outcome)
}

// A graph: one job, then a batch of many, then one of two ends.
func ExampleNewWorkflow() {
	addresses := []string{"a@example.org", "b@example.org"}
	wf := heddle.NewWorkflow("campaign")
	letter := wf.Add(Render.Job(Campaign{"spring"}, heddle.JobOptions{Name: "letter"}))
	emails := wf.Batch("emails", heddle.BatchOptions{Tolerance: heddle.Percent(2)}).After(letter)
	emails.AddAll(jobsFor(slices.Values(addresses)))
	wf.Add(Report.Job(Campaign{"spring"})).After(emails.On(heddle.Finished))
	wf.Add(Alert.Job(Campaign{"spring"})).After(emails.On(heddle.Failed))
}

func jobsFor(addresses iter.Seq[string]) iter.Seq[heddle.Job] {
	return func(yield func(heddle.Job) bool) {
		for a := range addresses {
			if !yield(Send.Job(Email{"spring", a})) {
				return
			}
		}
	}
}

// A worker serves its queues until it is told to stop.
func ExampleWorker() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	client, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{"http://localhost:7400"}})
	if err != nil {
		log.Fatal(err)
	}
	w := heddle.NewWorker(client, heddle.WorkerConfig{Weighted: map[string]int{"default": 3, "bulk": 1}, Slots: 64})
	greet.Handle(w, func(ctx context.Context, name string) (string, error) {
		heddle.Logger(ctx).Info("greeting")
		return "hello, " + name, nil
	})
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// Watch follows a workflow to its end.
func ExampleRun_Watch() {
	ctx := context.Background()
	client, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{"http://localhost:7400"}})
	if err != nil {
		log.Fatal(err)
	}
	for status, err := range client.Run("01890a5d-ac96-774b-bcce-b302099a8057").Watch(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %d of %d jobs have ended\n", status.State, status.Jobs.Ended(), status.Jobs.Total)
	}
}
