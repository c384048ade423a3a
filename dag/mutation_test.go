package dag_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/dag/dagtest"
)

// TestMutations breaks one rule at a time: the cases or a property must notice.
// Not parallel: the broken rule is seen by the whole package.
func TestMutations(t *testing.T) {
	cases, err := dagtest.ParseCases(table)
	if err != nil {
		t.Fatal(err)
	}
	if seen := noticed(cases, 50); seen != "" {
		t.Fatalf("without a fault: %s", seen)
	}
	for f := 1; f < dag.Faults; f++ {
		restore := dag.Plant(f)
		seen := noticed(cases, 2_000)
		restore()
		if seen == "" {
			t.Errorf("nobody notices fault %d", f)
		} else {
			t.Logf("fault %d is noticed by %s", f, seen)
		}
	}
}

// noticed runs the cases, then the properties on so many seeds each, and names
// the first that fails.
func noticed(cases []dagtest.Case, seeds uint64) string {
	var by []string
	for _, c := range cases {
		if err := guarded(func() error { return errors.Join(runCase(c, 0), runCase(c, 1)) }); err != nil {
			by = append(by, c.Name)
		}
	}
	if len(by) > 0 {
		return fmt.Sprintf("%d cases (%s)", len(by), strings.Join(by[:min(len(by), 3)], ", "))
	}
	properties := []struct {
		name  string
		holds func(intn) error
	}{
		{"model", followsModel}, {"cascades", cascadesAgree}, {"retries", retriesAmongCascades},
		{"ends", endsInEveryOrder}, {"waits", endsAfterWaits}, {"mended", mends}, {"cycles", cyclesAreExact},
		{"growth", grows}, {"together", togetherIsInTurn},
	}
	for seed := range seeds {
		for _, p := range properties {
			source := rand.New(rand.NewPCG(seed, 1))
			if err := guarded(func() error { return p.holds(source.IntN) }); err != nil {
				return fmt.Sprintf("property %s, seed %d", p.name, seed)
			}
		}
	}
	return ""
}

// guarded counts a panic as noticing.
func guarded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return f()
}
