package faults

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a child that plays a part. It ends at the latest with the test,
// or with the test binary: its standard input is a pipe from here.
type process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	// said gets the lines of its standard output, and is closed at their end.
	said chan string
	log  output
	done chan struct{} // closed when it has ended
	// code is its exit code once done; -1 when a signal ended it.
	code int
}

// output collects what a process writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// play starts a child. Its log is shown if the test fails.
func play(t testing.TB, part, name string, config any) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, name: name, cmd: exec.Command(self), said: make(chan string, 16), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), partEnv+"="+part, configEnv+"="+string(encoded))
	p.cmd.Stderr = &p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.said <- lines.Text()
		}
		close(p.said)
		_ = p.cmd.Wait() // the code says it
		p.code = p.cmd.ProcessState.ExitCode()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, p.log.String())
		}
	})
	return p
}

// kill ends the process as a crash does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error means that it has ended
	p.in.Close()
	for range p.said { // it may be in the middle of a line
	}
	<-p.done
}

// terminate asks the process to end, as an operator does, and gives its code.
func (p *process) terminate(within time.Duration) int {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.await(within)
}

// await waits for the end of the process and gives its code.
func (p *process) await(within time.Duration) int {
	p.t.Helper()
	late := time.NewTimer(within)
	defer late.Stop()
	for said := p.said; ; {
		select {
		case _, ok := <-said:
			if !ok {
				said = nil
			}
		case <-p.done:
			return p.code
		case <-late.C:
			p.t.Fatalf("%s has not ended within %v", p.name, within)
		}
	}
}

// hear waits for a line that begins with word, and gives the rest of it.
func (p *process) hear(word string, within time.Duration) string {
	p.t.Helper()
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		select {
		case line, ok := <-p.said:
			if !ok {
				p.t.Fatalf("%s ended before it said %q:\n%s", p.name, word, p.log.String())
			}
			if rest, found := strings.CutPrefix(line, word); found {
				return strings.TrimSpace(rest)
			}
		case <-late.C:
			p.t.Fatalf("%s has not said %q within %v:\n%s", p.name, word, within, p.log.String())
		}
	}
}

// tell sends a line to the process.
func (p *process) tell(line string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, line); err != nil {
		p.t.Fatalf("tell %s %q: %v", p.name, line, err)
	}
}

// partConfig reads the configuration of the part this process plays.
func partConfig(into any) {
	if err := json.Unmarshal([]byte(os.Getenv(configEnv)), into); err != nil {
		fmt.Fprintln(os.Stderr, "configuration:", err)
		os.Exit(2)
	}
}

// listen calls told for every line from the parent. When the parent has ended,
// so does this process.
func listen(told func(line string)) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		told(lines.Text())
	}
	os.Exit(9)
}

// eventually waits until a condition holds that only shows from outside.
func eventually(t testing.TB, what string, within time.Duration, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(within)
	defer late.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}
