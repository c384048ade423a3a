package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	heddle "github.com/heddle-io/heddle/sdk"
)

func allowed(t *testing.T) programs {
	t.Helper()
	p := programs{}
	if err := p.allow("sh=/bin/sh,cat=/bin/cat"); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRunProgram(t *testing.T) {
	t.Setenv("HEDDLE_SECRET", "s")
	p := allowed(t)
	out, err := p.run(t.Context(), command{Program: "sh", Args: []string{"-c", "cat; echo $A$HEDDLE_SECRET >&2"}, Stdin: "in", Env: map[string]string{"A": "a"}})
	if err != nil || out.Stdout != "in" || out.Stderr != "a\n" {
		t.Fatalf("%+v, %v", out, err)
	}
	out, err = p.run(t.Context(), command{Program: "sh", Args: []string{"-c", "echo no >&2; exit 3"}})
	if err == nil || heddle.IsNoRetry(err) || !strings.Contains(err.Error(), "exit status 3: no") || out.Stderr != "no\n" {
		t.Errorf("exit 3: %+v, %v", out, err)
	}
	out, err = p.run(t.Context(), command{Program: "sh", Args: []string{"-c", "head -c 300000 /dev/zero"}})
	if err != nil || !out.Truncated || len(out.Stdout) != bodyLimit {
		t.Errorf("much output: %d bytes, truncated %v, %v", len(out.Stdout), out.Truncated, err)
	}
}

func TestRunEndsTheWholeGroup(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	ready := t.TempDir() + "/ready"
	done := make(chan error, 1)
	go func() {
		_, err := allowed(t).run(ctx, command{Program: "sh", Args: []string{"-c", "sleep 60 & echo > " + ready + "; wait"}})
		done <- err
	}()
	appears(t, ready)
	cancel(cause)
	if err := <-done; !errors.Is(err, cause) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestOnlyListedProgramsRun(t *testing.T) {
	for _, name := range []string{"/bin/sh", "bash", ""} {
		_, err := allowed(t).run(t.Context(), command{Program: name})
		if err == nil || !heddle.IsNoRetry(err) || !strings.Contains(err.Error(), "only cat, sh") {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, text := range []string{"sh", "sh=bin/sh", "=/bin/sh", "x=/no/such", "x=/etc/passwd", "x=/bin"} {
		if err := (programs{}).allow(text); err == nil {
			t.Errorf("--allow-exec %s was accepted", text)
		}
	}
}
