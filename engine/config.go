package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
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

	// Listen is the address of the engine's own API server, as
	// "127.0.0.1:7400"; port 0 picks one. Empty: none; serve Handler instead.
	Listen string
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
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			fault("Listen: %w", err)
		}
	}
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
