package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/heddle-io/heddle/internal/pgtest"
)

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

var built struct {
	once sync.Once
	dir  string
	err  error
}

// binary builds the command once.
func binary(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "heddle-engine-"); built.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-o", filepath.Join(built.dir, "engine"), ".").CombinedOutput()
		if err != nil {
			t.Logf("%s", out)
			built.err = err
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "engine")
}

// server is a running engine process.
type server struct {
	t    *testing.T
	cmd  *exec.Cmd
	addr string
	out  sync.WaitGroup
	log  bytes.Buffer
}

// startLimit is far beyond what a start or an end takes on a busy machine.
const startLimit = time.Minute

// bound ends the process when f takes too long, so that its log can be read:
// SIGQUIT has it say what its goroutines wait for.
func (s *server) bound(f func()) {
	late := time.AfterFunc(startLimit, func() { s.cmd.Process.Signal(syscall.SIGQUIT) })
	defer late.Stop()
	f()
}

// launch starts the command and returns when it has printed its address.
func launch(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{t: t, cmd: exec.Command(binary(t), args...)}
	s.cmd.Env = append(os.Environ(), "HEDDLE_LOG_LEVEL=warn")
	s.cmd.Stderr = &s.log
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.bound(func() {
		lines := bufio.NewScanner(stdout)
		for s.addr == "" && lines.Scan() {
			if _, addr, ok := strings.Cut(lines.Text(), "://"); ok && strings.Contains(lines.Text(), "API") {
				s.addr = addr
			}
		}
	})
	if s.addr == "" {
		s.cmd.Wait()
		t.Fatalf("the engine ended without an address:\n%s", s.log.String())
	}
	s.out.Go(func() { io.Copy(io.Discard, stdout) })
	t.Cleanup(s.kill)
	return s
}

// kill ends the process as a crash does.
func (s *server) kill() {
	if s.cmd.ProcessState != nil {
		return
	}
	s.cmd.Process.Kill()
	s.out.Wait()
	s.cmd.Wait()
}

// interrupt is Ctrl-C; the process must end cleanly.
func (s *server) interrupt() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		s.t.Fatal(err)
	}
	var err error
	s.bound(func() {
		s.out.Wait()
		err = s.cmd.Wait()
	})
	if err != nil {
		s.t.Fatalf("after an interrupt: %v\n%s", err, s.log.String())
	}
}

// call runs the program in this process.
func call(env []string, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(context.Background(), args, env, &out, &err)
	return code, out.String(), err.String()
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		name string
		env  []string
		args []string
		code int
		says string // on stdout or stderr
	}{
		{name: "no command", code: 2, says: "commands:"},
		{name: "unknown command", args: []string{"run"}, code: 2, says: `unknown command "run"`},
		{name: "help", args: []string{"help"}, says: "commands:"},
		{name: "version", args: []string{"version"}, says: "heddle engine"},
		{name: "help of a command", args: []string{"serve", "-h"}, says: "-data-dir"},
		{name: "unknown flag", args: []string{"serve", "--speed", "9"}, code: 2, says: "-speed"},
		{name: "what is missing, all at once", args: []string{"serve"}, code: 1, says: "--data-dir (or HEDDLE_DATA_DIR) is required"},
		{name: "stray argument", args: []string{"serve", "now"}, code: 2, says: `unexpected argument "now"`},
		{name: "bad value in the environment", env: []string{"HEDDLE_FLUSHERS=many"}, args: []string{"serve"}, code: 1, says: `HEDDLE_FLUSHERS="many"`},
		{name: "the environment is read", env: []string{"HEDDLE_POSTGRES=postgres://127.0.0.1/db", "HEDDLE_DATA_DIR=/nowhere", "HEDDLE_FLUSHERS=99"}, args: []string{"serve"}, code: 1, says: "--flushers: 99"},
		{name: "the command line wins", env: []string{"HEDDLE_POSTGRES=postgres://127.0.0.1/db", "HEDDLE_DATA_DIR=/nowhere", "HEDDLE_FLUSHERS=99"}, args: []string{"serve", "--flushers", "98"}, code: 1, says: "--flushers: 98"},
		{name: "every fault, by its flag", args: []string{"serve", "--postgres", "x", "--data-dir", "y", "--session-ttl", "1ms", "--pprof", "0.0.0.0:1"}, code: 1, says: "engine: --pprof: \"0.0.0.0:1\" is not a loopback address\nengine: --session-ttl: 1ms"},
		{name: "a bad flag before anything starts", args: []string{"dev", "--data-dir", "/dev/null/x", "--retention", "1h"}, code: 1, says: "engine: --retention: 1h0m0s"},
		{name: "a database address that is none", args: []string{"serve", "--postgres", "x", "--data-dir", "y"}, code: 1, says: "postgres://user@host/database"},
		{name: "log level", args: []string{"serve", "--postgres", "x", "--data-dir", "y", "--log-level", "loud"}, code: 1, says: `"loud"`},
		{name: "migrate without action", args: []string{"migrate"}, code: 2, says: "up, down, status"},
		{name: "migrate without database", args: []string{"migrate", "up"}, code: 1, says: "--postgres (or HEDDLE_POSTGRES)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, err := call(c.env, c.args...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if !strings.Contains(out+err, c.says) {
				t.Errorf("%q is not said in:\n%s%s", c.says, out, err)
			}
		})
	}
}

// Help that is asked for goes to stdout; the usage after a mistake to stderr.
func TestHelpGoesToStdout(t *testing.T) {
	if code, out, err := call(nil, "dev", "--help"); code != 0 || !strings.Contains(out, "-listen") || err != "" {
		t.Errorf("exit code %d, on stdout:\n%son stderr:\n%s", code, out, err)
	}
	if code, out, err := call(nil, "dev", "--speed", "9"); code != 2 || out != "" || !strings.Contains(err, "-listen") {
		t.Errorf("exit code %d, on stdout:\n%son stderr:\n%s", code, out, err)
	}
}

// What stands in the way of a start is told with what to do about it.
func TestWhatToDo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dsn, dir := pgtest.DSN(t), t.TempDir()
	serve := func(says string, args ...string) {
		t.Helper()
		args = append([]string{"serve", "--postgres", dsn, "--data-dir", dir, "--listen", "127.0.0.1:0", "--log-level", "error"}, args...)
		code, _, err := call(nil, args...)
		if code != 1 || !strings.Contains(err, says) || strings.Contains(err, "engine: engine") {
			t.Errorf("%v: exit code %d, want %q in:\n%s", args, code, says, err)
		}
	}
	serve("--listen takes another one", "--listen", l.Addr().String())
	serve(`run "engine migrate up"`, "--migrate=false")
	s := launch(t, "serve", "--postgres", dsn, "--data-dir", dir, "--listen", "127.0.0.1:0")
	serve("a directory of its own with --data-dir")
	serve("start once with --adopt", "--data-dir", t.TempDir())
	s.interrupt()
}

func TestMigrate(t *testing.T) {
	env := []string{"HEDDLE_POSTGRES=" + pgtest.DSN(t)}
	step := func(says string, args ...string) {
		t.Helper()
		code, out, err := call(env, append([]string{"migrate"}, args...)...)
		if code != 0 || !strings.Contains(out, says) {
			t.Errorf("migrate %v: exit code %d, want %q in:\n%s%s", args, code, says, out, err)
		}
	}
	step("no", "status")
	step("applied: 1", "up")
	step("nothing to do", "up")
	step("1  ", "status")
	step("taken back: 1", "down", "--steps", "100")
	step("nothing to do", "down")
}
