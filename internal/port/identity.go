package port

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// Files of a node's certificate, in PEM.
type Files struct {
	// Cert is the certificate, with those between it and the CA behind it; Key
	// its private key.
	Cert, Key string
	// CA has the certificates that vouch for other nodes and for clients that
	// show one. "": nobody does, and no Raft connection is taken.
	CA string
}

// lookPause is the time between two looks at whether the files have changed.
const lookPause = time.Second

// Identity is the certificate of a node. It follows its files: connections
// begun after a change use what they hold then, those that stand stay. Files
// that do not do leave everything as it was.
type Identity struct {
	node  string
	files Files
	log   *slog.Logger

	mu     sync.Mutex
	looked time.Time
	now    *material
	failed string // why the newest files do not do, "" if they do
}

// material is what the files held at one time.
type material struct {
	stamp string
	cert  tls.Certificate
	ca    *x509.CertPool // nil: none
}

// LoadIdentity reads a node's certificate, and refuses one with which the node
// could not talk to others. Nil logger: nobody is told of later changes.
func LoadIdentity(node string, f Files, log *slog.Logger) (*Identity, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	i := &Identity{node: node, files: f, log: log, looked: time.Now()}
	stamp, err := f.stamp()
	if err != nil {
		return nil, err
	}
	if i.now, err = f.load(node, stamp); err != nil {
		return nil, err
	}
	return i, nil
}

// NotAfter is when the certificate in use expires.
func (i *Identity) NotAfter() time.Time { return i.current().cert.Leaf.NotAfter }

// Mutual tells whether there is a CA, so that nodes can know each other.
func (i *Identity) Mutual() bool { return i.current().ca != nil }

// current is what the files hold, as of a second ago at most.
func (i *Identity) current() *material {
	i.mu.Lock()
	defer i.mu.Unlock()
	if now := time.Now(); now.Sub(i.looked) >= lookPause {
		i.looked = now
		i.look()
	}
	return i.now
}

// look takes over files that have changed. After a failure it tries at every
// look: files are not replaced all at the same moment.
func (i *Identity) look() {
	stamp, err := i.files.stamp()
	if err == nil && stamp == i.now.stamp {
		i.failed = ""
		return
	}
	var m *material
	if err == nil {
		m, err = i.files.load(i.node, stamp)
	}
	if err != nil {
		if i.failed != err.Error() {
			i.failed = err.Error()
			i.log.Error("new TLS files do not do, the old certificate stays", "error", err)
		}
		return
	}
	i.now, i.failed = m, ""
	i.log.Info("TLS files read again", "not_after", m.cert.Leaf.NotAfter)
}

// stamp changes with the files.
func (f Files) stamp() (string, error) {
	var b strings.Builder
	for _, name := range []string{f.Cert, f.Key, f.CA} {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%d %d\n", info.ModTime().UnixNano(), info.Size())
	}
	return b.String(), nil
}

// load reads and checks the files.
func (f Files) load(node, stamp string) (*material, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s and key %s: %w", f.Cert, f.Key, err)
	}
	m := &material{stamp: stamp, cert: cert}
	if now := time.Now(); now.After(cert.Leaf.NotAfter) {
		return nil, fmt.Errorf("certificate %s: expired at %s", f.Cert, cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if f.CA == "" {
		return m, nil
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, err
	}
	m.ca = x509.NewCertPool()
	if !m.ca.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA %s: no certificate in it", f.CA)
	}
	for _, use := range []struct {
		key  x509.ExtKeyUsage
		name string
	}{{x509.ExtKeyUsageServerAuth, "serverAuth"}, {x509.ExtKeyUsageClientAuth, "clientAuth"}} {
		err := m.verify(cert.Leaf, intermediates(cert), use.key)
		var invalid x509.CertificateInvalidError
		switch {
		case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
			return nil, fmt.Errorf("certificate %s: a node both takes and makes connections, but its extended key usage lacks %s", f.Cert, use.name)
		case err != nil:
			return nil, fmt.Errorf("certificate %s, by CA %s: %w", f.Cert, f.CA, err)
		}
	}
	if err := Names(cert.Leaf, node); err != nil {
		return nil, fmt.Errorf("certificate %s: %w", f.Cert, err)
	}
	return m, nil
}

func intermediates(c tls.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, der := range c.Certificate[1:] {
		if cert, err := x509.ParseCertificate(der); err == nil {
			pool.AddCert(cert)
		}
	}
	return pool
}

// verify that the CA vouches for a certificate. The host's name plays no part:
// a node is known by its id, wherever it runs.
func (m *material) verify(leaf *x509.Certificate, between *x509.CertPool, use x509.ExtKeyUsage) error {
	_, err := leaf.Verify(x509.VerifyOptions{Roots: m.ca, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{use}})
	return err
}

// Names answers nil if a certificate names a node: its id as a DNS name, or the
// URI heddle:<id>.
func Names(c *x509.Certificate, node string) error {
	for _, name := range c.DNSNames {
		if strings.EqualFold(name, node) {
			return nil
		}
	}
	var names []string
	for _, uri := range c.URIs {
		if uri.String() == "heddle:"+node {
			return nil
		}
		names = append(names, uri.String())
	}
	names = append(c.DNSNames[:len(c.DNSNames):len(c.DNSNames)], names...)
	return fmt.Errorf("it does not name node %q but %q: add the DNS name %q or the URI %q to the certificate's subject alternative names", node, names, node, "heddle:"+node)
}

// server is the configuration of one accepted connection.
func (i *Identity) server() *tls.Config {
	m := i.current()
	c := &tls.Config{
		Certificates: []tls.Certificate{m.cert},
		NextProtos:   []string{protocolHTTP2, protocolHTTP1},
		// A ticket would let in a client whose CA has been taken out.
		SessionTicketsDisabled: true,
	}
	if m.ca != nil {
		c.NextProtos = append(c.NextProtos, protocolRaft)
		c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, m.ca
	}
	return c
}

// errNoCA: this node cannot know others.
var errNoCA = errors.New("this node has no --tls-ca by which to know other nodes")

// client is the configuration of one connection to another node. Its chain is
// verified; which node it must name is for the caller to check.
func (i *Identity) client(protocols ...string) *tls.Config {
	m := i.current()
	return &tls.Config{
		// All of it, whatever CAs the other side names: it may still have the old
		// one.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &m.cert, nil },
		NextProtos:           protocols,
		// Go would look for the host's name; VerifyConnection does the rest.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if m.ca == nil {
				return errNoCA
			}
			between := x509.NewCertPool()
			for _, c := range s.PeerCertificates[1:] {
				between.AddCert(c)
			}
			return m.verify(s.PeerCertificates[0], between, x509.ExtKeyUsageServerAuth)
		},
	}
}

// Explain adds to an error of a connection, or of a call, between two nodes what
// to do about it, where it is about TLS.
func Explain(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	var plain tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &plain):
		return fmt.Errorf("that node speaks no TLS, this one does: give all nodes --tls-cert, --tls-key and --tls-ca: %w", err)
	case errors.As(err, &unknown):
		return fmt.Errorf("another CA than this node's --tls-ca signed that node's certificate: %w", err)
	case strings.Contains(text, "INADEQUATE_SECURITY"):
		return fmt.Errorf("that node speaks TLS only: give this one --tls-cert, --tls-key and --tls-ca: %w", err)
	case strings.Contains(text, "no application protocol"):
		return fmt.Errorf("that node has no --tls-ca by which to know others: %w", err)
	case strings.Contains(text, "unknown certificate authority"):
		return fmt.Errorf("that node's --tls-ca does not know the CA of this node's certificate: %w", err)
	case strings.Contains(text, "expired certificate"):
		return fmt.Errorf("this node's certificate has expired: %w", err)
	}
	return err
}
