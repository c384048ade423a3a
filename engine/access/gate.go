package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/heddle-io/heddle/internal/signpost"
)

// Headers between the nodes of a cluster.
const (
	// SecretHeader proves that a node of the cluster sends a call, where there
	// are no certificates for it.
	SecretHeader = "Heddle-Cluster-Secret"
	// callerHeader names on whose behalf a node passes a call on: role and name.
	// Only other nodes are believed it.
	callerHeader = "Heddle-Caller"
)

// cookieName is the cookie of people who logged in. It holds their token, so
// that every node knows it and nothing is kept for it anywhere.
const cookieName = "heddle_token"

// Config of a Gate. The zero value lets in callers on this machine, as admins.
type Config struct {
	// Tokens, if set, are demanded of everybody, on this machine too: what comes
	// from here may have come through a proxy.
	Tokens *Tokens
	// Authorize, if set, decides instead of everything above: who sent a
	// request, and as what. An error is told to the caller, who is refused.
	Authorize func(*http.Request) (name string, role Role, err error)
	// Anonymous is the role of callers that show nothing. Nobody: they are
	// refused.
	Anonymous Role
	// Secret of the cluster, by which nodes know each other. "": none.
	Secret string
	// PeerCert tells whether a request came over a connection on which a node of
	// that id, "" any, proved itself by its certificate. Nil: there are no
	// certificates.
	PeerCert func(r *http.Request, node string) bool
	// ReadOnly refuses all changes, whoever asks.
	ReadOnly bool
	// HidePayloads keeps arguments and results from viewers.
	HidePayloads bool
}

// Gate finds out who sends a request.
type Gate struct {
	cfg    Config
	origin *http.CrossOriginProtection
}

// NewGate makes a gate.
func NewGate(cfg Config) *Gate {
	return &Gate{cfg: cfg, origin: http.NewCrossOriginProtection()}
}

// ReadOnly reports whether all changes are refused.
func (g *Gate) ReadOnly() bool { return g.cfg.ReadOnly }

// Masks reports whether arguments and results are kept from a caller.
func (g *Gate) Masks(c Caller) bool { return g.cfg.HidePayloads && !c.Role.Includes(Worker) }

// Wrap stands before a handler. It refuses what a page of another origin made a
// browser send, and else hands on who sent a request: who may do what is the
// handler's business.
func (g *Gate) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if err := g.origin.Check(r); err != nil {
			http.Error(w, "a page of another origin may not call this API: "+err.Error(), http.StatusForbidden)
			return
		}
		caller, err := g.identify(r)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), contextKey{}, identity{caller, err})))
	})
}

// Require stands before a handler that is no service, behind Wrap: callers
// without the role are refused.
func Require(role Role, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller := From(r.Context())
		switch err := Refusal(r.Context()); {
		case caller.Role.Includes(role):
			next.ServeHTTP(w, r)
		case err != nil:
			http.Error(w, err.Error(), http.StatusUnauthorized)
		case caller.Role == Nobody:
			http.Error(w, ErrLogin.Error(), http.StatusUnauthorized)
		default:
			http.Error(w, fmt.Sprintf("this takes the role %s, and %s has the role %s", role, caller.Name, caller.Role), http.StatusForbidden)
		}
	})
}

// ErrLogin: a caller has shown nothing, and callers must.
var ErrLogin = errors.New("this call takes a token: send it as \"Authorization: Bearer <token>\", or log in")

// errElsewhere: callers from elsewhere are refused, and there are no tokens.
var errElsewhere = errors.New("this engine takes calls from its own machine only; it needs a token file, or a role for anonymous callers, to take others")

// errToken: a token is shown that is not one.
var errToken = errors.New("the token is not known here")

// identify says who sent a request. An error is why the caller was not believed
// what it showed; that takes nothing from what anybody may.
func (g *Gate) identify(r *http.Request) (Caller, error) {
	node := r.Header.Get(signpost.Forwarded)
	proof := g.proof(r, node)
	if said := r.Header.Get(callerHeader); proof != unproven && node != "" && said != "" {
		return vouched(said), nil
	}
	if proof == bySecret && node == "" {
		return Caller{Name: "cluster", Role: Admin, Peer: true}, nil
	}
	c, err := g.own(r)
	c.Peer = proof != unproven
	return c, err
}

// own says who sent a request by what it shows itself.
func (g *Gate) own(r *http.Request) (Caller, error) {
	nobody := Caller{Name: Anonymous, Role: g.cfg.Anonymous}
	switch {
	case g.cfg.Authorize != nil:
		name, role, err := g.cfg.Authorize(r)
		if err != nil {
			return Caller{Name: Anonymous}, err
		}
		if name == "" {
			name = Anonymous
		}
		return Caller{Name: name, Role: role}, nil
	case g.cfg.Tokens != nil:
		if secret, ok := bearer(r); ok {
			if c, known := g.cfg.Tokens.find(secret); known {
				return c, nil
			}
			return Caller{Name: Anonymous}, errToken
		}
		if secret, ok := cookie(r); ok {
			if c, known := g.cfg.Tokens.find(secret); known {
				return c, nil
			}
		}
		return nobody, nil
	case local(r):
		return Caller{Name: Anonymous, Role: Admin}, nil
	case nobody.Role == Nobody:
		return nobody, errElsewhere
	}
	return nobody, nil
}

// open: nothing is configured by which nodes could prove themselves, nor by
// which anybody else could. Then a node is believed what everybody is.
func (g *Gate) open() bool {
	return g.cfg.Secret == "" && g.cfg.PeerCert == nil && g.cfg.Tokens == nil && g.cfg.Authorize == nil
}

// proof is how another node has proved to have sent a request.
type proof uint8

const (
	unproven proof = iota
	bySecret
	byCertificate
	byNothing // nobody needs to prove anything
)

// proof tells how another node has proved to have sent a request; node is the
// one it must be, "" any.
func (g *Gate) proof(r *http.Request, node string) proof {
	switch {
	case g.cfg.Secret != "" && same(r.Header.Get(SecretHeader), g.cfg.Secret):
		return bySecret
	case g.cfg.PeerCert != nil && g.cfg.PeerCert(r, node):
		return byCertificate
	case g.open() && (local(r) || g.cfg.Anonymous == Admin):
		return byNothing // where everybody is an admin, a node is one
	}
	return unproven
}

// Vouch readies the header of a request that is passed on to another node: what
// this node has checked is taken off, and in its place stands who sent it.
func (g *Gate) Vouch(ctx context.Context, h http.Header) {
	for _, name := range []string{"Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", callerHeader, SecretHeader} {
		h.Del(name)
	}
	c := From(ctx)
	h.Set(callerHeader, c.Role.String()+" "+url.QueryEscape(c.Name))
	if g.cfg.Secret != "" {
		h.Set(SecretHeader, g.cfg.Secret)
	}
	if g.open() {
		// The other node has nothing to go by but where the request comes from.
		for _, name := range proxied {
			h.Del(name)
		}
	}
}

// vouched reads what another node says of the caller.
func vouched(said string) Caller {
	word, name, _ := strings.Cut(said, " ")
	c := Caller{Name: Anonymous, Peer: true}
	if role, err := ParseRole(word); err == nil {
		c.Role = role
	}
	if name, err := url.QueryUnescape(name); err == nil && name != "" {
		c.Name = name
	}
	return c
}

// proxied are the headers by which proxies say for whom they speak.
var proxied = []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "X-Real-Ip"}

// local reports whether a request was made on this machine, to this machine by
// name: a page whose name was made to point here shows its own name (DNS
// rebinding), and a proxy shows that it speaks for another.
func local(r *http.Request) bool {
	for _, name := range proxied {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		return false
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.Unmap().IsLoopback()
}

func bearer(r *http.Request) (string, bool) {
	scheme, secret, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	return strings.TrimSpace(secret), true
}

func cookie(r *http.Request) (string, bool) {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return "", false
	}
	secret, err := base64.RawURLEncoding.DecodeString(c.Value)
	return string(secret), err == nil
}

// same compares in a time that says nothing.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// Login checks a token and gives the caller whose it is, with the cookie that
// browsers show from then on. base is the path under which the engine is
// mounted, secure whether the browser speaks TLS.
func (g *Gate) Login(secret, base string, secure bool) (Caller, *http.Cookie, error) {
	if g.cfg.Authorize != nil || g.cfg.Tokens == nil {
		return Caller{}, nil, errors.New("this engine has no tokens to log in with")
	}
	c, ok := g.cfg.Tokens.find(secret)
	if !ok {
		return Caller{}, nil, errToken
	}
	set := g.Logout(base, secure)
	set.Value, set.MaxAge = base64.RawURLEncoding.EncodeToString([]byte(secret)), 0
	return c, set, nil
}

// Logout gives the cookie that makes a browser forget its token.
func (g *Gate) Logout(base string, secure bool) *http.Cookie {
	return &http.Cookie{Name: cookieName, Path: base + "/", HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode, MaxAge: -1}
}

// CanLogin reports whether there are tokens to log in with.
func (g *Gate) CanLogin() bool { return g.cfg.Authorize == nil && g.cfg.Tokens != nil }

// Secure reports whether a request came over TLS, here or at a proxy before.
func Secure(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// Base gives the path under which a handler is mounted that sees a request
// under path: what a prefix stripped on the way has left of the request's own
// path. No slash is at its end.
func Base(r *http.Request) string {
	asked, err := url.ParseRequestURI(r.RequestURI)
	if err != nil {
		return ""
	}
	base, ok := strings.CutSuffix(asked.Path, r.URL.Path)
	if !ok {
		return ""
	}
	if base = strings.Trim(base, "/"); base == "" {
		return ""
	}
	return "/" + base // never two slashes: that would be another host
}
