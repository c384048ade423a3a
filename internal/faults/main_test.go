package faults

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/heddle-io/heddle/internal/pgtest"
)

// The parts that a child of the test binary plays.
const (
	partEnv   = "HEDDLE_FAULTS_PART"
	configEnv = "HEDDLE_FAULTS_CONFIG"

	partEngine = "engine"
	partWorker = "worker"
)

func TestMain(m *testing.M) {
	switch part := os.Getenv(partEnv); part {
	case "":
	case partEngine:
		os.Exit(engineMain())
	case partWorker:
		os.Exit(workerMain())
	default:
		fmt.Fprintf(os.Stderr, "no part is called %q\n", part)
		os.Exit(2)
	}
	code := pgtest.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
