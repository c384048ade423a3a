package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// guide answers people whose call cannot reach a method, with what would: left
// to themselves, unknown paths and content types give answers without a word.
type guide struct {
	next    http.Handler
	methods map[string]bool // by path: whether they stream
	refuse  *connect.ErrorWriter
}

func newGuide(next http.Handler) *guide {
	g := &guide{next: next, methods: make(map[string]bool), refuse: connect.NewErrorWriter()}
	eachMethod(func(path string, m protoreflect.MethodDescriptor) {
		g.methods[path] = m.IsStreamingClient() || m.IsStreamingServer()
	})
	return g
}

// ServeHTTP implements http.Handler.
func (g *guide) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	stream, known := g.methods[r.URL.Path]
	switch {
	case known && r.Method == http.MethodPost:
		if want := wanted(r.Header.Get("Content-Type"), stream); want != "" {
			g.write(w, http.StatusUnsupportedMediaType, connect.CodeInvalidArgument,
				fmt.Sprintf("content-type: %q does not do here; send %q", r.Header.Get("Content-Type"), want))
			return
		}
	case !known && strings.HasPrefix(r.URL.Path, "/heddle."):
		message := fmt.Sprintf("there is no method %s; the services are in proto/heddle/v1", r.URL.Path)
		if g.refuse.IsSupported(r) {
			_ = g.refuse.Write(w, r, connect.NewError(connect.CodeUnimplemented, errors.New(message))) // the caller has gone if this fails
			return
		}
		g.write(w, http.StatusNotFound, connect.CodeUnimplemented, message)
		return
	}
	g.next.ServeHTTP(w, r)
}

// wanted is the content type that a call should have had, "" if its own will
// do. What a protocol's own clients send is left to the protocol.
func wanted(contentType string, stream bool) string {
	kind, _, _ := strings.Cut(contentType, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	switch {
	case strings.HasPrefix(kind, "application/grpc"), strings.HasPrefix(kind, "application/connect+"):
		return ""
	case stream:
		return "application/connect+json"
	case kind == "application/json", kind == "application/proto":
		return ""
	}
	return "application/json"
}

// write answers in the form of Connect's errors.
func (g *guide) write(w http.ResponseWriter, status int, code connect.Code, message string) {
	body, err := json.Marshal(map[string]string{"code": code.String(), "message": message})
	if err != nil {
		body = []byte(message)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the caller has gone if this fails
}
