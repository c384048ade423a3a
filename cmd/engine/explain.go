package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"syscall"

	"github.com/heddle-io/heddle/engine"
	"github.com/heddle-io/heddle/schema"
)

// explain prints an error, every line of it under the program's name, and what
// to do about it where that is known.
func explain(w io.Writer, err error) {
	text := flagged(err.Error())
	for line := range strings.Lines(text) {
		fmt.Fprintf(w, "engine: %s\n", strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "engine: "))
	}
	for _, h := range []struct {
		err  error
		what string
	}{
		{syscall.EADDRINUSE, "another program has this address, perhaps another engine; --listen takes another one"},
		{engine.ErrDataDirInUse, "stop the other engine, or give this one a directory of its own with --data-dir"},
		{engine.ErrForeign, "start with the data directory this database was used with; if that is lost for good, start once with --adopt"},
		{schema.ErrOlder, `run "engine migrate up", or start without --migrate=false`},
	} {
		if errors.Is(err, h.err) {
			fmt.Fprintf(w, "engine: %s\n", h.what)
		}
	}
}

// flagOf names the flag that sets a field of the configuration.
var flagOf = map[string]string{
	"Postgres": "postgres", "Schema": "schema", "MaxConns": "max-conns", "DataDir": "data-dir", "NodeID": "node-id",
	"Listen": "listen", "Pprof": "pprof", "SessionTTL": "session-ttl", "Flushers": "flushers", "Retention": "retention",
	"MaxBody": "max-body", "MaxNodes": "max-nodes",
	"Advertise": "advertise", "Peers": "peers", "ClusterExpect": "cluster-expect", "RaftProfile": "raft-profile",
	"Tokens": "tokens", "Anonymous": "allow-anonymous", "ClusterSecret": "cluster-secret",
	"TLSCert": "tls-cert", "TLSKey": "tls-key", "TLSCA": "tls-ca", "AllowPlaintext": "allow-plaintext",
}

// fieldWord finds the fields that a sentence about another one names.
var fieldWord = regexp.MustCompile(`\b(Advertise|AllowPlaintext|ClusterExpect|DataDir|Listen|NodeID|Peers|TLSCert|TLSKey|TLSCA)\b`)

func flagged(text string) string {
	return fieldWord.ReplaceAllStringFunc(text, func(field string) string { return "--" + flagOf[field] })
}

// check gives the faults of a configuration in the words of the command line.
func check(c engine.Config) error {
	err := c.Validate()
	if err == nil {
		return nil
	}
	var faults []error
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSuffix(line, "\n")
		if field, rest, ok := strings.Cut(line, ": "); ok && flagOf[field] != "" {
			line = "--" + flagOf[field] + ": " + rest
		}
		faults = append(faults, errors.New(flagged(line)))
	}
	return errors.Join(faults...)
}
