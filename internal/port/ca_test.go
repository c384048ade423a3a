package port

import (
	"crypto/x509"
	"net/url"
	"testing"

	"github.com/heddle-io/heddle/internal/porttest"
)

// byURI names the node by the URI alone.
func byURI(node string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.DNSNames = nil
		c.URIs = []*url.URL{{Scheme: "heddle", Opaque: node}}
	}
}

func identity(t *testing.T, node string, f porttest.Files) *Identity {
	t.Helper()
	i, err := LoadIdentity(node, Files(f), nil)
	if err != nil {
		t.Fatal(err)
	}
	return i
}
