package heddle

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
)

// ClientConfig says how to reach the engines. Only Addrs is required.
type ClientConfig struct {
	// Addrs are the base URLs of the engines, as in "http://10.0.0.1:7400". With
	// http the client speaks HTTP/2 in clear text, with https over TLS. Calls go
	// to one of them until it does not answer, then to the next. One is enough
	// for a worker that starts while that one answers: engines tell of the others
	// of their cluster.
	Addrs []string
	// Token is sent as a bearer token. Empty: none.
	Token string
	// TLS for https addresses. Nil: the system's roots.
	TLS *tls.Config
	// HTTPClient replaces the client's own; TLS is ignored then. It must speak
	// HTTP/2 for streamed submissions, and must not limit the time of a request.
	HTTPClient connect.HTTPClient
	// Interceptors see every call.
	Interceptors []connect.Interceptor
	// Propagators carry values of contexts to handlers.
	Propagators []Propagator
	// Middleware wraps every submission, the first one outermost.
	Middleware []func(next SubmitFunc) SubmitFunc
	// RetryFor is how long a call is repeated while no engine answers. Default
	// 30 s; negative: not at all. The context of the call may end it earlier.
	RetryFor time.Duration
	// Logger of the client and its workers. Default [slog.Default].
	Logger *slog.Logger
}

// Client submits work and steers it. It is safe for concurrent use; a process
// needs one. It starts no goroutine that outlives a call.
type Client struct {
	cfg       ClientConfig
	engines   *addresses
	submitter *submitter
	submit    SubmitFunc
	own       *http.Transport // nil with a transport of the user's
}

// endpoint is one engine.
type endpoint struct {
	addr      string
	until     atomic.Int64 // shunned until then, in Unix nanoseconds
	missed    atomic.Int32 // how often it was, since it was reached
	workflows heddlev1connect.WorkflowServiceClient
	workers   heddlev1connect.WorkerServiceClient
	queues    heddlev1connect.QueueServiceClient
}

// NewClient makes a client. It does not connect: an engine may come up later.
func NewClient(cfg ClientConfig) (*Client, error) {
	var errs []error
	if len(cfg.Addrs) == 0 {
		errs = append(errs, errors.New("addrs: empty"))
	}
	for _, addr := range cfg.Addrs {
		u, err := url.Parse(addr)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("addrs: %w", err))
		case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			errs = append(errs, fmt.Errorf(`addrs: %q: must be like "http://host:port"`, addr))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if cfg.RetryFor == 0 {
		cfg.RetryFor = 30 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	c := &Client{cfg: cfg}
	if cfg.HTTPClient == nil {
		c.own = newTransport(cfg.TLS)
		c.cfg.HTTPClient = &http.Client{Transport: c.own}
	}
	c.engines = newAddresses(cfg.Addrs, c.endpoint)
	c.submitter = &submitter{c: c}
	c.submit = c.submitOne
	for i := len(cfg.Middleware) - 1; i >= 0; i-- {
		c.submit = cfg.Middleware[i](c.submit)
	}
	return c, nil
}

// newTransport speaks HTTP/2 only: over TLS for https, in clear text for http.
func newTransport(conf *tls.Config) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
		Protocols:             &protocols,
		TLSClientConfig:       conf,
		TLSHandshakeTimeout:   5 * time.Second,
		IdleConnTimeout:       90 * time.Second,
		DisableCompression:    true,
		ExpectContinueTimeout: time.Second,
		// A connection that carries nothing while calls wait is probed: an engine
		// that went away without a word, or hangs, is noticed in two seconds.
		HTTP2: &http.HTTP2Config{SendPingTimeout: time.Second, PingTimeout: time.Second},
	}
}

// dialTimeout bounds how long a connection may take to be made: there are other
// engines.
const dialTimeout = 2 * time.Second

func (c *Client) endpoint(addr string) *endpoint {
	opts := []connect.ClientOption{
		// Both ends are usually near each other: time is worth more than bytes.
		connect.WithAcceptCompression("gzip", nil, nil),
	}
	if c.cfg.Token != "" {
		opts = append(opts, connect.WithInterceptors(bearer(c.cfg.Token)))
	}
	if len(c.cfg.Interceptors) > 0 {
		opts = append(opts, connect.WithInterceptors(c.cfg.Interceptors...))
	}
	return &endpoint{
		addr:      addr,
		workflows: heddlev1connect.NewWorkflowServiceClient(c.cfg.HTTPClient, addr, opts...),
		workers:   heddlev1connect.NewWorkerServiceClient(c.cfg.HTTPClient, addr, opts...),
		queues:    heddlev1connect.NewQueueServiceClient(c.cfg.HTTPClient, addr, opts...),
	}
}

// Close closes idle connections. Calls under way go on.
func (c *Client) Close() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

// Run gives the handle of a workflow by its id, without asking an engine.
func (c *Client) Run(id string) *Run { return &Run{c: c, id: id} }

// bearer adds the token to every call.
type bearer string

func (b bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		req.Header().Set("Authorization", "Bearer "+string(b))
		return next(ctx, req)
	}
}

func (b bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set("Authorization", "Bearer "+string(b))
		return conn
	}
}

func (b bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}
