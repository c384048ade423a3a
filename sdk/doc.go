// Package heddle is the Go SDK of Heddle, a workflow engine on PostgreSQL.
//
// A [Kind] ties the name of a sort of job to the types of its arguments and of
// its result. Producers build graphs from jobs of these kinds, a [Workflow] of
// nodes, batches and edges, and hand them to a [Client]; workers register a
// handler per kind and run what the engine gives them.
//
//	var Greet = heddle.NewKind[string, string]("greet")
//
//	run, err := client.Submit(ctx, Greet.Job("world"))
//
//	w := heddle.NewWorker(client, heddle.WorkerConfig{})
//	Greet.Handle(w, func(ctx context.Context, name string) (string, error) {
//		return "hello, " + name, nil
//	})
//	err = w.Run(ctx)
//
// Building a graph needs no error handling: mistakes are collected and returned
// by Submit, joined, before anything is sent.
//
// Everything here is safe for concurrent use unless it says otherwise; a
// Workflow, its batches and its nodes belong to one goroutine until they have
// been submitted.
package heddle
