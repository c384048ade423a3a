package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/heddle-io/heddle/examples/internal/local"
	heddle "github.com/heddle-io/heddle/sdk"
)

// crew is the workers: one in this process, or two processes of their own, of
// which one may be killed.
type crew struct {
	end  context.CancelFunc // of the worker in this process
	done chan error

	processes []*process
}

// process is a worker process. It ends in order when its input is closed.
type process struct {
	cmd   *exec.Cmd
	input io.Closer
	dead  bool
}

func startCrew(ctx context.Context, o options, l *local.Local, box *inbox, book *ledger) (*crew, error) {
	if !o.killWorker {
		ctx, end := context.WithCancel(ctx)
		c := &crew{end: end, done: make(chan error, 1)}
		office := &office{post: newPostOffice(box.addr, slots), ledger: book}
		go func() { c.done <- work(ctx, l.URL, office) }()
		return c, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &crew{}
	for range 2 {
		cmd := exec.Command(self, "worker", l.URL, box.addr)
		cmd.Env = append(os.Environ(), "CAMPAIGN_DSN="+l.DSN)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		input, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			return nil, errors.Join(err, c.stop())
		}
		c.processes = append(c.processes, &process{cmd: cmd, input: input})
	}
	return c, nil
}

// canLose reports whether a worker is left that may be killed.
func (c *crew) canLose() bool { return len(c.processes) > 1 && !c.processes[0].dead }

// lose kills the first process, as kill -9 does.
func (c *crew) lose() error {
	p := c.processes[0]
	p.dead = true
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = p.cmd.Wait() // "signal: killed"
	return nil
}

func (c *crew) stop() error {
	if c.end != nil {
		c.end()
		return <-c.done
	}
	var errs []error
	for _, p := range c.processes {
		if p.dead {
			continue
		}
		p.input.Close()
		if err := p.cmd.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("worker process: %w", err))
		}
	}
	return errors.Join(errs...)
}

// workerMain is the worker process: its arguments are the addresses of the
// engine and of the mail server.
func workerMain(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: campaign worker ENGINE MAILSERVER")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		io.Copy(io.Discard, os.Stdin) // until the parent closes it, or dies
		cancel()
	}()
	book, err := openLedger(ctx, os.Getenv("CAMPAIGN_DSN"))
	if err != nil {
		return err
	}
	defer book.pool.Close()
	return work(ctx, args[0], &office{post: newPostOffice(args[1], slots), ledger: book})
}

// work serves the campaign's jobs until ctx ends.
func work(ctx context.Context, engine string, o *office) error {
	defer o.post.close()
	c, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{engine}, Logger: quiet})
	if err != nil {
		return err
	}
	defer c.Close()
	w := heddle.NewWorker(c, heddle.WorkerConfig{Queues: []string{"default", "bulk"}, Slots: slots})
	o.register(w)
	return w.Run(ctx)
}
