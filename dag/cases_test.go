package dag_test

import (
	_ "embed"
	"errors"
	"testing"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/dag/dagtest"
)

//go:embed testdata/cases.txt
var table string

func TestCases(t *testing.T) {
	cases, err := dagtest.ParseCases(table)
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) != 65 {
		t.Fatalf("the table has %d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			for _, limit := range []int32{0, 1} {
				if err := runCase(c, limit); err != nil {
					t.Errorf("cascade limit %d: %v", limit, err)
				}
			}
		})
	}
}

// runCase plays a case; with a limit, what is handed down comes in steps.
func runCase(c dagtest.Case, limit int32) error {
	var sim *dagtest.Sim
	return c.Run(func(g *dag.Graph) (dagtest.Engine, error) {
		var err error
		sim, err = dagtest.New(g, limit)
		return sim, err
	}, func() error {
		return errors.Join(sim.Check(), sim.Drain(1), sim.Check())
	})
}
