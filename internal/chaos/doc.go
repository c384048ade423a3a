// Package chaos runs a whole Heddle on one machine and hurts it: three engine
// processes, workers, submitters, and a pair of Postgres servers of which one
// follows the other synchronously. The engines are the real cmd/engine, built
// for the occasion. Every link goes through a TCP proxy of this process:
//
//	workers, submitters, engines ──▶ proxy of each engine ──▶ engine (API and Raft)
//	engines                      ──▶ proxy of Postgres    ──▶ whichever server is primary
//
// Engines advertise their proxies, so that a proxy sees all that others want of
// a node, Raft included. Whose connection it is the proxy finds out from the
// operating system (on Linux: the socket's owner), which is how one link can be
// cut, in one direction or both, without root and without a word of it in the
// product. A cut link is silent: bytes wait, as they do for TCP when packets are
// dropped, and go on when it is healed. A link may be made to reset instead.
//
// Slow disks are made by a seccomp filter of the engine's process that hands
// its fsync calls to a supervisor here, which lets them wait (Linux, no root).
//
// The programs that use the package call [Play] first in main or TestMain: a
// child process may be the same binary in another part.
package chaos
