// Package api serves Heddle's RPC API over HTTP: Connect, gRPC, gRPC-Web and
// plain JSON on one port. It turns messages into values of the engine and
// back, refuses what is not sound, lays the leases over what the database
// says, and maps errors to codes. It decides nothing and keeps nothing: what
// it stands on is declared in deps.go and implemented by package engine.
//
// It starts no goroutine of its own; everything runs in the goroutine of its
// request and ends with it.
package api
