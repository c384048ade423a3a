// Package raftsched is the scheduler: it decides which worker runs which job,
// and makes that decision durable in the Raft log of the engine's cluster before
// anybody hears of it. What jobs exist and how they ended is in the database,
// behind the Store; this package never writes there.
//
// A Node has these goroutines. Raft's own ones drive the replicated state
// (package fsm). One follows the leadership and begins and ends reigns. With a
// network, another one finds the node its cluster and keeps what the cluster
// knows of it right. A reign, one leadership of this node, has a loop, the only
// owner of the dispatcher (package dispatch) and of everything volatile; a
// proposer of three goroutines; a steward that looks after the members; and
// short-lived ones for each read. All of a reign's goroutines have ended
// before the next reign begins. Callers of a Node talk to the loop by messages
// and wait in their own goroutines.
//
// DESIGN.md beside this file tells why each step of the protocol stands where it
// stands.
package raftsched
