// Package store is the only user of the generated SQL: it writes graphs and
// reads them back, one transaction per change, and maps rows to the values of
// dag and of the API.
//
// Open starts the goroutines that commit submissions in groups; Close waits
// for them. Every method may be called from several goroutines. The package
// assumes READ COMMITTED, which its connections ask for, and a schema that
// package schema has migrated.
package store

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/schema"
)

// Config says which database and how.
type Config struct {
	// DSN of the database, as pgx reads it.
	DSN string
	// Schema is the Postgres schema of Heddle's tables. Empty: "heddle".
	Schema string
	// MaxConns bounds the connections for submissions, commands and what they
	// read. 0: 8. A second pool of FlushConns is kept for what must never wait
	// for those.
	MaxConns int32
	// FlushConns bounds the connections of the scheduler's own reads and writes
	// and of group commit. 0: 8.
	FlushConns int32
	// ReadConns bounds the connections for what people look at. 0: 4. A
	// statement of theirs ends after ReadTimeout.
	ReadConns int32
	// ReadTimeout is 5 s when it is 0.
	ReadTimeout time.Duration
	// MaxBody is the largest args or result of a job, in bytes. 0: 1 MiB.
	MaxBody int
	// Logger takes what changes the state of the system. Nil: none.
	Logger *slog.Logger
}

// Store is an open database.
type Store struct {
	config Config
	main   *pgxpool.Pool
	flush  *pgxpool.Pool
	read   *pgxpool.Pool
	db     *db.Queries // over main
	fdb    *db.Queries // over flush
	rdb    *db.Queries // over read
	log    *slog.Logger
	held   atomic.Pointer[Leases]

	routes   routeCache
	clock    clock
	days     dayCache
	pictures pictures

	group     submitQueue
	life      context.Context // ends when Close begins
	endLife   context.CancelFunc
	committer sync.WaitGroup

	cascadeLimit int32 // replaces dag.CascadeLimit when positive
	cascadeChunk int32 // replaces the constant of that name when positive
}

// committers is the number of groups of submissions that commit side by side.
const committers = 2

// baseParams are the settings of every connection. The fence and the probes
// are wrong under a stricter isolation than read committed.
func baseParams(schemaName string) map[string]string {
	return map[string]string{
		"search_path":                         pgx.Identifier{schemaName}.Sanitize(),
		"default_transaction_isolation":       "read committed",
		"jit":                                 "off",
		"lock_timeout":                        "5s",
		"idle_in_transaction_session_timeout": "30s",
		"timezone":                            "UTC",
	}
}

// flushParams keep the hot statements on index scans: an early custom plan
// over a small table would read the whole of it.
func flushParams(schemaName string) map[string]string {
	p := baseParams(schemaName)
	p["plan_cache_mode"] = "force_generic_plan"
	p["enable_hashjoin"] = "off"
	p["enable_mergejoin"] = "off"
	p["enable_seqscan"] = "off"
	return p
}

// readParams are for statements of every shape over tables whose statistics
// may be old: planned for their values, by index, and never at the expense of
// the work.
func readParams(schemaName string, timeout time.Duration) map[string]string {
	p := baseParams(schemaName)
	p["statement_timeout"] = strconv.FormatInt(timeout.Milliseconds(), 10)
	p["default_transaction_read_only"] = "on"
	p["max_parallel_workers_per_gather"] = "0"
	p["plan_cache_mode"] = "force_custom_plan"
	p["enable_seqscan"] = "off"
	// Pages are read in the order of an index. To collect all that matches and
	// sort it looks cheaper to the planner than it is.
	p["enable_bitmapscan"] = "off"
	p["enable_sort"] = "off"
	return p
}

// Open connects and checks the version of the schema. It does not migrate.
func Open(ctx context.Context, config Config) (*Store, error) {
	if config.Schema == "" {
		config.Schema = schema.Default
	}
	if config.MaxConns == 0 {
		config.MaxConns = 8
	}
	if config.FlushConns == 0 {
		config.FlushConns = 8
	}
	if config.ReadConns == 0 {
		config.ReadConns = 4
	}
	if config.ReadTimeout == 0 {
		config.ReadTimeout = 5 * time.Second
	}
	if config.MaxBody == 0 {
		config.MaxBody = 1 << 20
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	main, err := openPool(ctx, config, config.MaxConns, baseParams(config.Schema))
	if err != nil {
		return nil, err
	}
	flush, err := openPool(ctx, config, config.FlushConns, flushParams(config.Schema))
	if err != nil {
		main.Close()
		return nil, err
	}
	read, err := openPool(ctx, config, config.ReadConns, readParams(config.Schema, config.ReadTimeout))
	if err != nil {
		main.Close()
		flush.Close()
		return nil, err
	}
	s := &Store{
		config: config, main: main, flush: flush, read: read, db: db.New(main), fdb: db.New(flush), rdb: db.New(read), log: config.Logger,
	}
	s.routes.init()
	s.group.init()
	s.life, s.endLife = context.WithCancel(context.WithoutCancel(ctx))
	if err := schema.Check(ctx, main); err != nil {
		s.Close()
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := s.readClock(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("open store: %w", err)
	}
	for range committers {
		s.committer.Go(s.commitGroups)
	}
	return s, nil
}

func openPool(ctx context.Context, config Config, conns int32, params map[string]string) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(config.DSN)
	if err != nil {
		return nil, fmt.Errorf("open store: postgres dsn: %w", err)
	}
	c.MaxConns = conns
	maps.Copy(c.ConnConfig.RuntimeParams, params)
	c.ConnConfig.OnNotice = noteWarning
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return pool, nil
}

// Close ends the groups in flight and closes the connections.
func (s *Store) Close() {
	s.endLife()
	s.group.close()
	s.committer.Wait()
	s.main.Close()
	s.flush.Close()
	s.read.Close()
}

// warningKey marks a connection on which the server has sent a WARNING.
const warningKey = "heddle.warning"

func noteWarning(conn *pgconn.PgConn, notice *pgconn.Notice) {
	if notice.SeverityUnlocalized == "WARNING" {
		conn.CustomData()[warningKey] = notice.Message
	}
}

// takeWarning answers whether a WARNING came since the last call. At a COMMIT
// it means that the commit may be lost with this server: a cancelled wait for
// a synchronous standby succeeds with one.
func takeWarning(conn *pgconn.PgConn) (string, bool) {
	data := conn.CustomData()
	message, warned := data[warningKey].(string)
	delete(data, warningKey)
	return message, warned
}
