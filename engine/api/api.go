package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"

	"github.com/heddle-io/heddle/engine/access"
	"github.com/heddle-io/heddle/engine/api/wire"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
)

// Config of the API. Start from DefaultConfig.
type Config struct {
	// Prefix under which everything is mounted, as in "/heddle"; no slash at
	// its end. Empty: the root.
	Prefix string
	// MaxRequest is the most bytes of one message from a client, after
	// decompression: 4 MiB by default. Each message of a stream counts alone.
	MaxRequest int
	// Limits of what messages hold.
	Limits wire.Limits
	// SessionTTL is told to workers: a session that is silent for longer is
	// closed. 15 s by default.
	SessionTTL time.Duration
	// Interceptors run around every call but health checks, the first one
	// outermost; what Gate decides comes behind them.
	Interceptors []connect.Interceptor
	// Gate finds out who calls. Nil: everybody may everything.
	Gate *access.Gate
	// Page serves what is asked for with GET and is nothing else. Nil: the root
	// tells what there is, in words.
	Page func(welcome http.Handler) (http.Handler, error)
	// Dev: the page may offer what helps at first steps.
	Dev bool
	// Logger gets internal errors and panics. Nil: they are dropped.
	Logger *slog.Logger
}

// DefaultConfig gives the configuration that suits most.
func DefaultConfig() Config {
	return Config{MaxRequest: 4 << 20, Limits: wire.DefaultLimits(), SessionTTL: 15 * time.Second}
}

// Validate names every fault of the configuration.
func (c Config) Validate() error {
	var faults []error
	if c.Prefix != "" && (!strings.HasPrefix(c.Prefix, "/") || strings.HasSuffix(c.Prefix, "/")) {
		faults = append(faults, fmt.Errorf("prefix: %q must start with a slash and not end with one", c.Prefix))
	}
	if c.MaxRequest < 1<<10 {
		faults = append(faults, fmt.Errorf("max request: %d bytes are less than 1024", c.MaxRequest))
	}
	if c.Limits.MaxBody < 1 || c.Limits.MaxBody >= c.MaxRequest {
		faults = append(faults, fmt.Errorf("max body: %d bytes are not between 1 and max request, %d", c.Limits.MaxBody, c.MaxRequest))
	}
	if c.Limits.MaxNodes < 1 {
		faults = append(faults, fmt.Errorf("max nodes: %d is less than 1", c.Limits.MaxNodes))
	}
	if c.SessionTTL < time.Second {
		faults = append(faults, fmt.Errorf("session ttl: %v is less than 1s", c.SessionTTL))
	}
	return errors.Join(faults...)
}

// minCompressed is the size from which answers to people are compressed.
const minCompressed = 1 << 10

// New gives the handler of the whole API. It speaks HTTP/1.1 and HTTP/2; gRPC
// needs the latter, which the server must allow without TLS where it has none.
func New(config Config, deps Deps) (http.Handler, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	around := slices.Clip(config.Interceptors)
	if config.Gate != nil {
		around = append(around, rights{config.Gate})
	}
	shared := []connect.HandlerOption{
		connect.WithRecover(recovered(config.Logger)),
		connect.WithInterceptors(around...),
		connect.WithInterceptors(coded{config.Logger}),
		connect.WithReadMaxBytes(config.MaxRequest),
		connect.WithCodec(strictJSON{"json"}),
		connect.WithCodec(strictJSON{"json; charset=utf-8"}),
	}
	people := append(shared[:len(shared):len(shared)], connect.WithCompressMinBytes(minCompressed))
	// Workers are near, and their answers are many: bytes are cheaper than time.
	workers := append(shared[:len(shared):len(shared)], connect.WithCompressMinBytes(math.MaxInt))

	mux := http.NewServeMux()
	mux.Handle(heddlev1connect.NewWorkflowServiceHandler(&workflows{
		limits: config.Limits, scheduler: deps.Scheduler, reader: deps.Reader, pages: deps.Pages, submitter: deps.Submitter,
		commander: deps.Commander, watcher: deps.Watcher,
	}, people...))
	mux.Handle(heddlev1connect.NewQueueServiceHandler(&queues{
		reader: deps.Reader, scheduler: deps.Scheduler, commander: deps.Commander,
	}, people...))
	mux.Handle(heddlev1connect.NewJobServiceHandler(&jobs{
		reader: deps.Reader, pages: deps.Pages, scheduler: deps.Scheduler, commander: deps.Commander,
	}, people...))
	mux.Handle(heddlev1connect.NewBatchServiceHandler(&batches{deps.Pages}, people...))
	mux.Handle(heddlev1connect.NewStatsServiceHandler(&stats{deps.Pages}, people...))
	mux.Handle(heddlev1connect.NewLiveServiceHandler(&live{deps.Live}, people...))
	mux.Handle(heddlev1connect.NewSessionServiceHandler(&sessions{sessions: deps.Sessions, commander: deps.Commander}, people...))
	mux.Handle(heddlev1connect.NewWorkerServiceHandler(&worker{
		limits: config.Limits, ttl: config.SessionTTL, scheduler: deps.Scheduler, completer: deps.Completer,
		leadership: deps.Routing.Leadership,
	}, workers...))
	mux.Handle(heddlev1connect.NewOperationServiceHandler(&operations{deps.Operations}, people...))
	mux.Handle(heddlev1connect.NewAccessServiceHandler(&loginService{gate: config.Gate, dev: config.Dev}, people...))
	reflector := grpcreflect.NewStaticReflector(heddlev1connect.WorkflowServiceName, heddlev1connect.WorkerServiceName,
		heddlev1connect.QueueServiceName, heddlev1connect.JobServiceName, heddlev1connect.ClusterServiceName,
		heddlev1connect.BatchServiceName, heddlev1connect.StatsServiceName, heddlev1connect.LiveServiceName, heddlev1connect.SessionServiceName,
		heddlev1connect.OperationServiceName, heddlev1connect.AccessServiceName)
	mux.Handle(grpcreflect.NewHandlerV1(reflector, connect.WithInterceptors(around...)))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, connect.WithInterceptors(around...)))
	if deps.Cluster != nil {
		mux.Handle(heddlev1connect.NewClusterServiceHandler(&cluster{deps.Cluster}, people...))
		path, handler := heddlev1connect.NewPeerServiceHandler(&peers{deps.Cluster}, workers...)
		mux.Handle(path, withCertificate(handler))
	}
	if deps.Metrics != nil {
		metrics := deps.Metrics
		if config.Gate != nil {
			metrics = access.Require(access.Viewer, metrics)
		}
		mux.Handle("GET /metrics", metrics)
	}
	mux.HandleFunc("GET /healthz", healthy)
	mux.HandleFunc("GET /readyz", ready(deps))
	if config.Page == nil {
		mux.HandleFunc("GET /{$}", welcome)
	} else {
		page, err := config.Page(http.HandlerFunc(welcome))
		if err != nil {
			return nil, err
		}
		mux.Handle("/", page)
	}
	var routed http.Handler = mux
	if deps.Routing.Leadership != nil {
		routed = newForwarder(deps.Routing, mux, config.Gate, config.Logger)
	}
	var front http.Handler = newGuide(routed)
	if config.Gate != nil {
		front = config.Gate.Wrap(front)
	}
	front = mounted(front)
	if config.Prefix == "" {
		return front, nil
	}
	outer := http.NewServeMux()
	outer.Handle(config.Prefix+"/", http.StripPrefix(config.Prefix, front))
	return outer, nil
}

// pingTimeout bounds how long a readiness check waits for Postgres.
const pingTimeout = 2 * time.Second

// healthy answers that the process is up.
func healthy(w http.ResponseWriter, _ *http.Request) {
	_, _ = fmt.Fprintln(w, "ok")
}

// welcome tells who opens the address by itself what there is.
func welcome(w http.ResponseWriter, _ *http.Request) {
	_, _ = fmt.Fprint(w, `Heddle's API.

POST /heddle.v1.<Service>/<Method> with content-type application/json, or gRPC;
the services are WorkflowService, WorkerService, QueueService and JobService.
GET /healthz and /readyz tell how the engine is.
`)
}

// ready answers whether calls can be served: Postgres is there and a leader
// dispatches.
func ready(deps Deps) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), pingTimeout)
		defer cancel()
		var missing []string
		if err := deps.Ping(ctx); err != nil {
			missing = append(missing, "postgres cannot be reached")
		}
		if !deps.Scheduler.Ready() {
			missing = append(missing, "no leader dispatches")
		}
		if deps.Cluster != nil {
			if trouble := deps.Cluster.Here().GetTrouble(); trouble != "" && len(missing) > 0 {
				missing = append(missing, trouble)
			}
		}
		if len(missing) > 0 {
			http.Error(w, strings.Join(missing, "\n"), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ready")
	}
}
