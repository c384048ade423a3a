package api

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/engine/access"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
	"github.com/heddle-io/heddle/internal/signpost"
)

// Routing says how the calls reach the leader. Leave it empty for a node that
// answers all of them itself.
type Routing struct {
	// Node is the id of this node.
	Node string
	// Leadership knows the leader. Nil: nothing is passed on.
	Leadership Leadership
	// Transport carries calls to other nodes. It must speak HTTP/2, and must not
	// limit how long an answer takes.
	Transport http.RoundTripper
}

// manner is how a call is routed. Calls without one are answered by the node
// that got them.
type manner uint8

const (
	// toLeader: only the leader can answer. It changes something, and a second
	// time it may change it again.
	toLeader manner = iota + 1
	// ofWorker: as toLeader, but it may be repeated at will.
	ofWorker
	// preferLeader: the leader answers best; without one the node itself does.
	preferLeader
)

// manners of the procedures that are not answered where they arrive.
var manners = map[string]manner{
	heddlev1connect.WorkerServiceOpenSessionProcedure:  ofWorker,
	heddlev1connect.WorkerServicePollProcedure:         ofWorker,
	heddlev1connect.WorkerServiceReportProcedure:       ofWorker,
	heddlev1connect.WorkerServiceHeartbeatProcedure:    ofWorker,
	heddlev1connect.WorkerServiceCloseSessionProcedure: ofWorker,

	heddlev1connect.WorkflowServiceAppendProcedure:  toLeader,
	heddlev1connect.WorkflowServiceCancelProcedure:  toLeader,
	heddlev1connect.WorkflowServiceRetryProcedure:   toLeader,
	heddlev1connect.WorkflowServiceDismissProcedure: toLeader,
	heddlev1connect.WorkflowServiceGiveUpProcedure:  toLeader,
	heddlev1connect.WorkflowServiceSealProcedure:    toLeader,
	heddlev1connect.WorkflowServicePauseProcedure:   toLeader,
	heddlev1connect.WorkflowServiceResumeProcedure:  toLeader,
	heddlev1connect.QueueServicePauseProcedure:      toLeader,
	heddlev1connect.QueueServiceResumeProcedure:     toLeader,
	heddlev1connect.JobServiceRunNowProcedure:       toLeader,
	heddlev1connect.SessionServiceDrainProcedure:    toLeader,
	heddlev1connect.OperationServiceStartProcedure:  toLeader,
	heddlev1connect.OperationServiceStopProcedure:   toLeader,
	heddlev1connect.ClusterServiceRemoveProcedure:   toLeader,
	heddlev1connect.ClusterServiceTransferProcedure: toLeader,

	heddlev1connect.WorkflowServiceWatchProcedure: preferLeader,
	heddlev1connect.WorkflowServiceWaitProcedure:  preferLeader,
	heddlev1connect.JobServiceExplainProcedure:    preferLeader,
	heddlev1connect.QueueServiceListProcedure:     preferLeader,
	heddlev1connect.SessionServiceListProcedure:   preferLeader,
	heddlev1connect.LiveServiceWatchProcedure:     preferLeader,
	heddlev1connect.LiveServiceLookProcedure:      preferLeader,
}

const (
	// leaderWait is about how long a call waits for a leader: an election takes
	// a part of it. Each call's own is up to a quarter shorter or longer.
	leaderWait = 2 * time.Second
	// herd is how many waiting calls may go on together when a leader appears;
	// more are spread, herdGap for each, over herdMost at most.
	herd     = 64
	herdGap  = 20 * time.Microsecond
	herdMost = 100 * time.Millisecond
)

var (
	errNoLeader  = errors.New("no node leads the cluster at this moment")
	errElsewhere = errors.New("another node leads the cluster")
	errCut       = errors.New("the leader went away in the middle of the call")
	errDeposed   = errors.New("another node has come to lead")
)

// forwarder passes calls that the leader must answer on to it, whatever their
// protocol: it copies bytes both ways. It keeps no queue; a call that waits is a
// goroutine of its caller's server.
type forwarder struct {
	next    http.Handler
	routing Routing
	gate    *access.Gate
	proxy   *httputil.ReverseProxy
	refuse  *connect.ErrorWriter
	waiting atomic.Int64
	target  atomic.Pointer[target] // the newest
}

// target is a parsed URL.
type target struct {
	text string
	url  *url.URL
}

// newForwarder: gate, if there is one, says who calls, and vouches for it.
func newForwarder(routing Routing, next http.Handler, gate *access.Gate, log *slog.Logger) *forwarder {
	f := &forwarder{next: next, routing: routing, gate: gate, refuse: connect.NewErrorWriter()}
	f.proxy = &httputil.ReverseProxy{
		Rewrite:        f.rewrite,
		Transport:      routing.Transport,
		FlushInterval:  -1,
		ModifyResponse: f.answered,
		ErrorHandler:   f.failed,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BufferPool:     &buffers,
	}
	return f
}

// ServeHTTP implements http.Handler.
func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	how := manners[r.URL.Path]
	if how == 0 || f.gate != nil && (rights{f.gate}).check(r.Context(), r.URL.Path) != nil {
		// What is refused is refused where it arrives, and by the word for it.
		f.next.ServeHTTP(w, r)
		return
	}
	passedOn := r.Header.Get(signpost.Forwarded) != ""
	turn := waiter{f: f}
	defer turn.end()
	for {
		place, changed := f.routing.Leadership.Leader()
		switch {
		case place.Ready, place.Leads && r.URL.Path == heddlev1connect.WorkerServiceHeartbeatProcedure:
			f.here(w, r, how, place)
			return
		case how == preferLeader && (place.API == "" || passedOn):
			f.next.ServeHTTP(w, r)
			return
		case place.API != "" && passedOn:
			// The other node knows less than this one, and will learn.
			f.unavailable(w, r, place, errElsewhere, false)
			return
		case place.API != "" && f.pass(w, r, how, place):
			return
		}
		if why := turn.wait(r.Context(), changed); why != nil {
			f.unavailable(w, r, place, why, false)
			return
		}
	}
}

// here has this node answer as the leader.
func (f *forwarder) here(w http.ResponseWriter, r *http.Request, how manner, place *Place) {
	if how == ofWorker && place.Members != "" {
		w.Header().Set(signpost.Members, place.Members)
	}
	f.next.ServeHTTP(w, r)
}

// passage is one try to pass a call on.
type passage struct {
	r      *http.Request
	target *url.URL
	place  *Place
	body   *watchedBody
	unsent bool // the leader surely got nothing of it, and the caller neither
}

type passageKey struct{}

// pass passes a call on; false: the leader surely got nothing of it, and it may
// be passed on to another one.
func (f *forwarder) pass(w http.ResponseWriter, r *http.Request, how manner, place *Place) bool {
	to := f.target.Load()
	if to == nil || to.text != place.API {
		u, err := url.Parse(place.API)
		if err != nil || u.Host == "" {
			return false // as good as unknown
		}
		to = &target{text: place.API, url: u}
		f.target.Store(to)
	}
	p := &passage{r: r, target: to.url, place: place}
	ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), passageKey{}, p))
	defer cancel(nil)
	if how != toLeader && place.Term != nil {
		// The old leader may be mute. What may be repeated need not wait for it.
		defer context.AfterFunc(place.Term, func() { cancel(errDeposed) })()
	}
	out := r.WithContext(ctx)
	if r.Body != nil {
		p.body = &watchedBody{ReadCloser: r.Body}
		out.Body = p.body
	}
	f.proxy.ServeHTTP(w, out)
	return !p.unsent
}

// rewrite makes the request that goes to the leader.
func (f *forwarder) rewrite(pr *httputil.ProxyRequest) {
	p := pr.In.Context().Value(passageKey{}).(*passage)
	pr.SetURL(p.target)
	pr.Out.Header["X-Forwarded-For"] = pr.In.Header["X-Forwarded-For"]
	pr.SetXForwarded()
	if f.gate != nil {
		f.gate.Vouch(pr.In.Context(), pr.Out.Header)
	}
	pr.Out.Header.Set(signpost.Forwarded, f.routing.Node)
}

// answered sees the head of the leader's answer.
func (f *forwarder) answered(res *http.Response) error {
	p := res.Request.Context().Value(passageKey{}).(*passage)
	res.Header.Set(signpost.Leader, p.place.API)
	endProperly(res)
	return nil
}

// failed answers a call whose passage failed before the answer began.
func (f *forwarder) failed(w http.ResponseWriter, r *http.Request, err error) {
	p := r.Context().Value(passageKey{}).(*passage)
	switch cause := context.Cause(p.r.Context()); {
	case cause == nil:
	case errors.Is(cause, context.Canceled):
		return // the caller hung up
	default:
		f.unavailable(w, p.r, p.place, cause, true)
		return
	}
	if p.unsent = unsent(p, err); !p.unsent {
		f.unavailable(w, p.r, p.place, errCut, true)
	}
}

// unsent: there was no connection, or nothing of the body was sent, without
// which nobody acts on a call.
func unsent(p *passage, err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return true
	}
	return p.body != nil && p.r.ContentLength != 0 && !p.body.begun.Load()
}

// unavailable refuses a call in its own protocol.
func (f *forwarder) unavailable(w http.ResponseWriter, r *http.Request, place *Place, why error, doubt bool) {
	if place.API != "" {
		w.Header().Set(signpost.Leader, place.API)
	}
	e := connect.NewError(connect.CodeUnavailable, why)
	if doubt {
		e.Meta().Set(signpost.Doubt, "1")
	} else {
		e = later(e, time.Second)
	}
	if f.refuse.IsSupported(r) {
		_ = f.refuse.Write(w, r, e) // the caller has gone if this fails
		return
	}
	w.Header().Set("Retry-After", "1")
	http.Error(w, why.Error(), http.StatusServiceUnavailable)
}

// waiter is a call that may have to wait for a leader.
type waiter struct {
	f    *forwarder
	over *time.Timer // nil: it has not waited yet
}

// wait waits for a change; else it says why it ended.
func (t *waiter) wait(ctx context.Context, changed <-chan struct{}) error {
	if t.over == nil {
		t.over = time.NewTimer(leaderWait*3/4 + rand.N(leaderWait/2))
	}
	n := t.f.waiting.Add(1)
	defer t.f.waiting.Add(-1)
	select {
	case <-changed:
	case <-t.over.C:
		return errNoLeader
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if n = max(n, t.f.waiting.Load()); n > herd {
		return sleep(ctx, rand.N(min(time.Duration(n)*herdGap, herdMost)))
	}
	return nil
}

func (t *waiter) end() {
	if t.over != nil {
		t.over.Stop()
	}
}

// bufferPool lends the memory through which answers are copied.
type bufferPool struct{ sync.Pool }

const bufferSize = 32 << 10

var buffers = bufferPool{sync.Pool{New: func() any { return new([bufferSize]byte) }}}

// Get implements httputil.BufferPool.
func (b *bufferPool) Get() []byte { return b.Pool.Get().(*[bufferSize]byte)[:] }

// Put implements httputil.BufferPool.
func (b *bufferPool) Put(p []byte) { b.Pool.Put((*[bufferSize]byte)(p)) }
