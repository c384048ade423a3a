package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/heddle-io/heddle/internal/pgtest"
)

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	http.DefaultClient.CloseIdleConnections() // of httpClient too, which shares its transport
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func none(string) string { return "" }

func TestFlags(t *testing.T) {
	env := map[string]string{"HEDDLE_QUEUES": "a, b", "HEDDLE_SLOTS": "7", "HEDDLE_ENGINE": "http://x"}
	var out, errs bytes.Buffer
	c, err := parse([]string{"--slots", "9"}, func(k string) string { return env[k] }, &out, &errs)
	if err != nil || c.slots != 9 || len(c.queues) != 2 || c.queues[1] != "b" || c.engines[0] != "http://x" {
		t.Errorf("%+v, %v", c, err)
	}
	_, err = parse([]string{"--slots", "0", "--smtp-addr", "mail", "--smtp-security", "maybe", "--smtp-from", "me", "--queues", ",", "--stop-wait", "-1s"}, none, &out, &errs)
	for _, want := range []string{"--slots: 0", `--smtp-addr: "mail"`, `--smtp-security: "maybe"`, `--smtp-from: "me"`, "--queues is empty", "--stop-wait: -1s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	env = map[string]string{"HEDDLE_SLOTS": "many"}
	_, err = parse(nil, func(k string) string { return env[k] }, &out, &errs)
	if err == nil || err.Error() != `HEDDLE_SLOTS="many": parse error` {
		t.Errorf("a bad value in the environment: %v", err)
	}
	if out.Len()+errs.Len() > 0 {
		t.Errorf("printed: %s%s", &out, &errs)
	}
}

// A wrong command line is told once, with the usage; help is no error.
func TestUsage(t *testing.T) {
	for _, c := range []struct {
		arg  string
		want error
		out  string // on stdout
		err  string // on stderr
	}{
		{arg: "--help", want: flag.ErrHelp, out: "usage: worker"},
		{arg: "--speed", want: errUsage, err: "-speed"},
		{arg: "now", want: errUsage, err: `unexpected argument "now"`},
		{arg: "--allow-exec=sh", want: errUsage, err: `"sh" is not name=/absolute/path`},
	} {
		var out, errs bytes.Buffer
		if err := run(t.Context(), []string{c.arg}, none, &out, &errs); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.arg, err)
		}
		if !strings.Contains(out.String(), c.out) || (c.out == "") != (out.Len() == 0) {
			t.Errorf("%s: on stdout: %s", c.arg, &out)
		}
		if !strings.Contains(errs.String(), c.err) || (c.err == "") != (errs.Len() == 0) {
			t.Errorf("%s: on stderr: %s", c.arg, &errs)
		}
	}
}
