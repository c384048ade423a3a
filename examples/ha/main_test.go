package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestMain is also the worker processes that the test starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		main()
		return
	}
	os.Exit(m.Run())
}

// Each fault once: nothing is lost, run twice or charged, and the last line
// says so.
func TestHA(t *testing.T) {
	var b strings.Builder
	if err := run(t.Context(), []string{"-n", "4"}, &b); err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	var r result
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatalf("the last line: %v\n%s", err, b.String())
	}
	if r.Faults != 4 || r.Jobs == 0 || r.Lost != 0 || r.RunTwice != 0 || r.AttemptsCharged != 0 || r.GapMax < r.GapMedian || r.GapMax <= 0 {
		t.Errorf("%+v\n%s", r, b.String())
	}
	for _, word := range []string{"kill -9 the leader", "stop node", "cut node", "restart every node"} {
		if !strings.Contains(b.String(), word) {
			t.Errorf("nothing about %q in\n%s", word, b.String())
		}
	}
}

func TestBadArguments(t *testing.T) {
	for want, args := range map[string][]string{
		`there is no "flood"`:     {"-faults", "kill,flood"},
		"-minutes -1":             {"-minutes", "-1"},
		"-n -2":                   {"-n", "-2"},
		`unexpected argument "x"`: {"x"},
	} {
		err := run(context.Background(), args, &strings.Builder{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}
