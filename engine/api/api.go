package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"

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
	// outermost; authentication is one of them.
	Interceptors []connect.Interceptor
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
	shared := []connect.HandlerOption{
		connect.WithRecover(recovered(config.Logger)),
		connect.WithInterceptors(config.Interceptors...),
		connect.WithInterceptors(coded{config.Logger}),
		connect.WithReadMaxBytes(config.MaxRequest),
		connect.WithCodec(strictJSON{"json"}),
		connect.WithCodec(strictJSON{"json; charset=utf-8"}),
	}
	people := append(shared[:len(shared):len(shared)], connect.WithCompressMinBytes(minCompressed))
	// Workers are near, and their answers are many: bytes are cheaper than time.
	workers := append(shared[:len(shared):len(shared)], connect.WithCompressMinBytes(math.MaxInt))

	look := overlay{scheduler: deps.Scheduler, containers: deps.Containers}
	mux := http.NewServeMux()
	mux.Handle(heddlev1connect.NewWorkflowServiceHandler(&workflows{
		limits: config.Limits, overlay: look, reader: deps.Reader, submitter: deps.Submitter,
		commander: deps.Commander, watcher: deps.Watcher,
	}, people...))
	mux.Handle(heddlev1connect.NewQueueServiceHandler(&queues{
		reader: deps.Reader, scheduler: deps.Scheduler, commander: deps.Commander,
	}, people...))
	mux.Handle(heddlev1connect.NewJobServiceHandler(&jobs{
		overlay: look, reader: deps.Reader, scheduler: deps.Scheduler,
	}, people...))
	mux.Handle(heddlev1connect.NewWorkerServiceHandler(&worker{
		limits: config.Limits, ttl: config.SessionTTL, scheduler: deps.Scheduler, completer: deps.Completer,
	}, workers...))
	reflector := grpcreflect.NewStaticReflector(heddlev1connect.WorkflowServiceName, heddlev1connect.WorkerServiceName,
		heddlev1connect.QueueServiceName, heddlev1connect.JobServiceName)
	mux.Handle(grpcreflect.NewHandlerV1(reflector, connect.WithInterceptors(config.Interceptors...)))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, connect.WithInterceptors(config.Interceptors...)))
	mux.HandleFunc("GET /healthz", healthy)
	mux.HandleFunc("GET /readyz", ready(deps))
	mux.HandleFunc("GET /{$}", welcome)
	front := newGuide(mux)
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
		if len(missing) > 0 {
			http.Error(w, strings.Join(missing, "\n"), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ready")
	}
}
