// Command worker is a ready worker for people who write no Go: it serves jobs
// of the kinds http (call a URL), smtp (send a mail) and, if allowed, exec (run
// one of a fixed list of programs). Jobs are submitted with curl or any Connect,
// gRPC or JSON client.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	heddle "github.com/heddle-io/heddle/sdk"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Getenv)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

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

func parse(args []string, env func(string) string) (config, error) {
	c := config{programs: programs{}}
	fs := flag.NewFlagSet("worker", flag.ContinueOnError)
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), "usage: worker [flags]\n\nServes jobs of the kinds http, smtp and exec.\nEach flag can also be set in the environment: HEDDLE_SMTP_ADDR for --smtp-addr.\n\n")
		fs.PrintDefaults()
	}
	engines := fs.String("engine", "http://127.0.0.1:7400", "addresses of the engine, comma separated")
	queues := fs.String("queues", "default", "queues to serve, comma separated, the first one first")
	fs.StringVar(&c.token, "token", "", "token for the engine")
	fs.StringVar(&c.name, "name", "", "name of this worker (default: host name and process id)")
	fs.IntVar(&c.slots, "slots", 32, "jobs at once, 1 to 10000")
	fs.DurationVar(&c.stopWait, "stop-wait", 20*time.Second, "how long running jobs may go on after a signal to stop")
	fs.StringVar(&c.mail.addr, "smtp-addr", "", "mail server as host:port; without it jobs of kind smtp are not served")
	fs.StringVar(&c.mail.user, "smtp-user", "", "user name for the mail server")
	fs.StringVar(&c.mail.password, "smtp-password", "", "password for the mail server")
	fs.StringVar(&c.mail.security, "smtp-security", "starttls", "starttls, tls or none")
	fs.StringVar(&c.mail.from, "smtp-from", "", "sender of mails that name none")
	fs.Func("allow-exec", "program that jobs of kind exec may run, as name=/absolute/path; repeatable; without it they are not served", c.programs.allow)
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	if fs.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q", fs.Arg(0))
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
	switch c.mail.security {
	case "starttls", "tls", "none":
	default:
		faults = append(faults, fmt.Errorf("--smtp-security: %q is not starttls, tls or none", c.mail.security))
	}
	return c, errors.Join(faults...)
}

func run(ctx context.Context, args []string, env func(string) string) error {
	cfg, err := parse(args, env)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	client, err := heddle.NewClient(heddle.ClientConfig{Addrs: cfg.engines, Token: cfg.token, Logger: logger})
	if err != nil {
		return err
	}
	w := heddle.NewWorker(client, heddle.WorkerConfig{Queues: cfg.queues, Slots: cfg.slots, Name: cfg.name, StopTimeout: cfg.stopWait})
	kinds := []string{httpKind.Name()}
	httpKind.Handle(w, callURL)
	if cfg.mail.addr != "" {
		kinds = append(kinds, smtpKind.Name())
		smtpKind.Handle(w, cfg.mail.send)
	}
	if len(cfg.programs) > 0 {
		kinds = append(kinds, execKind.Name())
		execKind.Handle(w, cfg.programs.run)
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
	return context.WithTimeout(ctx, time.Duration(d))
}
