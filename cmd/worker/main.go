// Command worker is a ready worker for people who write no Go: it serves jobs
// of the kinds http (call a URL), smtp (send a mail) and, if allowed, exec (run
// one of a fixed list of programs). Jobs are submitted with curl or any Connect,
// gRPC or JSON client.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	heddle "github.com/heddle-io/heddle/sdk"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return
	case errors.Is(err, errUsage):
		os.Exit(2)
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintln(os.Stderr, "worker:", strings.TrimSuffix(line, "\n"))
	}
	os.Exit(1)
}

// errUsage: the command line is wrong; what is wrong has been printed.
var errUsage = errors.New("usage")

const usage = `usage: worker [flags]

Serves jobs of the kinds http, smtp (with --smtp-addr) and exec (with
--allow-exec). Each flag can also be set in the environment: --smtp-addr is
HEDDLE_SMTP_ADDR. The arguments and results of the kinds are described in the
README beside this program.

flags:
`

// config is the command line; every flag can also be given as an environment
// variable: HEDDLE_ENGINE for --engine, HEDDLE_SMTP_ADDR for --smtp-addr.
type config struct {
	engines  []string
	token    string
	queues   []string
	name     string
	slots    int
	stopWait time.Duration
	mail     mailer
	programs programs
}

func parse(args []string, env func(string) string, stdout, stderr io.Writer) (config, error) {
	c := config{programs: programs{}}
	fs := flag.NewFlagSet("worker", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), usage)
		fs.PrintDefaults()
	}
	engines := fs.String("engine", "http://127.0.0.1:7400", "`URLs` of the engine, comma separated")
	queues := fs.String("queues", "default", "`names` of the queues to serve, comma separated: a later one gets what the earlier ones leave")
	fs.StringVar(&c.token, "token", "", "bearer token that is sent to the engine")
	fs.StringVar(&c.name, "name", "", "name of this worker for people (default: host name and process id)")
	fs.IntVar(&c.slots, "slots", 32, "jobs at once, 1 to 10000")
	fs.DurationVar(&c.stopWait, "stop-wait", 20*time.Second, "how long running jobs may go on after a signal to stop")
	fs.StringVar(&c.mail.addr, "smtp-addr", "", "mail server as `host:port`; without it jobs of kind smtp are not served")
	fs.StringVar(&c.mail.user, "smtp-user", "", "user name for the mail server")
	fs.StringVar(&c.mail.password, "smtp-password", "", "password for the mail server; better given as HEDDLE_SMTP_PASSWORD")
	fs.StringVar(&c.mail.security, "smtp-security", "starttls", "starttls, tls or none")
	fs.StringVar(&c.mail.from, "smtp-from", "", "`address` of the sender of mails that name none")
	fs.Func("allow-exec", "program that jobs of kind exec may run, as `name=/path`; repeatable, or comma separated; without it they are not served", c.programs.allow)
	if slices.ContainsFunc(args, func(a string) bool { return a == "-h" || a == "-help" || a == "--help" }) {
		fs.SetOutput(stdout) // asked for, not an error
	}
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return c, err
	} else if err != nil {
		return c, errUsage
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(stderr, "worker: unexpected argument %q\n", fs.Arg(0))
		fs.Usage()
		return c, errUsage
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var faults []error
	fs.VisitAll(func(f *flag.Flag) {
		name := "HEDDLE_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v := env(name); v != "" && !given[f.Name] {
			if err := fs.Set(f.Name, v); err != nil {
				faults = append(faults, fmt.Errorf("%s=%q: %w", name, v, err))
			}
		}
	})
	if len(faults) > 0 {
		return c, errors.Join(faults...)
	}
	c.engines, c.queues = split(*engines), split(*queues)
	if len(c.engines) == 0 {
		faults = append(faults, errors.New("--engine is empty"))
	}
	if len(c.queues) == 0 {
		faults = append(faults, errors.New("--queues is empty"))
	}
	if c.slots < 1 || c.slots > 10000 {
		faults = append(faults, fmt.Errorf("--slots: %d is not in 1..10000", c.slots))
	}
	if c.stopWait < 0 {
		faults = append(faults, fmt.Errorf("--stop-wait: %v is negative", c.stopWait))
	}
	return c, errors.Join(append(faults, c.mail.check()...)...)
}

func run(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	cfg, err := parse(args, env, stdout, stderr)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	client, err := heddle.NewClient(heddle.ClientConfig{Addrs: cfg.engines, Token: cfg.token, Logger: logger})
	if err != nil {
		return err
	}
	if cfg.stopWait == 0 {
		cfg.stopWait = -1 // no time at all; zero would be the SDK's default
	}
	w := heddle.NewWorker(client, heddle.WorkerConfig{Queues: cfg.queues, Slots: cfg.slots, Name: cfg.name, StopTimeout: cfg.stopWait})
	kinds := []string{httpKind.Name()}
	httpKind.Handle(w, strictly(callURL))
	if cfg.mail.addr != "" {
		kinds = append(kinds, smtpKind.Name())
		smtpKind.Handle(w, strictly(cfg.mail.send))
	}
	if len(cfg.programs) > 0 {
		kinds = append(kinds, execKind.Name())
		execKind.Handle(w, strictly(cfg.programs.run))
	}
	logger.Info("worker started", "engines", cfg.engines, "queues", cfg.queues, "kinds", kinds, "slots", cfg.slots)
	return w.Run(ctx)
}

func split(list string) []string {
	var all []string
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item != "" {
			all = append(all, item)
		}
	}
	return all
}

// strictly makes a handler of people's JSON: a field that does not exist fails
// the job for good, because a misspelt one that is dropped in silence sends a
// request without its body.
func strictly[A, R any](fn func(context.Context, A) (R, error)) func(context.Context, json.RawMessage) (R, error) {
	return func(ctx context.Context, raw json.RawMessage) (R, error) {
		var args A
		if len(raw) > 0 {
			d := json.NewDecoder(bytes.NewReader(raw))
			d.DisallowUnknownFields()
			if err := d.Decode(&args); err != nil {
				var none R
				return none, heddle.NoRetry(fmt.Errorf("arguments: %w", err))
			}
		}
		return fn(ctx, args)
	}
}

// duration is a time span in JSON: "1m30s", or a number of seconds.
type duration time.Duration

func (d *duration) UnmarshalJSON(raw []byte) error {
	text := strings.Trim(string(raw), `"`)
	if v, err := time.ParseDuration(text); err == nil {
		*d = duration(v)
		return nil
	}
	v, err := time.ParseDuration(text + "s")
	if err != nil {
		return fmt.Errorf("%s is neither a duration such as \"30s\" nor a number of seconds", raw)
	}
	*d = duration(v)
	return nil
}

func (d duration) MarshalJSON() ([]byte, error) {
	return []byte(`"` + time.Duration(d).String() + `"`), nil
}

// within bounds ctx, unless the span is zero.
func (d duration) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, time.Duration(d), fmt.Errorf("the timeout of %v is over", time.Duration(d)))
}
