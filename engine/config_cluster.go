package engine

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"

	"github.com/heddle-io/heddle/raftsched"
)

// maxExpect is the largest cluster that is begun at once: each further voter
// makes every grant slower.
const maxExpect = 9

// plainID is what a node that others know may be called: it stands in
// certificates and addresses.
var plainID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// validateCluster checks what concerns the network and other nodes.
func (c Config) validateCluster(fault func(format string, args ...any)) {
	if c.Listen != "" {
		c.validateListen(fault)
	} else {
		for _, f := range []struct {
			name  string
			given bool
		}{
			{"Advertise", c.Advertise != ""}, {"Peers", len(c.Peers) > 0}, {"ClusterExpect", c.ClusterExpect != 0},
			{"TLSCert", c.TLSCert != "" || c.TLSKey != "" || c.TLSCA != ""},
		} {
			if f.given {
				fault("%s: set, but Listen is empty: other nodes reach this one at its own address only", f.name)
			}
		}
	}
	if c.Advertise != "" {
		if host, port, err := splitAddr(c.Advertise); err != nil {
			fault("Advertise: %w", err)
		} else if unspecified(host) || port == 0 {
			fault("Advertise: %q is no address that others can call; give the host:port by which they reach this node", c.Advertise)
		}
	}
	for i, p := range c.Peers {
		if host, port, err := splitAddr(p); err != nil {
			fault("Peers: %w", err)
		} else if unspecified(host) || port == 0 {
			fault("Peers: %q is no address that can be called; give the host:port of a node", p)
		} else if slices.Contains(c.Peers[:i], p) {
			fault("Peers: %q is named twice", p)
		}
	}
	if len(c.Peers) > 0 && c.Ephemeral {
		fault("Peers: an ephemeral engine forgets its votes and cannot be a member of a cluster; give it a DataDir")
	}
	switch own, known := c.ownAddr(); {
	case c.ClusterExpect < 0 || c.ClusterExpect > maxExpect:
		fault("ClusterExpect: %d is not within 0 to %d", c.ClusterExpect, maxExpect)
	case c.ClusterExpect > 1 && len(c.Peers) == 0:
		fault("ClusterExpect: %d nodes shall meet, but Peers is empty; name the addresses of all of them", c.ClusterExpect)
	case c.ClusterExpect > 1 && known && !slices.ContainsFunc(c.Peers, func(p string) bool { return p != own }):
		fault("Peers: %q is this node alone, but ClusterExpect is %d; name the addresses of the others", own, c.ClusterExpect)
	}
	if (len(c.Peers) > 0 || c.TLSCA != "") && !plainID.MatchString(c.NodeID) {
		fault("NodeID: %q: a node that others know is named by letters, digits, dots, dashes and underscores", c.NodeID)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		fault("TLSCert: certificate %q and key %q go together", c.TLSCert, c.TLSKey)
	}
	if c.TLSCA != "" && c.TLSCert == "" {
		fault("TLSCA: %q is set, but TLSCert is not", c.TLSCA)
	}
	if len(c.Peers) > 0 && c.TLSCert != "" && c.TLSCA == "" {
		fault("TLSCA: empty; nodes know each other by a certificate that this CA has signed")
	}
	if _, err := raftsched.RaftProfile(c.RaftProfile); err != nil {
		fault("RaftProfile: %w", err)
	}
}

func (c Config) validateListen(fault func(format string, args ...any)) {
	host, _, err := splitAddr(c.Listen)
	if err != nil {
		fault("Listen: %w", err)
		return
	}
	if !loopback(host) && c.TLSCert == "" && !c.AllowPlaintext {
		fault("Listen: %q can be reached from other machines, and everybody there could read and change everything; "+
			"set TLSCert and TLSKey, or AllowPlaintext where the network itself is trusted", c.Listen)
	}
	if unspecified(host) && c.Advertise == "" && len(c.Peers) > 0 {
		fault("Advertise: empty, and Listen is every address of this machine, %q; give the host:port by which the other nodes reach this one", c.Listen)
	}
}

// warnings are what may be meant so, but seldom is.
func (c Config) warnings() (w []string) {
	if n := c.ClusterExpect; n > 0 && n%2 == 0 {
		w = append(w, fmt.Sprintf("a cluster of %d nodes survives no more failures than one of %d", n, n-1))
	}
	return w
}

// ownAddr is the address of this node as far as the configuration tells it.
func (c Config) ownAddr() (addr string, known bool) {
	if c.Advertise != "" {
		return c.Advertise, true
	}
	host, port, err := splitAddr(c.Listen)
	return c.Listen, err == nil && port != 0 && !unspecified(host)
}

// advertised is the address of a node that listens at addr, "" if only people
// can tell it.
func (c Config) advertised(addr net.Addr) string {
	if c.Advertise != "" {
		return c.Advertise
	}
	host, _, err := splitAddr(c.Listen)
	if err != nil || unspecified(host) {
		return ""
	}
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return ""
	}
	return net.JoinHostPort(host, port)
}

func splitAddr(addr string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	if port, err = strconv.Atoi(p); err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%q: the port %q is not within 0 to 65535", addr, p)
	}
	return host, port, nil
}

func unspecified(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
