//go:build !unix

package oracle

import "time"

// monotonic is the wall clock where the processes of a machine share no other.
func monotonic() int64 { return time.Now().UnixNano() }
