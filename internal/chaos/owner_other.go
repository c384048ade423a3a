//go:build unix && !linux

package chaos

import "net"

// CanTellLinks: this system does not tell whose a connection is. Only all links
// to a process can be cut, not those from it.
const CanTellLinks = false

func socketOwner(_, _ *net.TCPAddr, _ map[int]string) int { return 0 }
