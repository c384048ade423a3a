// Package faults holds tests that hurt a whole Heddle: engines and workers are
// processes of their own, killed with -9, on a real PostgreSQL that is killed
// too, filled up, or told another time. internal/oracle judges afterwards
// whether every promise was kept, from the journals that the workers wrote and
// from the tables. Clusters of several engines are hurt in internal/chaos.
//
// The test binary is all of these processes: it starts itself, and an
// environment variable says which part the child plays.
package faults
