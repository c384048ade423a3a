package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/heddle-io/heddle/engine"
)

// program is one run of the command.
type program struct {
	env      map[string]string
	out, err io.Writer
}

// environment maps the HEDDLE_ variables.
func environment(env []string) map[string]string {
	vars := make(map[string]string)
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(k, "HEDDLE_") {
			vars[k] = v
		}
	}
	return vars
}

// flags makes an empty flag set for a command.
func (p program) flags(command, synopsis string) *flag.FlagSet {
	fs := flag.NewFlagSet("engine "+command, flag.ContinueOnError)
	fs.SetOutput(p.err)
	fs.Usage = func() {
		fmt.Fprintf(fs.Output(), "usage: engine %s\n\nflags:\n", synopsis)
		fs.PrintDefaults()
	}
	return fs
}

// parse reads the command line; what it does not set is taken from the
// environment.
func (p program) parse(fs *flag.FlagSet, args []string) error {
	if slices.ContainsFunc(args, func(a string) bool { return a == "-h" || a == "-help" || a == "--help" }) {
		fs.SetOutput(p.out) // asked for, not an error
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var faults []error
	fs.VisitAll(func(f *flag.Flag) {
		name := variable(f.Name)
		value, ok := p.env[name]
		if !ok || given[f.Name] {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			faults = append(faults, fmt.Errorf("%s=%q: %w", name, value, err))
		}
	})
	return errors.Join(faults...)
}

// variable names the environment's twin of a flag.
func variable(flagName string) string {
	return "HEDDLE_" + strings.ToUpper(strings.ReplaceAll(flagName, "-", "_"))
}

// noArguments refuses what is left behind the flags.
func (p program) noArguments(fs *flag.FlagSet) error {
	if fs.NArg() > 0 {
		fmt.Fprintf(p.err, "%s: unexpected argument %q\n", fs.Name(), fs.Arg(0))
		fs.Usage()
		return errUsage
	}
	return nil
}

// engineFlags are those of dev and serve alike.
func engineFlags(fs *flag.FlagSet, c *engine.Config, log *logFlags) {
	fs.StringVar(&c.Listen, "listen", "127.0.0.1:7400", "`address` of the API; port 0 picks a free one")
	fs.StringVar(&c.Pprof, "pprof", c.Pprof, "loopback `address` of the profiling server; empty: none")
	fs.StringVar(&c.NodeID, "node-id", c.NodeID, "`name` of this engine in its cluster")
	fs.DurationVar(&c.SessionTTL, "session-ttl", c.SessionTTL, "a worker silent for longer is lost")
	fs.DurationVar(&c.Retention, "retention", c.Retention, "how long ended workflows are kept, at least 48h; 0: for ever")
	fs.IntVar(&c.Flushers, "flushers", c.Flushers, "transactions that write ends of attempts side by side")
	fs.IntVar(&c.MaxBody, "max-body", c.MaxBody, "`bytes` a job's arguments or result may have")
	fs.IntVar(&c.MaxNodes, "max-nodes", c.MaxNodes, "nodes one graph may have")
	accessFlags(fs, c)
	fs.StringVar(&log.level, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&log.format, "log-format", "text", "text or json")
}

// clusterMember are the flags of an engine that may have others beside it.
func clusterMember(fs *flag.FlagSet, c *engine.Config) {
	fs.StringVar(&c.Advertise, "advertise", "", "`host:port` by which workers and other nodes reach this one; empty: what --listen says")
	fs.Var((*list)(&c.Peers), "peers", "`host:port,...` of nodes of the cluster, this one may be among them; may be given several times")
	fs.IntVar(&c.ClusterExpect, "cluster-expect", 0, "how many new nodes begin the cluster, once they have met; the same for all of them; 0: join one that is there")
	fs.StringVar(&c.TLSCert, "tls-cert", "", "`file` of this node's certificate, which names its node id; with it only TLS is spoken")
	fs.StringVar(&c.TLSKey, "tls-key", "", "`file` of its key")
	fs.StringVar(&c.TLSCA, "tls-ca", "", "`file` of the CA that signs the certificates of nodes")
	fs.BoolVar(&c.AllowPlaintext, "allow-plaintext", false, "listen beyond this machine without TLS: whoever is on the way can read everything, tokens too")
	fs.StringVar(&c.ClusterSecret, "cluster-secret", "", "`secret` by which nodes without certificates know each other, the same for all; better given as HEDDLE_CLUSTER_SECRET")
	fs.StringVar(&c.RaftProfile, "raft-profile", "lan", "timings of elections: lan, or wan for nodes far apart; the same for all")
}

// list is a flag of several values: separated by commas, or given several times.
type list []string

// String implements flag.Value.
func (l *list) String() string { return strings.Join(*l, ",") }

// Set implements flag.Value.
func (l *list) Set(s string) error {
	for v := range strings.SplitSeq(s, ",") {
		if v = strings.TrimSpace(v); v != "" {
			*l = append(*l, v)
		}
	}
	return nil
}

// logFlags say how the log looks.
type logFlags struct{ level, format string }

func (l logFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.level)); err != nil {
		return nil, fmt.Errorf("--log-level: %q is not one of debug, info, warn, error", l.level)
	}
	options := &slog.HandlerOptions{Level: level}
	switch l.format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--log-format: %q is neither text nor json", l.format)
}
