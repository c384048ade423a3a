package port

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// helloByte opens a Raft connection. No HTTP request and no TLS record begins
// with it.
const helloByte = 0xf7

// helloVersion of the introduction that follows. The byte behind the first one,
// so that a later version can say all else in another way.
const helloVersion = 1

// hello introduces who dials.
//
//	0xf7 version, then two strings of one byte's length each:
//	from: the dialler's id
//	to: the id of the node that it takes the other for
type hello struct{ from, to string }

func (h hello) encode() []byte {
	b := []byte{helloByte, helloVersion}
	for _, s := range []string{h.from, h.to} {
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	return b
}

// errVersion says that the other side speaks a later version.
var errVersion = errors.New("it speaks another version of the protocol between nodes: run the same version of the engine on all nodes")

// readHello reads what follows the first byte, and not a byte more.
func readHello(r io.Reader) (h hello, err error) {
	version := make([]byte, 1)
	if _, err := io.ReadFull(r, version); err != nil {
		return h, err
	}
	if version[0] != helloVersion {
		return h, errVersion
	}
	for _, s := range []*string{&h.from, &h.to} {
		n := make([]byte, 1)
		if _, err := io.ReadFull(r, n); err != nil {
			return h, err
		}
		b := make([]byte, n[0])
		if _, err := io.ReadFull(r, b); err != nil {
			return h, err
		}
		*s = string(b)
	}
	return h, nil
}

// answer ends the introduction: with leave to go on, or with why the node takes
// no connection of the dialler.
//
//	0xf7 ok (0 or 1), then the reason, a string of two bytes' length
type answer struct {
	ok   bool
	text string
}

// answerMost is the longest text of an answer.
const answerMost = 1000

func (a answer) encode() []byte {
	b := []byte{helloByte, 0}
	if a.ok {
		b[1] = 1
	}
	text := a.text[:min(len(a.text), answerMost)]
	b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	return append(b, text...)
}

// errNotNode: what answers is no port of a node.
var errNotNode = errors.New("no engine answers there")

func readAnswer(r io.Reader) (a answer, err error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head[:1]); err != nil {
		return a, err
	}
	if head[0] != helloByte {
		return a, errNotNode
	}
	if _, err := io.ReadFull(r, head[1:]); err != nil {
		return a, err
	}
	n := binary.BigEndian.Uint16(head[2:])
	if n > answerMost || head[1] > 1 {
		return a, errNotNode
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return a, err
	}
	return answer{ok: head[1] == 1, text: string(text)}, nil
}

// judge says why a node that introduced itself is refused; "": it is not.
// state is that of its connection, nil without TLS.
func (p *Port) judge(h hello, state *tls.ConnectionState) string {
	switch {
	case h.from == "":
		return "it gives no node id"
	case h.from == p.cfg.Node:
		return fmt.Sprintf("node %q listens here, and the one that dials has the same id: give it another --node-id", h.from)
	case h.to != p.cfg.Node:
		return fmt.Sprintf("node %q looks for node %q at this address, where node %q listens: let it have its own address with --advertise, or remove the member that is gone", h.from, h.to, p.cfg.Node)
	case state == nil:
		return ""
	case len(state.VerifiedChains) == 0:
		return fmt.Sprintf("node %q shows no certificate of this node's --tls-ca", h.from)
	}
	if err := Names(state.PeerCertificates[0], h.from); err != nil {
		return err.Error()
	}
	return ""
}

// introduce takes the introduction of a Raft connection, whose first byte has
// been read, and hands the connection over.
func (p *Port) introduce(c net.Conn, state *tls.ConnectionState) {
	h, err := readHello(c)
	var why string
	switch {
	case errors.Is(err, errVersion):
		why = err.Error()
	case err != nil:
		c.Close()
		return
	default:
		why = p.judge(h, state)
	}
	if why != "" {
		p.refusals.note(c.RemoteAddr(), why)
		_, _ = c.Write(answer{text: why}.encode())
		c.Close()
		return
	}
	if _, err := c.Write(answer{ok: true}.encode()); err != nil {
		c.Close()
		return
	}
	_ = c.SetDeadline(time.Time{})
	p.raft.put(c)
}
