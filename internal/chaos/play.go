package chaos

import (
	"fmt"
	"os"
)

// partEnv says which part the process plays; unset: the program's own.
const partEnv = "HEDDLE_CHAOS_PART"

// The parts of this package's own workload.
const (
	workerPart    = "worker"
	submitterPart = "submitter"
)

// Play plays the part of a child process, if this is one, and does not return
// then. Programs call it first.
func Play() {
	var err error
	switch part := os.Getenv(partEnv); part {
	case "":
		return
	case slowPart:
		err = playSlow()
	case workerPart:
		err = playWorker()
	case submitterPart:
		err = playSubmitter()
	default:
		err = fmt.Errorf("no part is called %q", part)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(0)
}
