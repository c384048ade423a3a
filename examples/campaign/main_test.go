package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestMain is also the worker process of the campaign that the tests run.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		if err := workerMain(context.Background(), os.Args[2:]); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

var lastLine = regexp.MustCompile(`(?m)^campaign finished: sent=(\d+) refused=(\d+) retried=(\d+) duplicates=(\d+) elapsed=[\d.]+s$`)

// finish runs a campaign, which must agree with its inbox, and gives the numbers
// of its last line.
func finish(t *testing.T, args ...string) (line []string, out string) {
	t.Helper()
	var b strings.Builder
	if err := run(t.Context(), args, &b); err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	found := lastLine.FindStringSubmatch(b.String())
	if found == nil {
		t.Fatalf("no last line in:\n%s", b.String())
	}
	return found[1:], b.String()
}

func TestCampaign(t *testing.T) {
	n, out := finish(t)
	if n[0] == "0" || n[1] == "0" || n[2] == "0" || n[3] != "0" {
		t.Errorf("sent, refused, retried, duplicates: %v\n%s", n, out)
	}
	if !strings.Contains(out, "engine: http://127.0.0.1:") {
		t.Errorf("the engine's address is not shown:\n%s", out)
	}
}

func TestFailureBranch(t *testing.T) {
	file := filepath.Join(t.TempDir(), "r.csv")
	if err := os.WriteFile(file, []byte("email,name\r\n\r\na@example.org,\"A, a\"\r\nb@example.org,Bé\r\na@example.org,again\r\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	n, out := finish(t, "-recipients", file, "-refuse", "1", "-busy", "0")
	if n[0] != "0" || n[1] != "2" || !strings.Contains(out, "the report lists 2 refused addresses") {
		t.Errorf("%v\n%s", n, out)
	}
}

func TestKilledWorker(t *testing.T) {
	n, out := finish(t, "-kill-worker")
	if !strings.Contains(out, "killed one of the workers") || n[0] == "0" {
		t.Errorf("%v\n%s", n, out)
	}
}

func TestBadArguments(t *testing.T) {
	for want, args := range map[string][]string{
		"-tolerance: 101":       {"-tolerance", "101"},
		"-refuse 0.7":           {"-refuse", "0.7", "-busy", "0.7"},
		"/no/such/file":         {"-recipients", "/no/such/file"},
		`unexpected argument "`: {"x"},
	} {
		err := run(t.Context(), args, &strings.Builder{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}
