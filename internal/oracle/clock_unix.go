//go:build unix

package oracle

import "golang.org/x/sys/unix"

// monotonic reads the clock that all processes of the machine share and nobody
// sets.
func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic("read the monotonic clock: " + err.Error())
	}
	return t.Nano()
}
