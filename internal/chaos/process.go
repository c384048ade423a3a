package chaos

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Program says what process to start.
type Program struct {
	// Name of the process, for people.
	Name string
	Path string
	Args []string
	// Env is added to the environment.
	Env []string
	// Log is the file that its output is appended to.
	Log string
	// Disk that lets its fsync calls wait; nil: they do not.
	Disk *Disk
}

// Process is a child process. It ends with its parent at the latest, on Linux
// also when that is killed.
type Process struct {
	Name string

	cmd *exec.Cmd
	in  io.WriteCloser
	log *os.File
	// said gets what the process writes to its standard output, line by line.
	said *lines

	mu      sync.Mutex
	stopped bool
	ended   chan struct{} // closed with code
	code    int
}

// Start starts a program.
func Start(p Program) (*Process, error) {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	child := &Process{Name: p.Name, log: log, said: newLines(), ended: make(chan struct{})}
	path, args, env := p.Path, p.Args, append(os.Environ(), p.Env...)
	var handover *os.File
	if p.Disk != nil {
		if path, args, env, handover, err = p.Disk.wrap(path, args, env); err != nil {
			log.Close()
			return nil, fmt.Errorf("start %s: %w", p.Name, err)
		}
		defer handover.Close()
	}
	child.cmd = exec.Command(path, args...)
	child.cmd.Env = env
	child.cmd.Stderr = log
	child.cmd.SysProcAttr = dieWithParent()
	if handover != nil {
		child.cmd.ExtraFiles = []*os.File{handover}
	}
	out, err := child.cmd.StdoutPipe()
	if err == nil {
		child.in, err = child.cmd.StdinPipe()
	}
	if err == nil {
		err = child.cmd.Start()
	}
	if err != nil {
		log.Close()
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	go func() {
		for scan := bufio.NewScanner(out); scan.Scan(); {
			fmt.Fprintln(log, scan.Text())
			child.said.add(scan.Text())
		}
		_ = child.cmd.Wait() // the code says it
		child.code = child.cmd.ProcessState.ExitCode()
		child.in.Close()
		log.Close()
		child.said.end()
		close(child.ended)
	}()
	return child, nil
}

// Pid of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Code is its exit code once it has ended; -1: a signal ended it.
func (p *Process) Code() int { return p.code }

// Alive: it was started, and has not ended.
func (p *Process) Alive() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Kill ends the process as a crash does.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // an error means that it has ended
	<-p.ended
}

// Stop stops the process (SIGSTOP) as a long pause of its machine does, until
// Continue.
func (p *Process) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd.Process.Signal(syscall.SIGSTOP) == nil {
		p.stopped = true
	}
}

// Continue lets a stopped process go on.
func (p *Process) Continue() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		_ = p.cmd.Process.Signal(syscall.SIGCONT) // an error means that it has ended
		p.stopped = false
	}
}

// Dump ends a Go program so that it writes down where all its goroutines are.
func (p *Process) Dump() {
	p.Continue()
	_ = p.cmd.Process.Signal(syscall.SIGQUIT) // an error means that it has ended
	<-p.ended
}

// Terminate asks the process to end (SIGTERM), as an operator does, and gives
// its exit code.
func (p *Process) Terminate(within time.Duration) (int, error) {
	p.Continue()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended
	return p.Await(within)
}

// Await waits for the end of the process and gives its exit code.
func (p *Process) Await(within time.Duration) (int, error) {
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-p.ended:
		return p.code, nil
	case <-late.C:
		return 0, fmt.Errorf("%s has not ended within %v", p.Name, within)
	}
}

// Hear waits for a line of its standard output that begins with word, and gives
// the rest of it. Lines before it are passed over.
func (p *Process) Hear(word string, within time.Duration) (string, error) {
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		line, wait, ended := p.said.next()
		if rest, found := strings.CutPrefix(line, word); found && wait == nil {
			return strings.TrimSpace(rest), nil
		}
		if wait == nil {
			continue
		}
		if ended {
			return "", fmt.Errorf("%s ended with code %d before it said %q", p.Name, p.code, word)
		}
		select {
		case <-wait:
		case <-late.C:
			return "", fmt.Errorf("%s has not said %q within %v", p.Name, word, within)
		}
	}
}

// Tell sends a line to its standard input.
func (p *Process) Tell(line string) error {
	if _, err := fmt.Fprintln(p.in, line); err != nil {
		return fmt.Errorf("tell %s %q: %w", p.Name, line, err)
	}
	return nil
}

// errNoFilter: the system cannot make a disk slow.
var errNoFilter = errors.New("this system has no seccomp notifications")

// lines is a queue that never makes its writer wait.
type lines struct {
	mu    sync.Mutex
	list  []string
	over  bool
	added chan struct{} // closed by the next addition
}

func newLines() *lines { return &lines{added: make(chan struct{})} }

func (l *lines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, line)
	l.wake()
}

func (l *lines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	l.wake()
}

func (l *lines) wake() {
	close(l.added)
	l.added = make(chan struct{})
}

// next takes the next line, or gives what to wait for.
func (l *lines) next() (line string, wait <-chan struct{}, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.list) == 0 {
		return "", l.added, l.over
	}
	line = l.list[0]
	l.list = l.list[1:]
	return line, nil, false
}
