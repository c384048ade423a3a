package heddle_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/google/uuid"

	heddle "github.com/heddle-io/heddle/sdk"
)

// connect makes the client of the examples below.
func connect() *heddle.Client {
	client, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{"http://localhost:7400"}})
	if err != nil {
		log.Fatal(err)
	}
	return client
}

// Call submits one job and waits for its result.
func ExampleKind_Call() {
	answer, err := greet.Call(context.Background(), connect(), "world")
	var ended *heddle.OutcomeError
	switch {
	case errors.As(err, &ended):
		fmt.Println(ended.Outcome, ended.Message)
	case err != nil:
		log.Fatal(err) // no answer: the job may run nevertheless
	default:
		fmt.Println(answer)
	}
}

// What has failed is retried by hand once its reason is gone; what was skipped
// because of it waits again.
func ExampleRun_Retry() {
	ctx := context.Background()
	run := connect().Run("01890a5d-ac96-774b-bcce-b302099a8057")
	jobs, err := run.Retry(ctx, heddle.RetryOptions{Path: "emails"})
	if errors.Is(err, heddle.ErrRefused) {
		fmt.Println("nothing to retry:", err)
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	outcome, err := run.Wait(ctx)
	fmt.Println(jobs, "jobs ran again:", outcome, err)
}

// An open batch takes jobs from outside until it is sealed.
func ExampleRun_Append() {
	ctx := context.Background()
	wf := heddle.NewWorkflow("uploads")
	files := wf.Batch("files", heddle.BatchOptions{Open: true})
	wf.Add(greet.Job("all there")).After(files)
	run, err := connect().Submit(ctx, wf)
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"a.csv", "b.csv"} {
		if err := run.Append(ctx, "files", func(g *heddle.Group) { g.Add(greet.Job(name)) }); err != nil {
			log.Fatal(err)
		}
	}
	if err := run.Seal(ctx, "files"); err != nil {
		log.Fatal(err)
	}
}

// A Submit that may have to be repeated after a crash of the caller carries an
// id of the caller's, kept where the caller finds it again.
func ExampleWorkflowOptions() {
	id := uuid.Must(uuid.NewV7()).String() // kept in the order's row
	wf := heddle.NewWorkflow("order", heddle.WorkflowOptions{ID: id})
	wf.Add(greet.Job("customer"))
	run, err := connect().Submit(context.Background(), wf)
	switch {
	case errors.Is(err, heddle.ErrAlreadyExists):
		log.Fatal("the id belongs to another graph: ", err)
	case err != nil:
		log.Fatal(err) // try again with the same id
	}
	fmt.Println(run.ID())
}

// Results are read from outside, too.
func ExampleKind_ResultsOf() {
	run := connect().Run("01890a5d-ac96-774b-bcce-b302099a8057")
	for m, err := range greet.ResultsOf(context.Background(), run, "greetings") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(m.Node, m.Outcome, m.Value, m.Error)
	}
}
