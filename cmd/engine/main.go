// Command engine runs Heddle's engine.
//
//	engine dev        engine and embedded PostgreSQL, for one machine
//	engine serve      engine on a given PostgreSQL
//	engine cluster    shows and changes the cluster of engines
//	engine token      makes a token for people, programs or workers
//	engine migrate    brings the tables up to date, or takes a step back
//	engine version
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/heddle-io/heddle/engine"
)

// version is set by the linker for releases.
var version = ""

const usage = `usage: engine <command> [flags]

commands:
  dev       run an engine with a PostgreSQL of its own, kept in a directory
  serve     run an engine on a given PostgreSQL
  cluster   status of the engines of a cluster; remove, transfer, adopt
  token     make a token for people, programs or workers
  migrate   up, down or status of the tables
  version   print the version

"engine <command> --help" lists the flags. Each flag can also be set in the
environment: --data-dir is HEDDLE_DATA_DIR. The command line wins.
`

// collectAt is the growth of the heap, in percent, at which the collector runs.
// What an engine holds is small, what it passes through is not: with Go's 100
// the collector takes an eighth of its CPU under load.
const collectAt = 300

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	if err := engine.CollectRaftMetrics(); err != nil {
		explain(os.Stderr, err)
		os.Exit(1)
	}
	// The first signal asks for a clean end; the second one ends at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// errUsage: the command line is wrong; what is wrong has been printed.
var errUsage = errors.New("usage")

// run is the whole program; it returns the exit code.
func run(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	p := program{env: environment(env), out: stdout, err: stderr}
	var err error
	switch args[0] {
	case "dev":
		err = p.dev(ctx, args[1:])
	case "serve":
		err = p.serve(ctx, args[1:])
	case "cluster":
		err = p.cluster(ctx, args[1:])
	case "token":
		err = p.token(args[1:])
	case "migrate":
		err = p.migrate(ctx, args[1:])
	case "version", "--version", "-version":
		fmt.Fprintf(stdout, "heddle engine %s (%s %s/%s)\n", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	case "help", "-h", "--help", "-help":
		fmt.Fprint(stdout, usage)
	default:
		fmt.Fprintf(stderr, "engine: unknown command %q\n\n%s", args[0], usage)
		return 2
	}
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	explain(stderr, err)
	return 1
}

// buildVersion is the release's, or what the build knows of its source.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = "-" + s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-modified"
		}
	}
	return "devel" + revision + dirty
}
