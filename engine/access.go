package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/heddle-io/heddle/engine/access"
	"github.com/heddle-io/heddle/engine/admin"
	"github.com/heddle-io/heddle/internal/port"
)

// Role says what a caller may do.
type Role = access.Role

// The roles, as [Config.Authorize] gives them. Viewer, operator and admin
// include each other in this order; an operator may also do what a worker does.
const (
	// RoleViewer sees everything but, with Config.HidePayloads, arguments and
	// results.
	RoleViewer = access.Viewer
	// RoleOperator also submits and steers jobs, workflows, queues and workers.
	RoleOperator = access.Operator
	// RoleAdmin also changes the cluster.
	RoleAdmin = access.Admin
	// RoleWorker runs jobs, and nothing else.
	RoleWorker = access.Worker
)

// NewToken makes a token: what its holder shows, and the line for the file that
// Config.Tokens names, which does not betray it.
func NewToken(name string, role Role) (secret, line string, err error) {
	return access.NewToken(name, role)
}

// minSecret is the shortest secret of a cluster, in bytes.
const minSecret = 16

func (c Config) validateAccess(fault func(string, ...any)) {
	if c.Prefix != "" && (!strings.HasPrefix(c.Prefix, "/") || strings.HasSuffix(c.Prefix, "/")) {
		fault("Prefix: %q must start with a slash and not end with one", c.Prefix)
	}
	if c.Tokens != "" && c.Authorize != nil {
		fault("Tokens: %q is set beside Authorize; give one of them", c.Tokens)
	}
	if c.Anonymous > access.Admin {
		fault("Anonymous: %q is none of viewer, operator, admin", c.Anonymous)
	}
	if c.ClusterSecret != "" && len(c.ClusterSecret) < minSecret {
		fault("ClusterSecret: does not have %d bytes or more", minSecret)
	}
	if len(c.Peers) > 0 && c.TLSCA == "" && c.ClusterSecret == "" && (c.Tokens != "" || c.Authorize != nil) {
		fault("ClusterSecret: empty, and there are no certificates: where callers are asked who they are, nodes must be able to say it")
	}
	if host, _, err := splitAddr(c.Listen); err == nil && len(c.Peers) > 0 && !loopback(host) && c.TLSCA == "" && c.ClusterSecret == "" && c.Anonymous != access.Admin {
		fault("ClusterSecret: empty, and there are no certificates: the other nodes could not be told from anybody else")
	}
	if c.Demo != nil && !json.Valid(c.Demo) {
		fault("Demo: is no JSON")
	}
}

// newGate makes what says who calls.
func (e *Engine) newGate() (*access.Gate, error) {
	c := access.Config{
		Authorize: e.cfg.Authorize, Anonymous: e.cfg.Anonymous, Secret: e.cfg.ClusterSecret,
		ReadOnly: e.cfg.ReadOnly, HidePayloads: e.cfg.HidePayloads,
	}
	if e.cfg.Tokens != "" {
		tokens, err := access.OpenTokens(e.cfg.Tokens, e.log)
		if err != nil {
			return nil, err
		}
		c.Tokens = tokens
	}
	if e.cfg.TLSCA != "" {
		c.PeerCert = peerCert
	}
	return access.NewGate(c), nil
}

// peerCert tells whether a request came over a connection on which a node of
// that id, "" any, has shown its certificate.
func peerCert(r *http.Request, node string) bool {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return false
	}
	return node == "" || port.Names(r.TLS.PeerCertificates[0], node) == nil
}

// page is the admin page.
func (e *Engine) page(welcome http.Handler) (http.Handler, error) {
	h, err := admin.New(admin.Config{Demo: e.cfg.Demo, Welcome: welcome})
	if err != nil {
		return nil, fmt.Errorf("admin page: %w", err)
	}
	return h, nil
}

// note puts into the audit what somebody has done to the cluster. It is done:
// where the database is away, the log has to do.
func (e *Engine) note(ctx context.Context, action, about string) {
	author := access.From(ctx).Name
	e.log.Info("cluster changed by hand", "action", action, "about", about, "author", author)
	if err := e.store.Audit(ctx, action, about); err != nil {
		e.log.Warn("not in the audit", "action", action, "about", about, "author", author, "error", err)
	}
}
