// Package faults holds tests that hurt a whole Heddle: engines and workers are
// processes of their own, killed with -9, on a real PostgreSQL that is killed
// too, filled up, or told another time. What they prove is checked afterwards
// by an oracle that knows nothing of the engine's code: it reads the event log
// that the workers wrote, and the tables.
//
//   - I1, I3: one row per job; the counters of batches equal their members.
//   - I4, I5: no continuation before its parents, no job on two workers at once.
//   - I7: attempts counted = reported failures + lost sessions.
//   - I8, I9: what was acknowledged has ended; no acknowledged end ran again.
//   - I12: nothing is blocked for ever.
//
// The test binary is all of these processes: it starts itself, and an
// environment variable says which part the child plays.
package faults
