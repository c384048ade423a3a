package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// The errors that the interfaces below answer with, beside those of model and
// dag. They may be wrapped.
var (
	// ErrNotLeader: this node cannot answer now; another one, or a later try,
	// can.
	ErrNotLeader = errors.New("not the leader")
	// ErrUnknownSession: the session is gone for good.
	ErrUnknownSession = errors.New("unknown session")
	// ErrStaleLease: the lease is gone for good.
	ErrStaleLease = errors.New("stale lease")
	// ErrUnavailable: something this call needs is away for a while.
	ErrUnavailable = errors.New("unavailable")
	// ErrOverloaded: more work is under way than this node takes on.
	ErrOverloaded = errors.New("overloaded")
)

// Deps is what the handlers stand on. All fields but Routing and Cluster must be
// set.
type Deps struct {
	Reader    Reader
	Submitter Submitter
	Scheduler Scheduler
	Completer Completer
	Commander Commander
	Watcher   Watcher
	Pages     Pages
	Live      Live
	Sessions  Sessions
	// Operations does one thing to many jobs.
	Operations Operations
	// Ping answers nil when Postgres can be reached.
	Ping func(ctx context.Context) error
	// Routing passes calls on that another node must answer.
	Routing Routing
	// Cluster of engine nodes. Nil: its services are not served.
	Cluster Cluster
	// Metrics is served at /metrics. Nil: nothing is.
	Metrics http.Handler
}

// Reader reads facts and shows leased jobs as running, but for NodeState and
// Explain, which know nothing of leases, and the counts of Queues. *store.Store
// is one.
type Reader interface {
	// Workflow reads a graph, or a lone job as the workflow of one node.
	Workflow(ctx context.Context, id fsm.WorkflowID) (*heddlev1.Workflow, error)
	Workflows(ctx context.Context, req *heddlev1.ListRequest) (*heddlev1.ListResponse, error)
	Graph(ctx context.Context, id fsm.WorkflowID, maxCards int) (*heddlev1.GraphResponse, error)
	// Nodes pages through the direct members of batch; -1: through all nodes.
	Nodes(ctx context.Context, id fsm.WorkflowID, batch dag.ID, req *heddlev1.NodesRequest) (*heddlev1.NodesResponse, error)
	Job(ctx context.Context, id fsm.JobID) (*heddlev1.Job, error)
	Jobs(ctx context.Context, req *heddlev1.JobServiceListRequest) (*heddlev1.JobServiceListResponse, error)
	// Results calls send with one page after the other. send may keep the
	// results, not the slice.
	Results(ctx context.Context, id fsm.WorkflowID, from dag.ID, path string, send func([]*heddlev1.Result) error) (isBatch bool, err error)
	// Resolve finds a node by its path, from the scope of from outwards; from
	// the root, paths are those people write.
	Resolve(ctx context.Context, id fsm.WorkflowID, from dag.ID, path string) (node dag.ID, isBatch bool, err error)
	NodeState(ctx context.Context, id fsm.WorkflowID, node dag.ID) (state heddlev1.State, result []byte, errText string, ended bool, err error)
	Explain(ctx context.Context, id fsm.JobID) (*heddlev1.JobServiceExplainResponse, error)
	Queues(ctx context.Context) ([]*heddlev1.Queue, error)
}

// Submitter writes workflows. *store.Store is one; the engine's adds the hint
// to the dispatcher.
type Submitter interface {
	// Submit answers in the order given.
	Submit(ctx context.Context, subs []model.Submission) []model.Submitted
	// SubmitStream calls next until it answers io.EOF.
	SubmitStream(ctx context.Context, header model.Submission, next func() (*model.Chunk, error)) (model.Submitted, error)
}

// Queue names a queue a worker serves. Weights of zero: strictly in order.
type Queue struct {
	Name   string
	Weight int
}

// Worker is how a worker introduces itself, checked.
type Worker struct {
	Name    string
	Process string // random id of its process
	Version string
	Slots   int // jobs it takes at once
}

// PollRequest is one poll of a session, checked.
type PollRequest struct {
	Session uint64
	Poll    uint64 // numbered from 1 within the session
	Max     int
	Queues  []Queue
	Kinds   []string
	Wait    time.Duration
}

// Grant is a job handed to a poll, after its grant was committed.
type Grant struct {
	Lease fsm.Lease
	Row   dispatch.Row // Args filled in
	Route dispatch.Route
}

// HeldLease names a lease as its holder knows it.
type HeldLease struct {
	Job fsm.JobID
	ID  uint64
}

// Heartbeat is one atomic snapshot of what a session's worker holds.
type Heartbeat struct {
	Session      uint64
	PollsClosed  uint64
	Held         []HeldLease
	CommandsSeen uint64
	Wait         time.Duration
}

// Commands answer a Heartbeat.
type Commands struct {
	Epoch  uint64
	Number uint64
	Cancel []HeldLease
	Lost   []HeldLease
	Drain  bool
}

// Serving says who could take the jobs of one queue and kind.
type Serving struct {
	Queue bool // a worker polls this queue
	Kind  bool // one of them has a handler for the kind
	Free  bool // and one of those waits for a job now
}

// Scheduler is the replicated scheduler as the worker protocol and the
// overlay of running jobs need it. Its answers may be ErrNotLeader and
// ErrUnknownSession.
type Scheduler interface {
	OpenSession(ctx context.Context, w Worker) (session, epoch uint64, err error)
	// CloseSession is graceful: leases go back uncounted.
	CloseSession(ctx context.Context, session, pollsClosed uint64) error
	Poll(ctx context.Context, req PollRequest) (grants []Grant, epoch uint64, err error)
	Heartbeat(ctx context.Context, hb Heartbeat) (Commands, error)
	// Leader tells whether this node leads, and its epoch.
	Leader() (epoch uint64, leading bool)
	// Ready: a leader is known and dispatches.
	Ready() bool
	// Now is the database's clock as this node knows it, in microseconds since
	// the Unix epoch.
	Now() int64
	// Leased lists the leases of a workflow's jobs.
	Leased(id fsm.WorkflowID) []fsm.Lease
	LeaseOf(job fsm.JobID) (lease fsm.Lease, worker string, ok bool)
	// Running counts leases by queue.
	Running() map[string]int
	Serving(queue, kind string) Serving
}

// ReportResult answers one report. Message says why unless Status is done.
type ReportResult struct {
	Status  heddlev1.ReportStatus
	Message string
}

// Completer makes ends of attempts durable.
type Completer interface {
	// Report answers in the order given, when the answers are durable. The
	// reports have passed wire.Limits.Report; their graphs (then) have not been
	// converted: wire.Limits.Then does it.
	Report(ctx context.Context, session uint64, reports []*heddlev1.AttemptReport) []ReportResult
}

// LeaseRef names the lease under which a running handler acts.
type LeaseRef struct {
	Job     fsm.JobID
	ID      uint64
	Session uint64
}

// Append adds a graph to a workflow. In Chunk the new nodes are -1, -2, ... in
// their order; a Container of 0 or more stands for Batch; parents >= 0 are
// existing nodes.
type Append struct {
	ID    fsm.WorkflowID
	Batch dag.ID
	Chunk model.Chunk
	Key   string
	Lease *LeaseRef // AddNow; nil: from outside
}

// Commander steers what exists. Node 0 is the whole workflow; for a lone job
// it is that job.
type Commander interface {
	Append(ctx context.Context, req Append) (first dag.ID, n int32, created bool, err error)
	Cancel(ctx context.Context, id fsm.WorkflowID, node dag.ID, force bool) error
	Retry(ctx context.Context, id fsm.WorkflowID, node dag.ID, downstream bool) (jobs int, err error)
	Dismiss(ctx context.Context, id fsm.WorkflowID, node dag.ID, result []byte, note string) error
	GiveUp(ctx context.Context, id fsm.WorkflowID, node dag.ID) error
	Seal(ctx context.Context, id fsm.WorkflowID, node dag.ID) error
	SetPaused(ctx context.Context, id fsm.WorkflowID, paused bool) error
	SetQueuePaused(ctx context.Context, queue string, paused bool) error
	// RunNow makes a scheduled or retryable job due.
	RunNow(ctx context.Context, job fsm.JobID) error
	// Drain has the worker of a session stop when its jobs have ended.
	Drain(ctx context.Context, session uint64) error
	Delete(ctx context.Context, id fsm.WorkflowID) error
}

// Subscription tells of changes of one workflow. Both channels hold one value
// and never block the sender; a value means "at least one since the last".
type Subscription struct {
	// Touched receives after changes of its nodes' states.
	Touched <-chan struct{}
	// Ended receives after the workflow (or lone job) has ended.
	Ended <-chan struct{}
	// Stop ends the subscription.
	Stop func()
}

// Watcher tells of changes as they are committed. Between Subscribe and Stop
// none is lost.
type Watcher interface {
	Subscribe(id fsm.WorkflowID) Subscription
}
