package engine

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	. "github.com/heddle-io/heddle/internal/enginetest"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
	"github.com/heddle-io/heddle/internal/pgtest"
	"github.com/heddle-io/heddle/internal/port"
	"github.com/heddle-io/heddle/internal/porttest"
	"github.com/heddle-io/heddle/raftsched"
)

func secure(c *Config, f porttest.Files) { c.TLSCert, c.TLSKey, c.TLSCA = f.Cert, f.Key, f.CA }

// Three nodes with certificates do all that three without do; new files are
// taken over while they run.
func TestClusterWithTLS(t *testing.T) {
	ca := porttest.New(t)
	files := make(map[string]porttest.Files)
	r := newRing(t, func(c *Config) {
		files[c.NodeID] = ca.Issue(t, c.NodeID, nil)
		secure(c, files[c.NodeID])
		steady(c)
		c.Anonymous = RoleAdmin // here it is about certificates
	}, "a", "b", "c")
	r.start("a", "b", "c")
	r.known("a", "b", "c")
	r.voters("a", "b", "c")
	leader, follower := r.leader(), r.follower()
	client := DialTLS(t, r.engines[follower].Addr(), ca.Client())
	worker := client.Work(2, map[string]Handler{"k": ok})
	client.WantThrough(client.Put(Lone("k", "", nil))[0], stateSucceeded)

	eventually(t, "all members answer each other", func() bool {
		res, err := client.Cluster.Status(t.Context(), connect.NewRequest(&heddlev1.ClusterServiceStatusRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range res.Msg.GetMembers() {
			if m.GetState() == "" || m.GetTrouble() != "" || m.GetApi() != "https://"+m.GetAddress() {
				return false
			}
		}
		return len(res.Msg.GetMembers()) == 3
	})

	// Whoever cannot prove to be a node is none.
	meet := func(names string, asks string) error {
		id, err := port.LoadIdentity(names, port.Files(ca.Issue(t, names, nil)), nil)
		if err != nil {
			t.Fatal(err)
		}
		p := newPeers(id, "", nil)
		defer p.close()
		_, err = p.Meet(t.Context(), r.engines[leader].Addr(), raftsched.Introduction{ID: asks, Address: "127.0.0.1:1"}, nil)
		return err
	}
	if err := meet("d", "d"); err != nil {
		t.Errorf("a node with a certificate: %v", err)
	}
	if err := meet("d", "a"); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("a node that gives itself out for another: %v", err)
	}
	bare := &http.Client{Transport: &http.Transport{TLSClientConfig: ca.Client()}}
	defer bare.CloseIdleConnections()
	_, err := heddlev1connect.NewPeerServiceClient(bare, r.engines[leader].URL()).Describe(t.Context(), connect.NewRequest(&heddlev1.PeerServiceDescribeRequest{}))
	if code := connect.CodeOf(err); code != connect.CodePermissionDenied && code != connect.CodeUnauthenticated {
		t.Errorf("a caller without a certificate: %v", err)
	}

	// New files: nobody notices.
	epoch := r.status(leader).GetEpoch()
	serials := make(map[string]string)
	for id, f := range files {
		serials[id] = ca.IssueTo(t, f, id, nil).SerialNumber.String()
	}
	for id, e := range r.engines {
		eventually(t, id+" shows its new certificate", func() bool {
			conn, err := tls.Dial("tcp", e.Addr(), ca.Client())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			return conn.ConnectionState().PeerCertificates[0].SerialNumber.String() == serials[id]
		})
	}
	client.WantThrough(client.Put(Lone("k", "", nil))[0], stateSucceeded)
	worker.Stop()
	if s := r.status(leader); s.GetEpoch() != epoch || s.GetLeader() != leader {
		t.Errorf("the leader changed with the certificates: %v", s)
	}
	if code, body := getTLS(t, ca, r.engines[leader].URL()+"/metrics"); code != http.StatusOK || !strings.Contains(body, "heddle_certificate_not_after_seconds") {
		t.Errorf("metrics: %d, %s", code, body)
	}
}

func getTLS(t *testing.T, ca *porttest.Authority, url string) (int, string) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: ca.Client()}
	defer transport.CloseIdleConnections()
	return getWith(t, &http.Client{Transport: transport}, url)
}

// Nodes that do not fit the cluster's certificates say what is wrong.
func TestTLSRefusals(t *testing.T) {
	ca, other := porttest.New(t), porttest.New(t)
	r := newRing(t, func(c *Config) { secure(c, ca.Issue(t, c.NodeID, nil)) }, "a")
	r.start("a")
	r.leader()
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"another CA":     {func(c *Config) { secure(c, other.Issue(t, "b", nil)) }, "another CA than this node's --tls-ca"},
		"no certificate": {func(c *Config) {}, "speaks TLS only"},
	} {
		b := r.config("b", "127.0.0.1:0")
		c.change(&b)
		r.configs["b"] = b
		t.Log(name)
		r.start("b")
		r.troubled("b", c.says)
		r.stop("b")
	}

	config := testConfig(t, pgtest.DSN(t))
	config.NodeID = "b"
	secure(&config, ca.Issue(t, "x", func(c *x509.Certificate) { c.DNSNames = []string{"x"} }))
	e, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err == nil || !strings.Contains(err.Error(), `does not name node "b"`) {
		t.Errorf("a node with another's certificate starts: %v", err)
	}
}
