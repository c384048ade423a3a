//go:build unix && !linux

package chaos

import "syscall"

// dieWithParent keeps the signals of the terminal from the child; nothing here
// tells it that we died.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
