package faults

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/heddle-io/heddle/internal/chaos"
)

// process is a child that plays a part. It ends at the latest with the test,
// or with the test binary: its standard input is a pipe from here.
type process struct {
	t testing.TB
	*chaos.Process
	logFile string
	// killing is called before the process is killed; nil: nothing is.
	killing func()
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
	p := &process{t: t, logFile: filepath.Join(t.TempDir(), name+".log")}
	p.Process, err = chaos.Start(chaos.Program{
		Name: name, Path: self, Env: []string{partEnv + "=" + part, configEnv + "=" + string(encoded)}, Log: p.logFile,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, p.log())
		}
	})
	return p
}

// log is what the process has written by now.
func (p *process) log() string {
	text, err := os.ReadFile(p.logFile)
	if err != nil {
		p.t.Error(err)
	}
	return string(text)
}

// kill ends the process as a crash does.
func (p *process) kill() {
	if p.killing != nil {
		p.killing()
	}
	p.Kill()
}

// terminate asks the process to end, as an operator does, and gives its code.
func (p *process) terminate(within time.Duration) int {
	p.t.Helper()
	code, err := p.Terminate(within)
	if err != nil {
		p.t.Fatal(err)
	}
	return code
}

// await waits for the end of the process and gives its code.
func (p *process) await(within time.Duration) int {
	p.t.Helper()
	code, err := p.Await(within)
	if err != nil {
		p.t.Fatal(err)
	}
	return code
}

// hear waits for a line that begins with word, and gives the rest of it.
func (p *process) hear(word string, within time.Duration) string {
	p.t.Helper()
	rest, err := p.Hear(word, within)
	if err != nil {
		p.t.Fatalf("%v:\n%s", err, p.log())
	}
	return rest
}

// tell sends a line to the process.
func (p *process) tell(line string) {
	p.t.Helper()
	if err := p.Tell(line); err != nil {
		p.t.Fatal(err)
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
