package engine

import (
	"testing"

	"github.com/heddle-io/heddle/internal/process"
)

// A worker in the process of an engine that died is known to be dead; those of
// this process and of others are not.
func TestDeadProcess(t *testing.T) {
	c := testConfig(t, "postgres://127.0.0.1/db")
	c.Ephemeral = true
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	dead := e.nodeConfig().DeadProcess
	for id, want := range map[string]bool{
		inProcess + "engine:0123456789abcdef/w":      true,
		inProcess + "engine:" + process.ID() + "/w1": false,
		inProcess + "other:0123456789abcdef/w":       false,
		"0123456789abcdef/w":                         false,
		"":                                           false,
	} {
		if got := dead(id); got != want {
			t.Errorf("process %q is dead: %t, want %t", id, got, want)
		}
	}
}
