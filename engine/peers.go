package engine

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/engine/access"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
	"github.com/heddle-io/heddle/internal/port"
	"github.com/heddle-io/heddle/raftsched"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

const (
	// meetTime bounds one introduction, joinTime one request to be taken in.
	meetTime = 2 * time.Second
	joinTime = 10 * time.Second
	// describeTime bounds how long a member is awaited that is asked how it is.
	describeTime = time.Second
)

// peers is how this node talks to others beside Raft.
type peers struct {
	scheme    string
	transport *http.Transport
	client    *http.Client
	options   []connect.ClientOption
	known     sync.Map // base URL → heddlev1connect.PeerServiceClient
}

var _ raftsched.Peers = (*peers)(nil)

// newPeers makes the way to other nodes; secret, unless empty, proves to them
// that this is one.
func newPeers(identity *port.Identity, secret string, expect func(addr string) (string, bool)) *peers {
	p := &peers{scheme: "http://", transport: port.Transport(identity, expect, nil)}
	if secret != "" {
		p.options = append(p.options, connect.WithInterceptors(proving(secret)))
	}
	if identity != nil {
		p.scheme = "https://"
	}
	p.client = &http.Client{Transport: witness{p.transport}}
	return p
}

func (p *peers) close() { p.transport.CloseIdleConnections() }

// at is the PeerService at a base URL.
func (p *peers) at(base string) heddlev1connect.PeerServiceClient {
	if c, ok := p.known.Load(base); ok {
		return c.(heddlev1connect.PeerServiceClient)
	}
	c, _ := p.known.LoadOrStore(base, heddlev1connect.NewPeerServiceClient(p.client, base, p.options...))
	return c.(heddlev1connect.PeerServiceClient)
}

// Meet implements raftsched.Peers. With TLS, the one who answers must be named
// by its certificate.
func (p *peers) Meet(ctx context.Context, addr string, from raftsched.Introduction, founding []string) (raftsched.Introduction, error) {
	ctx, cancel := context.WithTimeout(ctx, meetTime)
	defer cancel()
	var seen certificate
	ctx = context.WithValue(ctx, certificateKey{}, &seen)
	res, err := p.at(p.scheme+addr).Meet(ctx, connect.NewRequest(&heddlev1.PeerServiceMeetRequest{From: introductionOut(from), Founding: founding}))
	if err != nil {
		return raftsched.Introduction{}, met(addr, err)
	}
	if c := seen.get(); c != nil {
		if err := port.Names(c, res.Msg.GetId()); err != nil {
			return raftsched.Introduction{}, met(addr, fmt.Errorf("the certificate it shows: %w", err))
		}
	}
	in, err := introductionIn(res.Msg)
	if err != nil {
		return raftsched.Introduction{}, met(addr, err)
	}
	return in, nil
}

func met(addr string, err error) error {
	return fmt.Errorf("the node at %s: %w", addr, port.Explain(err))
}

// Join implements raftsched.Peers.
func (p *peers) Join(ctx context.Context, addr string, req raftsched.JoinRequest) (fsm.WorkflowID, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	msg := &heddlev1.PeerServiceJoinRequest{Member: memberOut(req.Member)}
	if req.Cluster != (fsm.WorkflowID{}) {
		msg.ClusterId = req.Cluster.String()
	}
	text, err := p.join(ctx, p.scheme+addr, msg)
	if err != nil {
		return fsm.WorkflowID{}, fmt.Errorf("through the node at %s: %w", addr, port.Explain(err))
	}
	return clusterID(text)
}

func (p *peers) join(ctx context.Context, base string, msg *heddlev1.PeerServiceJoinRequest) (cluster string, err error) {
	res, err := p.at(base).Join(ctx, connect.NewRequest(msg))
	if err != nil {
		return "", refusalIn(err)
	}
	return res.Msg.GetClusterId(), nil
}

// describe asks a member how it is.
func (p *peers) describe(ctx context.Context, base string) (*heddlev1.ClusterServiceStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, describeTime)
	defer cancel()
	res, err := p.at(base).Describe(ctx, connect.NewRequest(&heddlev1.PeerServiceDescribeRequest{}))
	if err != nil {
		return nil, err
	}
	return res.Msg.GetStatus(), nil
}

// proving shows the cluster's secret with each call.
func proving(secret string) connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			req.Header().Set(access.SecretHeader, secret)
			return next(ctx, req)
		}
	}
}

// witness notes the certificate by which a call was answered, for those whose
// context asks for it.
type witness struct{ next *http.Transport }

type certificateKey struct{}

type certificate struct {
	mu   sync.Mutex
	cert *x509.Certificate
}

func (c *certificate) get() *x509.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cert
}

// RoundTrip implements http.RoundTripper.
func (w witness) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := w.next.RoundTrip(r)
	if err == nil && res.TLS != nil {
		if c, ok := r.Context().Value(certificateKey{}).(*certificate); ok {
			c.mu.Lock()
			c.cert = res.TLS.PeerCertificates[0]
			c.mu.Unlock()
		}
	}
	return res, err
}

// refusalHeader says on the wire which of the scheduler's refusals an answer is.
const refusalHeader = "Heddle-Refusal"

// refusals that a node must tell apart from an outage: trying again will not do.
var refusals = map[string]error{
	"cluster": raftsched.ErrForeignCluster,
	"feature": raftsched.ErrFeatureLevel,
	"id":      raftsched.ErrIDTaken,
	"removed": raftsched.ErrRemoved,
}

// refusalOut gives a refusal to the wire; nil if err is none.
func refusalOut(err error) *connect.Error {
	for name, known := range refusals {
		if errors.Is(err, known) {
			e := connect.NewError(connect.CodeFailedPrecondition, err)
			e.Meta().Set(refusalHeader, name)
			return e
		}
	}
	return nil
}

// refusalIn takes one from the wire.
func refusalIn(err error) error {
	var e *connect.Error
	if errors.As(err, &e) {
		if known := refusals[e.Meta().Get(refusalHeader)]; known != nil {
			return refused{known, e.Message()}
		}
	}
	return err
}

// refused is another node's refusal, in its words.
type refused struct {
	kind error
	text string
}

// Error implements error.
func (r refused) Error() string { return r.text }

// Unwrap gives the kind of refusal.
func (r refused) Unwrap() error { return r.kind }

func introductionOut(in raftsched.Introduction) *heddlev1.PeerServiceMeetResponse {
	out := &heddlev1.PeerServiceMeetResponse{Id: in.ID, Address: in.Address, Fresh: in.Fresh, Leader: in.Leader, Promised: in.Promised}
	if in.Cluster != (fsm.WorkflowID{}) {
		out.ClusterId = in.Cluster.String()
	}
	return out
}

func introductionIn(in *heddlev1.PeerServiceMeetResponse) (raftsched.Introduction, error) {
	id, err := clusterID(in.GetClusterId())
	return raftsched.Introduction{
		ID: in.GetId(), Address: in.GetAddress(), Fresh: in.GetFresh(), Cluster: id, Leader: in.GetLeader(), Promised: in.GetPromised(),
	}, err
}

func memberOut(m fsm.Member) *heddlev1.Member {
	return &heddlev1.Member{Id: m.ID, Address: m.RaftAddr, Api: m.APIAddr, Version: m.Version, Features: m.Features}
}

func memberIn(m *heddlev1.Member) fsm.Member {
	return fsm.Member{ID: m.GetId(), RaftAddr: m.GetAddress(), APIAddr: m.GetApi(), Version: m.GetVersion(), Features: m.GetFeatures()}
}

// addrOf is the host:port of a base URL.
func addrOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return u.Host
}
