package heddle

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"syscall"
	"testing"

	"connectrpc.com/connect"
)

// breaking is a connection that is reset under the first calls, as by an
// engine that was killed, and works then.
type breaking struct {
	resets atomic.Int32
	next   connect.HTTPClient
}

func (b *breaking) Do(req *http.Request) (*http.Response, error) {
	if b.resets.Add(-1) >= 0 {
		return nil, &url.Error{Op: "Post", URL: req.URL.String(), Err: &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}}
	}
	return b.next.Do(req)
}

// Connect calls a reset connection cancelled. Nobody has cancelled: the call is
// repeated, and where it may not be, the engine is unavailable.
func TestResetConnection(t *testing.T) {
	p := newPeer()
	c, _, stop := serve(t, ClientConfig{}, p)
	defer stop()
	broken := &breaking{next: c.cfg.HTTPClient}
	cfg := c.cfg
	cfg.HTTPClient = broken
	patient, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	broken.resets.Store(2)
	if _, err := patient.Submit(t.Context(), greet.Job("x")); err != nil {
		t.Errorf("submit over a connection that was reset: %v", err)
	}
	cfg.RetryFor = -1
	hasty, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	broken.resets.Store(1)
	if _, err := hasty.Submit(t.Context(), greet.Job("x")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("submit without repeats over a connection that was reset: %v", err)
	}
	reset := connect.NewError(connect.CodeCanceled, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET})
	if again(reset, onceOnly) {
		t.Error("a call that may have happened is repeated, though it must happen once only")
	}
}
