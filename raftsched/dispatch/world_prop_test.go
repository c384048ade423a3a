package dispatch

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// smallConfig draws small bounds, so that windows overflow, shrink and are forgotten all the time.
func smallConfig(choose func(int, string) int) Config {
	c := Config{
		Window:     2 + choose(8, "window"),
		MaxRows:    20 + choose(60, "max rows"),
		MaxStreams: 100,
		Horizon:    1_000_000,
	}
	if choose(8, "defaults") == 0 {
		return Config{}
	}
	if choose(3, "few streams") == 0 {
		c.MaxStreams = 6
	}
	if choose(3, "short memory") == 0 {
		c.MaxPast = 3
	}
	return c
}

func TestNothingIsRunTwiceOrLost(t *testing.T) {
	matched := 0
	rapid.Check(t, func(rt *rapid.T) {
		choose := func(n int, what string) int { return rapid.IntRange(0, n-1).Draw(rt, what) }
		w := newWorld(choose, smallConfig(choose))
		if err := w.live(200); err != nil {
			rt.Fatal(err)
		}
		matched += w.sent
	})
	if matched == 0 {
		t.Fatal("no history matched anything")
	}
}

func history(seed uint64, steps int, f fault) error {
	r := rand.New(rand.NewPCG(seed, 1))
	choose := func(n int, _ string) int { return r.IntN(n) }
	w := newWorld(choose, smallConfig(choose))
	w.d.fault = f
	return w.live(steps)
}

func TestLongHistories(t *testing.T) {
	for seed := range uint64(40) {
		if err := history(seed, 3_000, faultNone); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// Each rule, switched off, is noticed by the histories.
func TestFaultsAreNoticed(t *testing.T) {
	for f, name := range map[fault]string{faultNoMarks: "marks", faultNoSweeps: "sweeps", faultNoHolds: "holds"} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(300) {
				if err := history(seed, 400, f); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("300 histories noticed nothing")
		})
	}
}
