// Package process names the running process, so that an engine can tell a
// worker that lives in its own process from one that outlives it.
package process

import (
	"crypto/rand"
	"encoding/hex"
)

var id = func() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}()

// ID is random, drawn once per process: 32 hexadecimal digits. Workers put it
// before the id they open their sessions with.
func ID() string { return id }
