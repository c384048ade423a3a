package oracle

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"

	"connectrpc.com/connect"
	"github.com/google/uuid"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	heddle "github.com/heddle-io/heddle/sdk"
)

// Witness writes down what a worker process does and hears. It is an
// interceptor of the worker's client and a middleware of its handlers.
type Witness struct {
	journal *Journal

	mu     sync.Mutex
	leases map[Job]granted // of answers of polls whose handlers have not started
}

type granted struct{ lease, session, epoch uint64 }

var _ connect.Interceptor = (*Witness)(nil)

// NewWitness writes to the journal.
func NewWitness(j *Journal) *Witness {
	return &Witness{journal: j, leases: make(map[Job]granted)}
}

// Handler writes down the start and the end of every run.
func (w *Witness) Handler(next heddle.HandlerFunc) heddle.HandlerFunc {
	return func(ctx context.Context, args []byte) ([]byte, error) {
		info := heddle.JobInfo(ctx)
		e := Event{What: Start, Workflow: info.WorkflowID, Node: int32(info.Node), Attempt: info.Attempt, Nonce: nonce()}
		g := w.taken(e.Job())
		e.Lease, e.Session, e.Epoch = g.lease, g.session, g.epoch
		w.journal.Write(e)
		e.What, e.How = End, HowError // of a panic too
		defer func() { w.journal.Write(e) }()
		result, err := next(ctx, args)
		if err == nil {
			e.How = HowOK
		}
		return result, err
	}
}

// taken gives the lease under which a job starts.
func (w *Witness) taken(j Job) granted {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.leases[j]
	delete(w.leases, j)
	return g
}

func nonce() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// WrapUnary implements connect.Interceptor.
func (w *Witness) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		res, err := next(ctx, req)
		if err != nil {
			return res, err
		}
		switch answer := res.Any().(type) {
		case *heddlev1.PollResponse:
			session := req.Any().(*heddlev1.PollRequest).GetSession()
			w.mu.Lock()
			for _, l := range answer.GetLeases() {
				w.leases[Job{idText(l.GetWorkflowId()), l.GetNode()}] = granted{l.GetLease(), session, answer.GetEpoch()}
			}
			w.mu.Unlock()
		case *heddlev1.ReportResponse:
			sent := req.Any().(*heddlev1.ReportRequest)
			reports, results := sent.GetReports(), answer.GetResults()
			acks := make([]Event, 0, len(reports))
			for i, r := range reports {
				if i == len(results) {
					break
				}
				acks = append(acks, Event{
					What: Ack, Workflow: idText(r.GetWorkflowId()), Node: r.GetNode(), Lease: r.GetLease(), Session: sent.GetSession(),
					Epoch: answer.GetEpoch(), Ending: r.GetEnding().String(), Status: results[i].GetStatus().String(),
				})
			}
			w.journal.Write(acks...)
		}
		return res, nil
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (*Witness) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements connect.Interceptor.
func (*Witness) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

func idText(b []byte) string {
	id, err := uuid.FromBytes(b)
	if err != nil {
		return fmt.Sprintf("%x", b)
	}
	return id.String()
}
