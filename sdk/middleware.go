package heddle

import (
	"context"
	"maps"
)

// HandlerFunc runs one job: JSON in, JSON out. The job it runs is [JobInfo] of
// its context.
type HandlerFunc func(ctx context.Context, args []byte) (result []byte, err error)

// Registry takes handlers, by [Kind.Handle] and [Kind.Do]: a [Worker], or the
// engine of sdktest in unit tests.
type Registry interface {
	Register(kind string, h HandlerFunc)
}

// SubmitFunc submits a work.
type SubmitFunc func(ctx context.Context, w Work) (*Run, error)

// Propagator carries values of a context from the caller of Submit to the
// handler, as text: trace context, tenant, locale.
type Propagator interface {
	// Inject writes what ctx carries into the headers of a submission.
	Inject(ctx context.Context, headers map[string]string)
	// Extract gives the handler a context with what the headers carry.
	Extract(ctx context.Context, headers map[string]string) context.Context
}

// inject gives the headers with those of the propagators under them: what the
// submission says by itself counts. c may be nil.
func (c *Client) inject(ctx context.Context, headers map[string]string) map[string]string {
	if c == nil || len(c.cfg.Propagators) == 0 {
		return headers
	}
	all := make(map[string]string)
	for _, p := range c.cfg.Propagators {
		p.Inject(ctx, all)
	}
	maps.Copy(all, headers)
	return all
}

// extract gives a handler's context what the headers carry.
func (c *Client) extract(ctx context.Context, headers map[string]string) context.Context {
	for _, p := range c.cfg.Propagators {
		ctx = p.Extract(ctx, headers)
	}
	return ctx
}
