package api

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/internal/port"
)

// peerCert is the key under which a call's context has the certificate of the
// node that made it: nil if it showed none that its CA has signed. A context
// without the key is of a plaintext connection.
type peerCert struct{}

// withCertificate puts the caller's certificate into the context of a call.
func withCertificate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil {
			var cert *x509.Certificate
			if len(r.TLS.VerifiedChains) > 0 {
				cert = r.TLS.PeerCertificates[0]
			}
			r = r.WithContext(context.WithValue(r.Context(), peerCert{}, cert))
		}
		next.ServeHTTP(w, r)
	})
}

// certified checks that a caller who came by TLS has a certificate that the CA
// of the nodes has signed, and that it names node, unless that is empty.
func certified(ctx context.Context, node string) error {
	cert, secure := ctx.Value(peerCert{}).(*x509.Certificate)
	if !secure {
		return nil
	}
	if cert == nil {
		return connect.NewError(connect.CodeUnauthenticated, errors.New("nodes call each other with a certificate that --tls-ca has signed; this caller shows none"))
	}
	if node == "" {
		return nil
	}
	if err := port.Names(cert, node); err != nil {
		return connect.NewError(connect.CodePermissionDenied, err)
	}
	return nil
}
