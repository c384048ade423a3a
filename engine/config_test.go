package engine

import (
	"strings"
	"testing"
	"time"
)

func TestConfigNamesEveryFault(t *testing.T) {
	c := DefaultConfig()
	c.Schema, c.MaxConns, c.NodeID, c.Listen, c.Pprof = "", 1, "", "nowhere", "0.0.0.0:6060"
	c.SessionTTL, c.ReportWait, c.Flushers, c.Retention, c.MaxBody, c.MaxNodes = 0, 0, 0, time.Hour, 0, 0
	err := c.Validate()
	if err == nil {
		t.Fatal("a configuration full of faults is accepted")
	}
	for _, field := range []string{"Postgres", "Schema", "MaxConns", "DataDir", "NodeID", "Listen", "Pprof", "SessionTTL", "ReportWait", "Flushers", "Retention", "MaxBody", "MaxNodes"} {
		if !strings.Contains(err.Error(), field+":") {
			t.Errorf("%s is not named in: %v", field, err)
		}
	}
	if _, err := New(c); err == nil {
		t.Error("New accepts it")
	}
}

func TestDefaultConfigIsSound(t *testing.T) {
	c := DefaultConfig()
	c.Postgres, c.Ephemeral, c.Pprof = "postgres://user@127.0.0.1/db", true, "127.0.0.1:0"
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}
