package chaos

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// CanTellLinks: this system tells whose a connection is, so that single links
// can be cut.
const CanTellLinks = true

// socketOwner gives the process, of those in pids, whose socket is at near and
// connected to far; 0: none.
func socketOwner(near, far *net.TCPAddr, pids map[int]string) int {
	inode := socketInode(near, far)
	if inode == "" {
		return 0
	}
	want := "socket:[" + inode + "]"
	for pid := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
		files, err := os.ReadDir(dir)
		if err != nil {
			continue // it has ended
		}
		for _, f := range files {
			if name, err := os.Readlink(filepath.Join(dir, f.Name())); err == nil && name == want {
				return pid
			}
		}
	}
	return 0
}

// socketInode finds a connected TCP socket in the kernel's table.
func socketInode(near, far *net.TCPAddr) string {
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return ""
	}
	defer f.Close()
	local, remote := hexAddr(near), hexAddr(far)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// sl, local, remote, state, queues, timer, retransmits, uid, timeout, inode
		if !strings.Contains(lines.Text(), local) {
			continue
		}
		field := strings.Fields(lines.Text())
		if len(field) > 9 && field[1] == local && field[2] == remote {
			return field[9]
		}
	}
	return ""
}

// hexAddr writes an IPv4 address as that table does.
func hexAddr(a *net.TCPAddr) string {
	ip := a.IP.To4()
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], a.Port)
}
