package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// sentinels of the packages whose errors reach the handlers, by name. The test
// below reads their source: a new one has to be entered here, and in the table.
var sentinels = map[string]map[string]error{
	"../../dag": {"ErrInvalid": dag.ErrInvalid, "ErrRefused": dag.ErrRefused},
	"../model": {"ErrNotFound": model.ErrNotFound, "ErrAlreadyExists": model.ErrAlreadyExists,
		"ErrInvalid": model.ErrInvalid, "ErrRefused": model.ErrRefused, "ErrStale": model.ErrStale, "ErrDoubt": model.ErrDoubt},
	".": {"ErrNotLeader": ErrNotLeader, "ErrUnknownSession": ErrUnknownSession, "ErrStaleLease": ErrStaleLease,
		"ErrUnavailable": ErrUnavailable, "ErrOverloaded": ErrOverloaded},
}

func TestEverySentinelHasACode(t *testing.T) {
	for dir, known := range sentinels {
		found := exportedErrors(t, dir)
		for _, name := range found {
			if known[name] == nil {
				t.Errorf("%s: %s is not in this test", dir, name)
			}
		}
		if len(found) != len(known) {
			t.Errorf("%s: found %v, know %d", dir, found, len(known))
		}
		for name, err := range known {
			if code := outward(fmt.Errorf("op: %w", err)).Code(); code == connect.CodeInternal || code == connect.CodeUnknown {
				t.Errorf("%s: %s has no rule", dir, name)
			}
		}
	}
}

// exportedErrors lists the variables Err… that a package declares.
func exportedErrors(t *testing.T, dir string) (names []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %d files, %v", dir, len(paths), err)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(name.Name, "Err") {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

// pgError looks like an error of the driver.
type pgError struct{ state string }

func (e pgError) Error() string {
	return "ERROR: relation jobs in SELECT secret (SQLSTATE " + e.state + ")"
}
func (e pgError) SQLState() string { return e.state }

func TestCodes(t *testing.T) {
	for _, c := range []struct {
		err   error
		code  connect.Code
		text  string
		retry time.Duration
	}{
		{fmt.Errorf("%w: batch 4 is cancelled", model.ErrRefused), connect.CodeFailedPrecondition, "refused: batch 4 is cancelled", 0},
		{fmt.Errorf("%w: no", dag.ErrRefused), connect.CodeFailedPrecondition, "refused: no", 0},
		{&dag.CycleError{}, connect.CodeInvalidArgument, (&dag.CycleError{}).Error(), 0},
		{fmt.Errorf("%w: w/7", model.ErrNotFound), connect.CodeNotFound, "not found: w/7", 0},
		{ErrUnknownSession, connect.CodeNotFound, "unknown session", 0},
		{ErrStaleLease, connect.CodeAborted, "stale lease", 0},
		{fmt.Errorf("%w: node n1 at 10.0.0.1", ErrNotLeader), connect.CodeUnavailable, "not the leader", 200 * time.Millisecond},
		{fmt.Errorf("%w: %w", model.ErrDoubt, pgError{"XX000"}), connect.CodeUnavailable, "commit in doubt", time.Second},
		{ErrOverloaded, connect.CodeResourceExhausted, "overloaded", time.Second},
		{context.DeadlineExceeded, connect.CodeDeadlineExceeded, "context deadline exceeded", 0},
		{context.Canceled, connect.CodeCanceled, "context canceled", 0},
		{pgError{"42P01"}, connect.CodeInternal, errInternal.Error(), 0},
		{pgError{"53100"}, connect.CodeResourceExhausted, "postgres has no disk space left", 10 * time.Second},
		{pgError{"53300"}, connect.CodeResourceExhausted, "postgres has no connection left", time.Second},
		{pgError{"53200"}, connect.CodeResourceExhausted, "postgres is out of resources", time.Second},
		{pgError{"57P01"}, connect.CodeUnavailable, "postgres cannot be reached", time.Second},
		{pgError{"08006"}, connect.CodeUnavailable, "postgres cannot be reached", time.Second},
		{pgError{"25006"}, connect.CodeUnavailable, "postgres is read-only", time.Second},
		{pgError{"40P01"}, connect.CodeUnavailable, "postgres asks to try again", 100 * time.Millisecond},
		{pgError{"57014"}, connect.CodeDeadlineExceeded, "postgres took too long", 0},
		{pgError{""}, connect.CodeInternal, errInternal.Error(), 0},
		{fmt.Errorf("submit: %w", &net.OpError{Op: "dial", Err: errors.New("refused")}), connect.CodeUnavailable, "postgres cannot be reached", time.Second},
		{errors.New("boom"), connect.CodeInternal, errInternal.Error(), 0},
		{connect.NewError(connect.CodeUnauthenticated, errors.New("no token")), connect.CodeUnauthenticated, "no token", 0},
	} {
		e := outward(c.err)
		if e.Code() != c.code || e.Message() != c.text {
			t.Errorf("%v: got %v %q, want %v %q", c.err, e.Code(), e.Message(), c.code, c.text)
		}
		if got := retryDelay(t, e); got != c.retry {
			t.Errorf("%v: got retry after %v, want %v", c.err, got, c.retry)
		}
	}
}

// retryDelay reads the detail, as a client does.
func retryDelay(t *testing.T, e *connect.Error) time.Duration {
	t.Helper()
	for _, d := range e.Details() {
		v, err := d.Value()
		if err != nil {
			t.Fatal(err)
		}
		if info, ok := v.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// Clients get the delay in every protocol.
func TestRetryDelayTravels(t *testing.T) {
	s := serve(t, &fake{err: ErrOverloaded}, nil)
	for name, opts := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()}} {
		_, err := dial(t, s.URL, opts...).workflows.Get(t.Context(), connect.NewRequest(&heddlev1.GetRequest{WorkflowId: textID}))
		var e *connect.Error
		if !errors.As(err, &e) || e.Code() != connect.CodeResourceExhausted || retryDelay(t, e) != time.Second || e.Meta().Get("Retry-After") != "1" {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// What nobody foresaw is logged whole and shown as nothing.
func TestInternalErrorsAreLoggedNotShown(t *testing.T) {
	var log bytes.Buffer
	f := &fake{err: pgError{"42P01"}}
	s := serve(t, f, func(c *Config, _ *Deps) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	_, err := dial(t, s.URL).workflows.Get(t.Context(), connect.NewRequest(&heddlev1.GetRequest{WorkflowId: textID}))
	if connect.CodeOf(err) != connect.CodeInternal || strings.Contains(err.Error(), "SELECT") {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(log.String(), "SELECT secret") || !strings.Contains(log.String(), "procedure=/heddle.v1.WorkflowService/Get") {
		t.Errorf("logged %q", log.String())
	}
}

// A client that goes away in the middle of a message is no error of the engine.
func TestStreamsCutOffAreNoErrors(t *testing.T) {
	for level, logged := range map[slog.Level]bool{slog.LevelInfo: false, slog.LevelDebug: true} {
		var log bytes.Buffer
		s := serve(t, &fake{}, func(c *Config, _ *Deps) {
			c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))
		})
		for _, body := range []string{"\x00\x00", "\x00\x00\x00\x00\x63{}"} { // of a prefix, of a message of 99 bytes
			res, err := s.Client().Post(s.URL+"/heddle.v1.WorkflowService/SubmitStream", "application/connect+json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || !strings.Contains(string(text), "protocol error") {
				t.Errorf("answered %q, %v", text, err)
			}
		}
		if got := strings.Count(log.String(), "client broke off"); logged != (got == 2) || strings.Contains(log.String(), "ERROR") || !logged && log.Len() > 0 {
			t.Errorf("at %v logged %q", level, log.String())
		}
	}
}

func TestPanicsBecomeInternalErrors(t *testing.T) {
	var log bytes.Buffer
	f := &fake{workflow: func() *heddlev1.Workflow { panic("boom") }}
	s := serve(t, f, func(c *Config, _ *Deps) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	c := dial(t, s.URL)
	_, err := c.workflows.Get(t.Context(), connect.NewRequest(&heddlev1.GetRequest{WorkflowId: textID}))
	if connect.CodeOf(err) != connect.CodeInternal {
		t.Errorf("Get: got %v", err)
	}
	watch, err := c.workflows.Watch(t.Context(), connect.NewRequest(&heddlev1.WatchRequest{WorkflowId: textID}))
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	if watch.Receive() || connect.CodeOf(watch.Err()) != connect.CodeInternal {
		t.Errorf("Watch: got %v", watch.Err())
	}
	if n := strings.Count(log.String(), "panic=boom"); n != 2 || !strings.Contains(log.String(), "fake_test.go") {
		t.Errorf("logged %q", log.String())
	}
}
