package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/engine/access"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
	"github.com/heddle-io/heddle/internal/porttest"
	"github.com/heddle-io/heddle/raftsched/dispatch"
)

// fakeCluster notes what it is asked.
type fakeCluster struct {
	asked   string
	trouble string
	err     error
}

func (f *fakeCluster) Here() *heddlev1.ClusterServiceStatusResponse {
	return &heddlev1.ClusterServiceStatusResponse{Node: "here", Trouble: f.trouble}
}

func (f *fakeCluster) Status(context.Context) *heddlev1.ClusterServiceStatusResponse {
	return &heddlev1.ClusterServiceStatusResponse{Node: "all"}
}

func (f *fakeCluster) Remove(_ context.Context, id string) error {
	f.asked = "remove " + id
	return f.err
}

func (f *fakeCluster) Transfer(_ context.Context, to string) (string, error) {
	f.asked = "transfer " + to
	return "b", f.err
}

func (f *fakeCluster) Adopt(_ context.Context, owner string) error {
	f.asked = "adopt " + owner
	return f.err
}

func (f *fakeCluster) Meet(req *heddlev1.PeerServiceMeetRequest) (*heddlev1.PeerServiceMeetResponse, error) {
	f.asked = fmt.Sprintf("meet %s %v", req.GetFrom().GetId(), req.GetFounding())
	return &heddlev1.PeerServiceMeetResponse{Id: "b"}, f.err
}

func (f *fakeCluster) Join(_ context.Context, req *heddlev1.PeerServiceJoinRequest) (string, error) {
	f.asked = "join " + req.GetMember().GetId()
	return "c1", f.err
}

func (f *fakeCluster) Hint(h Hint) { f.asked = fmt.Sprintf("hint %v", h.Lanes) }

func TestClusterServices(t *testing.T) {
	f := &fakeCluster{}
	s := serve(t, &fake{}, func(_ *Config, d *Deps) { d.Cluster = f })
	ctx := t.Context()
	admin := heddlev1connect.NewClusterServiceClient(s.Client(), s.URL)
	peer := heddlev1connect.NewPeerServiceClient(s.Client(), s.URL)
	whole := &heddlev1.Member{Id: "d", Address: "10.0.0.4:7400", Api: "http://10.0.0.4:7400"}
	for _, c := range []struct {
		asks string // "": it is refused
		call func() (answer string, err error)
		want string
	}{
		{"remove b", func() (string, error) {
			_, err := admin.Remove(ctx, connect.NewRequest(&heddlev1.ClusterServiceRemoveRequest{Id: "b"}))
			return "", err
		}, ""},
		{"", func() (string, error) {
			_, err := admin.Remove(ctx, connect.NewRequest(&heddlev1.ClusterServiceRemoveRequest{}))
			return "", err
		}, ""},
		{"transfer ", func() (string, error) {
			res, err := admin.Transfer(ctx, connect.NewRequest(&heddlev1.ClusterServiceTransferRequest{}))
			return res.Msg.GetLeader(), err
		}, "b"},
		{"adopt c1", func() (string, error) {
			_, err := admin.Adopt(ctx, connect.NewRequest(&heddlev1.ClusterServiceAdoptRequest{Owner: "c1"}))
			return "", err
		}, ""},
		{"", func() (string, error) {
			_, err := admin.Adopt(ctx, connect.NewRequest(&heddlev1.ClusterServiceAdoptRequest{}))
			return "", err
		}, ""},
		{"meet a [a b]", func() (string, error) {
			res, err := peer.Meet(ctx, connect.NewRequest(&heddlev1.PeerServiceMeetRequest{From: &heddlev1.PeerServiceMeetResponse{Id: "a"}, Founding: []string{"a", "b"}}))
			return res.Msg.GetId(), err
		}, "b"},
		{"join d", func() (string, error) {
			res, err := peer.Join(ctx, connect.NewRequest(&heddlev1.PeerServiceJoinRequest{Member: whole}))
			return res.Msg.GetClusterId(), err
		}, "c1"},
		{"", func() (string, error) {
			_, err := peer.Join(ctx, connect.NewRequest(&heddlev1.PeerServiceJoinRequest{Member: &heddlev1.Member{Id: "d", Address: "x"}}))
			return "", err
		}, ""},
		{fmt.Sprintf("hint %v", []dispatch.LanePriority{{Lane: dispatch.Lane{Route: 3, Key: "k"}, Priority: -2}}), func() (string, error) {
			_, err := peer.Hint(ctx, connect.NewRequest(&heddlev1.PeerServiceHintRequest{Lanes: []*heddlev1.Lane{{Route: 3, Key: "k", Priority: -2}}}))
			return "", err
		}, ""},
	} {
		f.asked = ""
		answer, err := c.call()
		if c.asks == "" && connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("not refused: %v", err)
		}
		if c.asks != "" && err != nil || f.asked != c.asks || answer != c.want {
			t.Errorf("asked %q, want %q; answer %q, want %q; %v", f.asked, c.asks, answer, c.want, err)
		}
	}
	for here, want := range map[bool]string{true: "here", false: "all"} {
		res, err := admin.Status(ctx, connect.NewRequest(&heddlev1.ClusterServiceStatusRequest{Here: here}))
		if err != nil || res.Msg.GetNode() != want {
			t.Errorf("status: %v, %v; want %s", res, err, want)
		}
	}
	if res, err := peer.Describe(ctx, connect.NewRequest(&heddlev1.PeerServiceDescribeRequest{})); err != nil || res.Msg.GetStatus().GetNode() != "here" {
		t.Errorf("describe: %v, %v", res, err)
	}
}

// A node that is not ready says what it suffers from; one that is does not.
func TestReadinessSaysTrouble(t *testing.T) {
	for _, c := range []struct {
		away bool
		want string
	}{{true, "no leader dispatches\nwaiting for others\n"}, {false, "ready\n"}} {
		s := serve(t, &fake{notReady: c.away}, func(_ *Config, d *Deps) { d.Cluster = &fakeCluster{trouble: "waiting for others"} })
		if got := read(t, s, "/readyz"); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func read(t *testing.T, s *httptest.Server, path string) string {
	t.Helper()
	res, err := s.Client().Get(s.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Metrics are shown to whom the gate lets see everything.
func TestMetricsAreGuarded(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "metrics") })
	for anonymous, want := range map[access.Role]string{access.Viewer: "metrics", access.Nobody: "token"} {
		s := serve(t, &fake{}, func(c *Config, d *Deps) {
			d.Metrics = metrics
			c.Gate = access.NewGate(access.Config{Authorize: func(*http.Request) (string, access.Role, error) {
				return "", anonymous, nil
			}})
		})
		if got := read(t, s, "/metrics"); !strings.Contains(got, want) {
			t.Errorf("%v gets %q, want %q", anonymous, got, want)
		}
	}
}

// With TLS, a caller of the PeerService is who its certificate says.
func TestPeersAreCertified(t *testing.T) {
	ca := porttest.New(t)
	cert := ca.IssueTo(t, ca.Issue(t, "a", nil), "a", nil)
	for _, c := range []struct {
		name string
		ctx  context.Context
		node string
		code connect.Code
	}{
		{"plaintext", t.Context(), "a", 0},
		{"named", context.WithValue(t.Context(), peerCert{}, cert), "a", 0},
		{"any node", context.WithValue(t.Context(), peerCert{}, cert), "", 0},
		{"another", context.WithValue(t.Context(), peerCert{}, cert), "b", connect.CodePermissionDenied},
	} {
		if err := certified(c.ctx, c.node); (err == nil) != (c.code == 0) || err != nil && connect.CodeOf(err) != c.code {
			t.Errorf("%s: %v, want %v", c.name, err, c.code)
		}
	}
	// No certificate, over TLS.
	s := httptest.NewTLSServer(withCertificate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, connect.CodeOf(certified(r.Context(), "")).String())
	})))
	defer s.Close()
	if got := read(t, s, "/"); got != connect.CodeUnauthenticated.String() {
		t.Errorf("without a certificate: %s", got)
	}
}
