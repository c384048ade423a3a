// Package access says who calls and what they may do. The Gate stands before
// the whole API: it finds out who sent a request, refuses what a foreign web
// page made a browser send, and hands the Caller on in the request's context.
// What a role may call is decided where the calls are known, in engine/api.
//
// The package starts no goroutine; everything in it is safe for concurrent use.
package access

import (
	"context"
	"fmt"
	"strings"
)

// Role says what a caller may do.
type Role uint8

// The roles. Viewer, Operator and Admin include each other in this order; an
// operator may also do what a worker does.
const (
	// Nobody may call nothing but what is open to all.
	Nobody Role = iota
	// Viewer sees everything but, if so configured, arguments and results.
	Viewer
	// Operator also submits and steers jobs, workflows, queues and workers.
	Operator
	// Admin also changes the cluster.
	Admin
	// Worker speaks the worker protocol, and nothing else.
	Worker
)

var roleNames = [...]string{Nobody: "nobody", Viewer: "viewer", Operator: "operator", Admin: "admin", Worker: "worker"}

// String gives the role's word.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("role %d", uint8(r))
}

// ParseRole reads a role's word. Nobody is none that could be given.
func ParseRole(word string) (Role, error) {
	for r := Viewer; r <= Worker; r++ {
		if roleNames[r] == word {
			return r, nil
		}
	}
	return Nobody, fmt.Errorf("%q is none of %s", word, strings.Join(roleNames[Viewer:], ", "))
}

// Includes reports whether the role may do what other may.
func (r Role) Includes(other Role) bool {
	switch {
	case other == Nobody || r == other:
		return true
	case other == Worker:
		return r == Operator || r == Admin
	case r == Worker:
		return false
	}
	return r > other
}

// Anonymous is the name of callers that gave none.
const Anonymous = "anonymous"

// Caller is who sent a request.
type Caller struct {
	// Name of their token, or as Config.Authorize named them; else Anonymous.
	Name string
	Role Role
	// Peer: another node of the cluster sent it, perhaps on behalf of the one
	// named.
	Peer bool
}

// identity is a Caller, or why there is none.
type identity struct {
	caller Caller
	err    error
}

type contextKey struct{}

// With gives a context in which From finds the caller.
func With(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, contextKey{}, identity{caller: c})
}

// From gives the caller of a request; the zero Caller where none is known, as in
// the engine's own work.
func From(ctx context.Context) Caller {
	id, _ := ctx.Value(contextKey{}).(identity)
	return id.caller
}

// Refusal is why a caller that showed something to prove itself was not
// believed; nil if it was, or showed nothing.
func Refusal(ctx context.Context) error {
	id, _ := ctx.Value(contextKey{}).(identity)
	return id.err
}
