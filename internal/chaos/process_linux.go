package chaos

import "syscall"

// dieWithParent makes the kernel kill the child when we die, however we die.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
