// Command fanin gathers results: a batch of jobs counts the words of some texts,
// and a continuation of the batch adds the counts up.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/heddle-io/heddle/examples/internal/local"
	heddle "github.com/heddle-io/heddle/sdk"
)

var (
	count = heddle.NewKind[string, int]("fanin.count")
	total = heddle.NewKind[heddle.None, int]("fanin.total")
)

var texts = []string{
	"a heddle lifts the right thread",
	"at the right moment",
	"so that the shuttle can pass",
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fanin:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	l, err := local.Start(ctx, "127.0.0.1:0", 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Stop()) }()
	fmt.Fprintf(out, "admin page: %s/\n", l.URL)
	c, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{l.URL}})
	if err != nil {
		return err
	}
	defer c.Close()
	w := heddle.NewWorker(c, heddle.WorkerConfig{Slots: 8})
	count.Handle(w, func(_ context.Context, text string) (int, error) { return len(strings.Fields(text)), nil })
	total.Handle(w, func(ctx context.Context, _ heddle.None) (sum int, err error) {
		for m, err := range count.Results(ctx, "counts") {
			if err != nil {
				return 0, err
			}
			sum += m.Value
		}
		return sum, nil
	})
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	worked := make(chan error, 1)
	go func() { worked <- w.Run(ctx) }()

	wf := heddle.NewWorkflow("fanin")
	counts := wf.Batch("counts")
	for _, text := range texts {
		counts.Add(count.Job(text))
	}
	wf.Add(total.Job(heddle.None{}, heddle.JobOptions{Name: "total"})).After(counts)
	r, err := c.Submit(ctx, wf)
	if err != nil {
		return err
	}
	if _, err := r.Wait(ctx); err != nil {
		return err
	}
	sum, err := total.ResultOf(ctx, r, "total")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d texts have %d words\n", len(texts), sum)
	stop()
	return <-worked
}
