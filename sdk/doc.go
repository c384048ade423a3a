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
// # Graphs
//
// [Group.Add] and [Group.Batch] make nodes; After, AfterAny and
// AfterAtLeast tie them to others, to their success or to any set of outcomes
// ([Node.On]). Building a graph needs no error handling: mistakes are collected
// and returned by Submit, joined, before anything is sent. A handler grows its
// own graph with [Then] and [AddNow], others grow it with [Run.Append].
//
// # Handlers
//
// A handler that returns nil has done its job, whatever happened meanwhile. Any
// error ends the attempt; [NoRetry], [RetryAfter], [Snooze] and [CancelSelf] say
// what is to come of it. Jobs run at least once: see [Kind.Handle]. What others
// have returned is read with [Kind.Result] and [Kind.Results].
//
// # Several engines
//
// Any engine of a cluster takes any call. A client goes on with the next address
// when one does not answer, and repeats what may be repeated. A worker learns
// the engines of the cluster from the one it was given, goes straight to the one
// that leads, and follows the leadership from engine to engine: its jobs go on
// meanwhile, and no attempt is counted.
//
// # Elsewhere
//
// Package sdktest runs graphs and handlers in unit tests, without an engine.
// Package sdkpgx submits inside a transaction of one's own.
//
// # Concurrency
//
// Everything here is safe for concurrent use unless it says otherwise; a
// Workflow, its batches and its nodes belong to one goroutine until they have
// been submitted.
package heddle
