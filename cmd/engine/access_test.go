package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heddle-io/heddle/engine/access"
	"github.com/heddle-io/heddle/internal/pgtest"
)

// A token is shown once; the file gets its hash only, and an engine takes it
// from there.
func TestToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	made := func(args ...string) string {
		t.Helper()
		code, out, err := call(nil, append([]string{"token"}, args...)...)
		if code != 0 {
			t.Fatalf("%v: %d\n%s", args, code, err)
		}
		_, secret, _ := strings.Cut(out, "token: ")
		secret, _, _ = strings.Cut(secret, "\n")
		return secret
	}
	viewer := made("ada", "viewer", "--file", file)
	admin := made("--file", file, "root", "admin")
	text, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(text), viewer) || strings.Count(string(text), "\n") != 2 {
		t.Fatalf("%v\n%s", err, text)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := access.OpenTokens(file, nil); err != nil {
		t.Error(err)
	}
	if secret := made("bob", "worker"); len(secret) < 40 {
		t.Errorf("token %q", secret)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"token"}, 2, "name and a role"}, {[]string{"token", "a", "b", "c"}, 2, "name and a role"},
		{[]string{"token", "eve", "boss"}, 1, `"boss"`}, {[]string{"token", "a b", "viewer"}, 1, "ASCII"},
		{[]string{"token", "ada", "admin", "--file", file}, 1, "stands in the file already"},
		{[]string{"serve", "--allow-anonymous", "boss"}, 2, `"boss"`},
		{[]string{"serve", "--postgres", "postgres://127.0.0.1/db", "--data-dir", "x", "--tokens", file + "x"}, 1, "no such file"},
		{[]string{"serve", "--postgres", "postgres://127.0.0.1/db", "--data-dir", "x", "--cluster-secret", "short"}, 1, "--cluster-secret: does not have 16"},
	} {
		if code, out, err := call(nil, c.args...); code != c.code || !strings.Contains(out+err, c.says) {
			t.Errorf("%v: %d, want %q in\n%s%s", c.args, code, c.says, out, err)
		}
	}

	s := launch(t, "serve", "--postgres", pgtest.DSN(t), "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0", "--tokens", file)
	if code, _, err := call(nil, "cluster", "status", "--engine", "http://"+s.addr); code != 1 || !strings.Contains(err, "token") {
		t.Errorf("without a token: %d\n%s", code, err)
	}
	if code, out, err := call([]string{"HEDDLE_TOKEN=" + admin}, "cluster", "status", "--engine", "http://"+s.addr); code != 0 {
		t.Errorf("with one: %d\n%s%s", code, out, err)
	}
	if code, _, err := call([]string{"HEDDLE_TOKEN=" + viewer}, "cluster", "transfer", "--engine", "http://"+s.addr); code != 1 || !strings.Contains(err, "takes the role admin, and ada has the role viewer") {
		t.Errorf("a viewer: %d\n%s", code, err)
	}
	s.interrupt()
}

// The demo is a graph of the promised size, and its text is not larger than a
// page should load.
func TestDemo(t *testing.T) {
	text, err := demo()
	if err != nil || len(text) > 100_000 {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	var request struct {
		Submissions []struct {
			Graph struct{ Nodes []map[string]any }
		}
	}
	if err := json.Unmarshal(text, &request); err != nil {
		t.Fatal(err)
	}
	batches := 0
	nodes := request.Submissions[0].Graph.Nodes
	for _, n := range nodes {
		if n["batch"] != nil {
			batches++
		}
	}
	if jobs := len(nodes) - batches; jobs < 150 || jobs > 300 || batches < 5 {
		t.Errorf("%d jobs, %d batches", jobs, batches)
	}
}
