package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/heddle-io/heddle/engine/api/wire"
	"github.com/jackc/pgx/v5/pgxpool"
)

// MinRetention is the shortest time that ended workflows are kept: a Submit
// repeated later than that could not be told from a new one (I8).
const MinRetention = 48 * time.Hour

// Config of an Engine. Start from DefaultConfig.
type Config struct {
	// Postgres is the database: a URL or key=value pairs. Required.
	Postgres string
	// Schema is the Postgres schema that holds the tables; it is created by the
	// migration. Default "heddle".
	Schema string
	// MaxConns bounds the connections to Postgres. Default 20.
	MaxConns int32
	// SkipMigrate leaves the schema as it is; Start fails if it is too old.
	SkipMigrate bool

	// DataDir holds the Raft log: which worker holds which job. It belongs to
	// one running engine. Required unless Ephemeral.
	DataDir string
	// Ephemeral keeps the Raft log in memory: after a restart workers lose the
	// jobs they hold, which then run again. For tests and trials.
	Ephemeral bool
	// Adopt takes over a database that belongs to another cluster, whose data
	// directory is lost for good; jobs that were running then run again. Never
	// set it while an engine of that cluster may still run. An ephemeral engine
	// always does.
	Adopt bool
	// NodeID names this engine in its cluster. Default "engine".
	NodeID string

	// Listen is the address of the engine's own server, as "127.0.0.1:7400";
	// port 0 picks one. API and Raft share it. Empty: none; serve Handler
	// instead. Beyond this machine it takes TLS, or AllowPlaintext.
	Listen string
	// Advertise is the host:port by which workers and other nodes reach this
	// one. Default: what Listen says, unless that is every address of the
	// machine.
	Advertise string
	// Peers are the host:port of nodes of the cluster; the own one may be among
	// them. A new node joins the cluster it finds there; one that has a log
	// already comes back to its own. Empty: a cluster of one, which others may
	// join.
	Peers []string
	// ClusterExpect is how many new nodes begin a cluster, once they have met.
	// The same for all of them; 3 or 5. 0: a new node with Peers only joins.
	ClusterExpect int
	// TLSCert and TLSKey are the files of this node's certificate, in PEM; with
	// them Listen speaks TLS only. TLSCA has the certificates that vouch for
	// other nodes, and for clients that show one; a cluster with TLS needs it.
	// Each node's certificate must name its node id: as DNS name, or as the URI
	// heddle:<id>. Files that change are read again.
	TLSCert, TLSKey, TLSCA string
	// AllowPlaintext lets Listen be beyond this machine without TLS: whoever is
	// on the way can read everything, tokens too, and pass for a node's Raft.
	AllowPlaintext bool
	// RaftProfile has the timings of elections: "lan" or, for nodes far apart,
	// "wan". The same on all nodes. Default "lan".
	RaftProfile string
	// Pprof is the loopback address of the profiling server. Empty: none.
	Pprof string

	// SessionTTL: a worker silent for longer is lost, and its jobs run
	// elsewhere. Default 15 s, at least 1 s.
	SessionTTL time.Duration
	// ReportWait bounds how long a worker's report waits for its commit before
	// it is asked to come again. Default 10 s.
	ReportWait time.Duration
	// Flushers is how many transactions write ends of attempts side by side.
	// Default 2; more help only a remote database. 1 to 16.
	Flushers int
	// Retention is how long ended workflows are kept. 0: for ever; else at
	// least MinRetention. Default 30 days.
	Retention time.Duration
	// MaxBody bounds the arguments and the result of a job, in bytes.
	// Default 1 MiB.
	MaxBody int
	// MaxNodes bounds the nodes of one graph. Default 1,100,000, for a million jobs
	// and their batches.
	MaxNodes int

	// Prefix is the path under which Handler is mounted, as "/admin/heddle", if
	// the mount does not strip it (http.StripPrefix). Default: the root.
	Prefix string
	// Tokens is a file of tokens, which are then demanded of everybody: a line
	// each, "name role sha256:hash"; NewToken makes one. It is read again when
	// it changes. Empty: callers on this machine are admins, as long as they
	// come by no proxy, and others have the role Anonymous.
	Tokens string
	// Anonymous is the role of callers that show no token. Default: none, they
	// are refused.
	Anonymous Role
	// Authorize, for an engine that is mounted in a server of your own, says
	// who sent a request, in place of Tokens. An error refuses the caller and
	// is told to it.
	Authorize func(r *http.Request) (name string, role Role, err error)
	// ClusterSecret is what the nodes of a cluster without certificates know
	// each other by; the same on all of them, at least 16 bytes.
	ClusterSecret string
	// ReadOnly refuses every change that somebody asks for. Jobs that are there
	// go on.
	ReadOnly bool
	// HidePayloads keeps arguments and results of jobs from viewers.
	HidePayloads bool
	// Demo is a workflow that the admin page offers to submit while there is
	// none: a SubmitRequest as JSON. For development. Nil: none.
	Demo []byte

	// Version is told to people and to other nodes.
	Version string
	// Fatal is called once when the engine has stopped itself for good: it
	// could not write its log, or lost its data directory. Nil: it is logged.
	Fatal func(error)
	// Logger gets one line per change of the engine's state, none per job.
	// Nil: slog.Default.
	Logger *slog.Logger
}

// DefaultConfig has every default; Postgres and DataDir are to be set.
func DefaultConfig() Config {
	limits := wire.DefaultLimits()
	return Config{
		Schema: "heddle", MaxConns: 20, NodeID: "engine",
		SessionTTL: 15 * time.Second, ReportWait: 10 * time.Second, Flushers: 2,
		Retention: 30 * 24 * time.Hour, MaxBody: limits.MaxBody, MaxNodes: limits.MaxNodes,
	}
}

// Validate reports every fault at once, each with the field's name.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if c.Postgres == "" {
		fault("Postgres: empty; give a URL as postgres://user@host/database")
	} else if _, err := pgxpool.ParseConfig(c.Postgres); err != nil {
		fault("Postgres: %w; give a URL as postgres://user@host/database", err)
	}
	if c.Schema == "" || len(c.Schema) > 63 || strings.ContainsAny(c.Schema, "\"\x00,\\' ") {
		fault("Schema: %q is not a plain name of 1 to 63 bytes", c.Schema)
	}
	if c.MaxConns < 4 || c.MaxConns > 1000 {
		fault("MaxConns: %d is not within 4 to 1000", c.MaxConns)
	}
	if c.DataDir == "" && !c.Ephemeral {
		fault("DataDir: empty, but Ephemeral is not set")
	}
	if c.NodeID == "" || len(c.NodeID) > 100 {
		fault("NodeID: %q does not have 1 to 100 bytes", c.NodeID)
	}
	c.validateCluster(fault)
	c.validateAccess(fault)
	if c.Pprof != "" {
		if host, _, err := net.SplitHostPort(c.Pprof); err != nil {
			fault("Pprof: %w", err)
		} else if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			fault("Pprof: %q is not a loopback address", c.Pprof)
		}
	}
	if c.SessionTTL < time.Second || c.SessionTTL > time.Hour {
		fault("SessionTTL: %s is not within 1s to 1h", c.SessionTTL)
	}
	if c.ReportWait < 100*time.Millisecond || c.ReportWait > time.Minute {
		fault("ReportWait: %s is not within 100ms to 1m", c.ReportWait)
	}
	if c.Flushers < 1 || c.Flushers > 16 {
		fault("Flushers: %d is not within 1 to 16", c.Flushers)
	}
	if c.Retention != 0 && c.Retention < MinRetention {
		fault("Retention: %s is below %s; 0 keeps for ever", c.Retention, MinRetention)
	}
	if c.MaxBody < 1 || c.MaxBody > 64<<20 {
		fault("MaxBody: %d is not within 1 to %d", c.MaxBody, 64<<20)
	}
	if c.MaxNodes < 1 || c.MaxNodes > 10_000_000 {
		fault("MaxNodes: %d is not within 1 to 10000000", c.MaxNodes)
	}
	return errors.Join(faults...)
}

func (c Config) limits() wire.Limits { return wire.Limits{MaxBody: c.MaxBody, MaxNodes: c.MaxNodes} }
