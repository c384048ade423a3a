// Package port lets a node of the engine have one port: calls of the API and
// Raft's connections come in at the same address and are told apart here. In
// plaintext the first byte decides; with TLS the protocol that the handshake
// agreed on (ALPN) does.
//
// A Raft connection opens with an introduction: who dials, and whom. Both ends
// must be whom the other one takes them for. With TLS, each end's certificate
// must name it: as a DNS name equal to the node's id, or as the URI heddle:<id>.
//
// A Port owns its listener, one goroutine that accepts, and one per connection
// until it is handed over; each of these ends by itself after a bounded time.
// Whoever accepts from API or Raft, or dials, owns the connection from then on.
package port
