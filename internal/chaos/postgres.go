package chaos

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/heddle-io/heddle/internal/pgembed"
)

// PostgresName is the name of the database in the rules of a network.
const PostgresName = "postgres"

// Postgres is a server behind a proxy, with or without a synchronous standby
// that can take its place. The processes of both can be killed; the machine
// does not fail, so they skip fsync.
type Postgres struct {
	dir     string
	net     *Network
	proxy   *Proxy
	made    int
	primary *pgembed.Server
	standby *pgembed.Server
	left    *pgembed.Server // the primary before, until Bury
}

// StartPostgres starts a server in a directory that must exist, with a standby
// if it is to have one.
func StartPostgres(ctx context.Context, dir string, n *Network, standby bool) (p *Postgres, err error) {
	// Run by root, the servers belong to another user, who must get in.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	p = &Postgres{dir: dir, net: n}
	if p.primary, err = pgembed.Start(ctx, p.config()); err != nil {
		return nil, err
	}
	if standby {
		if err = p.AddStandby(ctx); err != nil {
			return nil, errors.Join(err, p.Close(ctx))
		}
	}
	if p.proxy, err = n.Proxy(PostgresName, p.primary.Addr()); err != nil {
		return nil, errors.Join(err, p.Close(ctx))
	}
	return p, nil
}

func (p *Postgres) config() pgembed.Config {
	p.made++
	return pgembed.Config{
		Dir: filepath.Join(p.dir, fmt.Sprintf("server%d", p.made)), Volatile: true, Logger: slog.New(slog.DiscardHandler),
		Settings: map[string]string{
			"synchronous_commit": "on", "full_page_writes": "on", "track_commit_timestamp": "on", "wal_level": "replica",
			"wal_receiver_status_interval": "1s", "wal_sender_timeout": "5s", "wal_receiver_timeout": "5s", "wal_retrieve_retry_interval": "200ms",
			"wal_keep_size": "256MB", "shared_buffers": "128MB",
		},
	}
}

// AddStandby gives the primary a standby, and makes COMMITs wait for it.
func (p *Postgres) AddStandby(ctx context.Context) error {
	s, err := pgembed.Standby(ctx, p.config(), p.primary)
	if err != nil {
		return err
	}
	p.standby = s
	return p.primary.WaitForStandby(ctx)
}

// HasStandby says whether Failover can be called.
func (p *Postgres) HasStandby() bool { return p.standby != nil }

// DSN names the database behind the proxy.
func (p *Postgres) DSN() string {
	u, err := url.Parse(p.primary.DSN())
	if err != nil {
		panic(err) // made by url.URL
	}
	u.Host = p.proxy.Addr()
	return u.String()
}

// Direct names the database of the present primary, past the proxy.
func (p *Postgres) Direct() string { return p.primary.DSN() }

// Kill ends the primary as a crash does. Launch starts it again.
func (p *Postgres) Kill() { p.primary.Kill() }

// Launch starts the killed primary again.
func (p *Postgres) Launch(ctx context.Context) error { return p.primary.Launch(ctx) }

// KillStandby ends the standby as a crash does: COMMITs wait until LaunchStandby
// has started it again.
func (p *Postgres) KillStandby() { p.standby.Kill() }

// LaunchStandby starts the killed standby again.
func (p *Postgres) LaunchStandby(ctx context.Context) error { return p.standby.Launch(ctx) }

// Failover promotes the standby and moves the address to it. The server that
// was the primary is killed before, or with alive goes on: connections to it go
// on too, until Bury.
func (p *Postgres) Failover(ctx context.Context, alive bool) error {
	if p.standby == nil {
		return errors.New("failover: there is no standby")
	}
	if !alive {
		p.primary.Kill()
	}
	if err := p.standby.Promote(ctx); err != nil {
		return err
	}
	// It was copied from a server that may have waited for standbys itself.
	if err := p.standby.WaitForNobody(ctx); err != nil {
		return err
	}
	p.left, p.primary, p.standby = p.primary, p.standby, nil
	p.proxy.Retarget(p.primary.Addr())
	if !alive {
		return p.Bury(ctx)
	}
	return nil
}

// Bury ends the server that was the primary before, and its connections.
func (p *Postgres) Bury(ctx context.Context) error {
	if p.left == nil {
		return nil
	}
	p.left.Kill()
	p.proxy.Break()
	err := p.left.Stop(ctx)
	p.left = nil
	return err
}

// Close ends all servers.
func (p *Postgres) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	errs := []error{p.Bury(ctx)}
	for _, s := range []*pgembed.Server{p.standby, p.primary} {
		if s != nil {
			errs = append(errs, s.Stop(ctx))
		}
	}
	return errors.Join(errs...)
}
