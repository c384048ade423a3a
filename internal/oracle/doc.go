// Package oracle judges whether a Heddle has kept its promises. It knows
// nothing of the engine's code: it reads the tables of a database, at any
// moment, and the logs that submitters, workers and whoever hurts them have
// written. What it finds are violations of the invariants of ARCHITECTURE.md:
//
//   - I1, I2, I3, I12 by SQL, in one snapshot ([Check]).
//   - I4, I5, I7, I8, I9 by both together ([Judge]). A job's row counts the
//     outcomes that were ever written for it (its turn), and every run is under
//     a lease of its own: more leases that were started than outcomes means that
//     a job ran twice, whatever the clocks say. Acknowledged reports that have
//     no outcome were lost.
//   - I6 by triggers of its own and the commit timestamps of Postgres
//     ([WatchFence]).
//   - I10 by the log ([Judge]): the time from the acknowledgement of a lone job
//     to its start, wherever a worker was free and nothing was broken.
//
// I11, that all nodes have the same replicated state, is compared by the nodes
// themselves, which stop when they differ. I13 speaks of schedules, which are
// not built yet.
//
// Logs may be longer than memory: they are read several times, each time for
// the share of the workflows that fits. The package starts no goroutine.
package oracle
