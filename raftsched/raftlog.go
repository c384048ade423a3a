package raftsched

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// ErrLocked: another process uses the data directory.
var ErrLocked = errors.New("in use by another process")

const (
	snapshotsKept   = 2
	cachedEntries   = 1024
	lockWait        = 500 * time.Millisecond
	snapshotEvery   = 5 * time.Second // deleting 100k entries at once stalls grants 0.2 s
	snapshotEntries = 4096
	trailingEntries = 8192
)

// disk is where a Raft node keeps its log, its votes and its snapshots.
type disk struct {
	log       raft.LogStore
	stable    raft.StableStore
	snapshots raft.SnapshotStore
	close     func() error
}

// openDisk opens the stores in cfg.Dir, or in memory. The log's file is locked
// until close.
func openDisk(cfg Config) (*disk, error) {
	if cfg.Ephemeral {
		mem := raft.NewInmemStore()
		return &disk{log: mem, stable: mem, snapshots: raft.NewInmemSnapshotStore(), close: func() error { return nil }}, nil
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(cfg.Dir, "raft.db"),
		BoltOptions: &bbolt.Options{
			Timeout:        lockWait,
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
		},
	})
	if errors.Is(err, bbolt.ErrTimeout) {
		return nil, fmt.Errorf("data directory %s: %w: stop that engine first, or choose another directory", cfg.Dir, ErrLocked)
	}
	if err != nil {
		return nil, fmt.Errorf("open raft log in %s: %w", cfg.Dir, err)
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(cfg.Dir, snapshotsKept, quietLog(cfg.Logger))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open snapshots in %s: %w", cfg.Dir, err), bolt.Close())
	}
	cache, err := raft.NewLogCache(cachedEntries, bolt)
	if err != nil {
		return nil, errors.Join(err, bolt.Close())
	}
	return &disk{log: cache, stable: bolt, snapshots: snapshots, close: bolt.Close}, nil
}

// raftConfig has the settings of the design.
func raftConfig(cfg Config) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(cfg.ID)
	c.HeartbeatTimeout = cfg.Raft.Heartbeat
	c.ElectionTimeout = cfg.Raft.Heartbeat
	c.LeaderLeaseTimeout = cfg.Raft.LeaderLease
	c.CommitTimeout = cfg.Raft.Commit
	c.SnapshotInterval = snapshotEvery
	c.SnapshotThreshold = snapshotEntries
	c.TrailingLogs = trailingEntries
	c.ShutdownOnRemove = false
	c.Logger = quietLog(cfg.Logger)
	return c
}

// openRaft starts the node's Raft. A fresh node that is to begin a cluster alone
// does so; any other one has no members until a cluster takes it in.
func openRaft(cfg Config, fsm raft.FSM, d *disk, bonds *bonds, addr raft.ServerAddress, t raft.Transport, watch diskWatch) (*raft.Raft, error) {
	c := raftConfig(cfg)
	has, err := raft.HasExistingState(d.log, d.stable, d.snapshots)
	if err != nil {
		return nil, fmt.Errorf("read raft log: %w", err)
	}
	known, err := ownsDisk(cfg, d.stable)
	if err != nil {
		return nil, err
	}
	if !has && cfg.alone() && (bonds.get().none() || bonds.get().founder() == cfg.ID) {
		if err := bonds.set(bond{cluster: firstCluster(cfg), founding: []string{cfg.ID}}); err != nil {
			return nil, err
		}
		err := raft.BootstrapCluster(c, d.log, d.stable, d.snapshots, t, raft.Configuration{
			Servers: []raft.Server{{Suffrage: raft.Voter, ID: c.LocalID, Address: addr}},
		})
		if err != nil {
			return nil, fmt.Errorf("bootstrap: %w", err)
		}
	}
	r, err := raft.NewRaft(c, fsm, watchedLog{d.log, watch}, watchedTerm{d.stable, watch}, d.snapshots, t)
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	if !known {
		err := adoptDisk(cfg, d.stable, members(r))
		if err != nil {
			return nil, errors.Join(err, r.Shutdown().Error())
		}
	}
	return r, nil
}

// members of Raft's newest configuration.
func members(r *raft.Raft) []raft.Server {
	f := r.GetConfiguration()
	if f.Error() != nil {
		return nil // it never fails
	}
	return f.Configuration().Servers
}

// ownsDisk tells whether the directory is known to be this node's.
func ownsDisk(cfg Config, stable raft.StableStore) (known bool, err error) {
	owner, err := readKey(stable, keyNode)
	switch {
	case err != nil:
		return false, fmt.Errorf("read whose data directory %s is: %w", cfg.Dir, err)
	case owner == nil:
		return false, nil
	case string(owner) != cfg.ID:
		return false, fmt.Errorf("data directory %s belongs to node %q: node %q is not a member: start it with the id %q, or with another directory",
			cfg.Dir, owner, cfg.ID, owner)
	}
	return true, nil
}

// adoptDisk notes that the directory is this node's: it is fresh, or of before
// ids were kept in it.
func adoptDisk(cfg Config, stable raft.StableStore, servers []raft.Server) error {
	var ids []raft.ServerID
	for _, s := range servers {
		ids = append(ids, s.ID)
	}
	if len(ids) > 0 && !slices.Contains(ids, raft.ServerID(cfg.ID)) {
		return fmt.Errorf("data directory %s belongs to the cluster of %q: node %q is not a member", cfg.Dir, ids, cfg.ID)
	}
	if err := stable.Set(keyNode, []byte(cfg.ID)); err != nil {
		return fmt.Errorf("note whose data directory %s is: %w", cfg.Dir, err)
	}
	return nil
}

// diskWatch is told how the disk does while Raft runs.
type diskWatch struct {
	// storing: entries are being stored, or no longer.
	storing func(bool)
	// term: the term has risen.
	term func()
	// stored: entries or votes were stored, or could not be.
	stored func(error)
	// broken: Raft cannot go on.
	broken func(error)
}

// watchedLog tells of all entries, Raft's own at the start of a term among
// them: a node whose disk is full when it starts proposes nothing itself.
type watchedLog struct {
	raft.LogStore
	watch diskWatch
}

var _ raft.MonotonicLogStore = watchedLog{}

func (l watchedLog) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

func (l watchedLog) StoreLogs(entries []*raft.Log) error {
	l.watch.storing(true)
	err := l.LogStore.StoreLogs(entries)
	l.watch.storing(false)
	l.watch.stored(err)
	return err
}

// IsMonotonic implements raft.MonotonicLogStore.
func (l watchedLog) IsMonotonic() bool {
	m, ok := l.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// watchedTerm keeps the term and the vote.
type watchedTerm struct {
	raft.StableStore
	watch diskWatch
}

func (s watchedTerm) Set(key, value []byte) error {
	err := s.StableStore.Set(key, value)
	if err != nil {
		s.watch.stored(err)
	}
	return err
}

// SetUint64 does not return when the term cannot be saved: Raft would panic,
// and a library does not end its host. The node stops, and Raft's main
// goroutine ends with its defers run. It is the only one that raises the term;
// who starts Raft saves the term that is there, which needs no write.
func (s watchedTerm) SetUint64(key []byte, value uint64) error {
	if string(key) == currentTerm {
		if saved, err := s.StableStore.GetUint64(key); err == nil && saved == value {
			return nil
		}
	}
	err := s.StableStore.SetUint64(key, value)
	if err == nil {
		if string(key) == currentTerm {
			s.watch.term()
		}
		return nil
	}
	if string(key) == currentTerm {
		s.watch.broken(fmt.Errorf("save the term: %w", err))
		runtime.Goexit()
	}
	s.watch.stored(err)
	return err
}

// currentTerm is the key under which Raft keeps its term.
const currentTerm = "CurrentTerm"

// raftLogger passes Raft's errors on, its warnings as details, and drops the
// rest: what matters of its life the Node logs itself.
type raftLogger struct {
	hclog.Logger
	out *slog.Logger
}

func quietLog(out *slog.Logger) hclog.Logger {
	return &raftLogger{Logger: hclog.NewNullLogger(), out: out}
}

func (l *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	switch level {
	case hclog.Error:
		l.Error(msg, args...)
	case hclog.Warn:
		l.Warn(msg, args...)
	}
}

// peerFaults are what Raft says, again and again, of members that do not answer.
// The Node says once when it loses one and when it is back.
var peerFaults = []string{
	"failed to heartbeat to", "failed to appendEntries to", "failed to pipeline appendEntries", "failed to start pipeline replication to",
	"failed to make requestVote RPC", "failed to install snapshot", "failed to send snapshot to", "failed to decode incoming command",
	"failed to flush response", "failed to accept connection", "peer has newer term, stopping replication",
	"failed to get log", // a snapshot is sent instead
}

func (l *raftLogger) Error(msg string, args ...any) {
	level := slog.LevelError
	if slices.Contains(peerFaults, msg) {
		level = slog.LevelDebug
	}
	l.out.Log(context.Background(), level, "raft: "+msg, args...)
}
func (l *raftLogger) Warn(msg string, args ...any) { l.out.Debug("raft: "+msg, args...) }

func (l *raftLogger) IsWarn() bool  { return true }
func (l *raftLogger) IsError() bool { return true }

func (l *raftLogger) With(args ...any) hclog.Logger {
	return &raftLogger{Logger: l.Logger, out: l.out.With(args...)}
}
func (l *raftLogger) Named(string) hclog.Logger      { return l }
func (l *raftLogger) ResetNamed(string) hclog.Logger { return l }
