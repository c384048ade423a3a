package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"connectrpc.com/connect"
)

// watchedBody notes whether a request's body was read from.
type watchedBody struct {
	io.ReadCloser
	begun atomic.Bool
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	b.begun.Store(true)
	return b.ReadCloser.Read(p)
}

// The flags of the envelopes of streams that end with a message of their own.
const (
	connectEnd = 0x02
	grpcWebEnd = 0x80
)

// endProperly has the answer of a call end as unavailable in its own protocol
// when the leader goes away in its middle. Answers that are not made of
// envelopes are cut off: their callers see that by themselves.
func endProperly(res *http.Response) {
	kind := res.Header.Get("Content-Type")
	b := &answerBody{ReadCloser: res.Body, res: res}
	switch {
	case strings.HasPrefix(kind, "application/connect+"):
		b.last = func() []byte { return envelope(connectEnd, connectTail()) }
	case strings.HasPrefix(kind, "application/grpc-web"):
		b.last = func() []byte {
			return envelope(grpcWebEnd, []byte("grpc-status: 14\r\ngrpc-message: "+errCut.Error()+"\r\n"))
		}
	case strings.HasPrefix(kind, "application/grpc"):
		b.last = func() []byte {
			res.Trailer = http.Header{"Grpc-Status": {"14"}, "Grpc-Message": {errCut.Error()}}
			return nil
		}
	default:
		return
	}
	res.Body = b
}

func connectTail() []byte {
	type end struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	var e end
	e.Error.Code, e.Error.Message = connect.CodeUnavailable.String(), errCut.Error()
	text, err := json.Marshal(e)
	if err != nil {
		return []byte("{}")
	}
	return text
}

func envelope(flags byte, message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(message))), message...)
}

// answerBody is an answer made of envelopes: a byte of flags, a length, and so
// many bytes. It knows whether it is between two of them.
type answerBody struct {
	io.ReadCloser
	res  *http.Response
	last func() []byte

	head []byte // of an envelope, so far
	left uint32 // of its message
	tail *bytes.Reader
}

// Read implements io.Reader.
func (b *answerBody) Read(p []byte) (int, error) {
	if b.tail != nil {
		return b.tail.Read(p)
	}
	n, err := b.ReadCloser.Read(p)
	b.follow(p[:n])
	if err == nil || errors.Is(err, io.EOF) || len(b.head) > 0 || b.left > 0 {
		return n, err
	}
	if cause := context.Cause(b.res.Request.Context()); errors.Is(cause, context.Canceled) {
		return n, err // the caller hung up
	}
	b.tail = bytes.NewReader(b.last())
	return n, nil
}

// follow keeps count of what has passed.
func (b *answerBody) follow(p []byte) {
	for len(p) > 0 {
		if b.left > 0 {
			n := min(uint64(b.left), uint64(len(p)))
			b.left -= uint32(n)
			p = p[n:]
			continue
		}
		n := min(5-len(b.head), len(p))
		b.head = append(b.head, p[:n]...)
		p = p[n:]
		if len(b.head) == 5 {
			b.left = binary.BigEndian.Uint32(b.head[1:])
			b.head = b.head[:0]
		}
	}
}
