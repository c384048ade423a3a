package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A process ends, whatever its engine waits for.
func TestStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		frozen := make(chan struct{})
		defer close(frozen)
		begin := time.Now()
		err := stopWithin(t.Context(), stopTime, func(ctx context.Context) error {
			<-ctx.Done()
			<-frozen // a COMMIT that nobody answers
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), "given up") {
			t.Errorf("a stop that does not end: %v", err)
		}
		if d := time.Since(begin); d != stopTime+stopGrace {
			t.Errorf("given up after %v", d)
		}
		failed := errors.New("failed")
		if err := stopWithin(t.Context(), stopTime, func(context.Context) error { return failed }); !errors.Is(err, failed) {
			t.Errorf("a stop that fails: %v", err)
		}
	})
}
