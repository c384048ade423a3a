//go:build unix && !linux

package chaos

import (
	"os"
	"time"
)

// Disk lets the syncs of a process wait, on Linux only.
type Disk struct{}

// NewDisk says that this system cannot have slow disks.
func NewDisk() (*Disk, error) { return nil, errNoFilter }

// Slow does nothing here.
func (*Disk) Slow(time.Duration) {}

// Syncs is always 0 here.
func (*Disk) Syncs() int64 { return 0 }

func (*Disk) wrap(string, []string, []string) (string, []string, []string, *os.File, error) {
	return "", nil, nil, nil, errNoFilter
}

const slowPart = "slow disk"

func playSlow() error { return errNoFilter }
