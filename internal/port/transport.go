package port

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Transport carries calls to the API of other nodes: HTTP/2 in plaintext, or,
// with an identity, under TLS with this node's certificate. There the other
// side's certificate must be signed by the CA, and name the node which expect
// says is at the address, if it knows; nil: it knows none. dial nil: a net.Dialer
// does. The connections are closed with CloseIdleConnections once no call is
// under way.
func Transport(i *Identity, expect func(addr string) (node string, known bool), dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Transport {
	if dial == nil {
		dial = (&net.Dialer{Timeout: 2 * time.Second}).DialContext
	}
	var protocols http.Protocols
	t := &http.Transport{
		Protocols: &protocols, DialContext: dial, IdleConnTimeout: 90 * time.Second,
		// A node that has gone silent is found out soon.
		HTTP2: &http.HTTP2Config{SendPingTimeout: time.Second, PingTimeout: time.Second},
	}
	if i == nil {
		protocols.SetUnencryptedHTTP2(true)
		return t
	}
	protocols.SetHTTP2(true)
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, helloTime)
		defer cancel()
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		tc := tls.Client(conn, i.client(protocolHTTP2))
		err = Explain(tc.HandshakeContext(ctx))
		if err == nil && expect != nil {
			if node, known := expect(addr); known {
				err = Names(tc.ConnectionState().PeerCertificates[0], node)
			}
		}
		if err != nil {
			conn.Close()
			return nil, fmt.Errorf("call the node at %s: %w", addr, err)
		}
		return tc, nil
	}
	return t
}
