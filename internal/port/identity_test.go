package port

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/heddle-io/heddle/internal/porttest"
)

// A certificate with which a node could not talk to others is refused at once.
func TestIdentityRefused(t *testing.T) {
	ca, other := porttest.New(t), porttest.New(t)
	for _, c := range []struct {
		name  string
		files func() porttest.Files
		says  string
	}{
		{"no file", func() porttest.Files { return porttest.Files{Cert: "/nowhere/cert.pem", Key: "/nowhere/key.pem"} }, "/nowhere/cert.pem"},
		{"another's key", func() porttest.Files { f := ca.Issue(t, "a", nil); f.Key = ca.Issue(t, "a", nil).Key; return f }, "private key does not match"},
		{"expired", func() porttest.Files {
			return ca.Issue(t, "a", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
		}, "expired at"},
		{"of another CA", func() porttest.Files { f := ca.Issue(t, "a", nil); f.CA = other.File; return f }, "unknown authority"},
		{"names another node", func() porttest.Files { return ca.Issue(t, "b", nil) }, `does not name node "a" but ["b"]`},
		{"names nobody", func() porttest.Files { return ca.Issue(t, "", func(c *x509.Certificate) { c.DNSNames = nil }) }, `add the DNS name "a" or the URI "heddle:a"`},
		{"for servers only", func() porttest.Files {
			return ca.Issue(t, "a", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] })
		}, "lacks clientAuth"},
		{"for clients only", func() porttest.Files {
			return ca.Issue(t, "a", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] })
		}, "lacks serverAuth"},
		{"CA is a key", func() porttest.Files { f := ca.Issue(t, "a", nil); f.CA = f.Key; return f }, "no certificate in it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := LoadIdentity("a", Files(c.files()), nil)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
		})
	}
}

// shown is the serial of the certificate that a port shows.
func shown(t *testing.T, ca *porttest.Authority, addr string) int64 {
	t.Helper()
	c := ca.Client()
	c.ServerName = "127.0.0.1"
	conn, err := tls.Dial("tcp", addr, c)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// New files are taken up by new connections; those that stand stay, and files
// that do not do change nothing.
func TestRotation(t *testing.T) {
	ca := porttest.New(t)
	files := ca.Issue(t, "a", nil)
	log := &logged{}
	id, err := LoadIdentity("a", Files(files), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	// Looks are a second apart; here every handshake looks.
	look := func() {
		id.mu.Lock()
		id.looked = time.Time{}
		id.mu.Unlock()
	}
	a := start(t, Config{Node: "a", Identity: id})
	b := start(t, Config{Node: "b", Identity: identity(t, "b", ca.Issue(t, "b", nil))})
	in, err := b.Raft().Dial("a", a.addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.Raft().Dial("b", b.addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	first := shown(t, ca, a.addr)

	for _, bad := range []string{"no certificate", "no certificate", "nothing either"} {
		if err := os.WriteFile(files.Cert, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		look()
		if got := shown(t, ca, a.addr); got != first {
			t.Errorf("certificate %d is shown after a file that does not do", got)
		}
	}
	if n := strings.Count(log.String(), "do not do"); n != 1 {
		t.Errorf("files that do not do are logged %d times, want once:\n%s", n, log)
	}
	next := ca.IssueTo(t, files, "a", nil)
	look()
	if got := shown(t, ca, a.addr); got != next.SerialNumber.Int64() {
		t.Errorf("certificate %d is shown, want the new one, %d", got, next.SerialNumber)
	}
	if d := id.NotAfter().Sub(next.NotAfter); d != 0 {
		t.Errorf("NotAfter is off by %v", d)
	}
	for what, c := range map[string]interface {
		Read([]byte) (int, error)
		Write([]byte) (int, error)
		Close() error
	}{"accepted": in, "dialled": out} {
		if _, err := c.Write([]byte("raft")); err != nil {
			t.Errorf("the connection %s before: %v", what, err)
		}
		if _, err := c.Read(make([]byte, 4)); err != nil {
			t.Errorf("the connection %s before: %v", what, err)
		}
		c.Close()
	}
	again, err := a.Raft().Dial("b", b.addr, 10*time.Second)
	if err != nil {
		t.Fatalf("with the new certificate: %v", err)
	}
	again.Close()
}

// A CA that is replaced by two, the old and the new one, keeps the nodes with
// certificates of either in touch.
func TestChangeOfCA(t *testing.T) {
	old, young := porttest.New(t), porttest.New(t)
	oldPEM, err := os.ReadFile(old.File)
	if err != nil {
		t.Fatal(err)
	}
	youngPEM, err := os.ReadFile(young.File)
	if err != nil {
		t.Fatal(err)
	}
	both := append(oldPEM, youngPEM...)
	fa, fb := old.Issue(t, "a", nil), young.Issue(t, "b", nil)
	for _, f := range []string{fa.CA, fb.CA} {
		if err := os.WriteFile(f, both, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, b := start(t, Config{Node: "a", Identity: identity(t, "a", fa)}), start(t, Config{Node: "b", Identity: identity(t, "b", fb)})
	for _, way := range [][2]*node{{a, b}, {b, a}} {
		c, err := way[0].Raft().Dial(way[1].cfg.Node, way[1].addr, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := echo(c); err != nil {
			t.Error(err)
		}
		c.Close()
	}
}

// Certificates expire while connections are made.
func TestExpiry(t *testing.T) {
	ca := porttest.New(t)
	a := start(t, Config{Node: "a", Identity: identity(t, "a", ca.Issue(t, "a", nil))})
	soon := identity(t, "b", ca.Issue(t, "b", nil))
	expired := ca.Issue(t, "b", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })
	cert, err := tls.LoadX509KeyPair(expired.Cert, expired.Key)
	if err != nil {
		t.Fatal(err)
	}
	soon.now.cert = cert // as time goes by
	b := start(t, Config{Node: "b", Identity: soon})
	if _, err := b.Raft().Dial("a", a.addr, 10*time.Second); err == nil || !strings.Contains(err.Error(), "this node's certificate has expired") {
		t.Errorf("dialled with an expired certificate: %v", err)
	}
	if _, err := a.Raft().Dial("b", b.addr, 10*time.Second); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("dialled to an expired certificate: %v", err)
	}
}
