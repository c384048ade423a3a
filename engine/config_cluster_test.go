package engine

import (
	"net"
	"strings"
	"testing"
)

func TestClusterConfig(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		says   string // "": accepted
	}{
		{"one node", func(c *Config) {}, ""},
		{"three nodes", func(c *Config) {
			c.Peers, c.ClusterExpect = []string{"127.0.0.1:7400", "127.0.0.1:7401", "127.0.0.1:7402"}, 3
		}, ""},
		{"joins through any member", func(c *Config) { c.Peers = []string{"engine-1.example:7400"} }, ""},
		{"everywhere, with all that takes", func(c *Config) {
			c.Listen, c.Advertise, c.Peers = "0.0.0.0:7400", "a.example:7400", []string{"b.example:7400"}
			c.TLSCert, c.TLSKey, c.TLSCA = "cert", "key", "ca"
		}, ""},
		{"everywhere in plaintext, on purpose", func(c *Config) { c.Listen, c.AllowPlaintext = ":7400", true }, ""},
		{"a port by name is none", func(c *Config) { c.Listen = "127.0.0.1:http" }, `Listen: "127.0.0.1:http": the port "http"`},
		{"everywhere in plaintext", func(c *Config) { c.Listen = "0.0.0.0:7400" }, `Listen: "0.0.0.0:7400" can be reached from other machines`},
		{"everywhere in short", func(c *Config) { c.Listen = ":7400" }, "set TLSCert and TLSKey, or AllowPlaintext"},
		{"by name", func(c *Config) { c.Listen = "engine.example:7400" }, "can be reached from other machines"},
		{"no address to tell", func(c *Config) {
			c.Listen, c.AllowPlaintext, c.Peers = "0.0.0.0:7400", true, []string{"b:7400"}
		}, "Advertise: empty"},
		{"advertised everywhere", func(c *Config) { c.Advertise = "0.0.0.0:7400" }, `Advertise: "0.0.0.0:7400" is no address that others can call`},
		{"advertised anywhere", func(c *Config) { c.Advertise = "127.0.0.1:0" }, "Advertise:"},
		{"advertised without a port", func(c *Config) { c.Advertise = "127.0.0.1" }, "Advertise:"},
		{"a peer without a port", func(c *Config) { c.Peers = []string{"127.0.0.1"} }, "Peers:"},
		{"a peer twice", func(c *Config) { c.Peers = []string{"b:7400", "b:7400"} }, `Peers: "b:7400" is named twice`},
		{"a peer that is everywhere", func(c *Config) { c.Peers = []string{":7400"} }, `Peers: ":7400" is no address`},
		{"peers without a listener", func(c *Config) { c.Listen, c.Peers = "", []string{"b:7400"} }, "Peers: set, but Listen is empty"},
		{"expects without a listener", func(c *Config) { c.Listen, c.ClusterExpect = "", 1 }, "ClusterExpect: set, but Listen is empty"},
		{"certificate without a listener", func(c *Config) { c.Listen, c.TLSCert, c.TLSKey = "", "x", "y" }, "TLSCert: set, but Listen is empty"},
		{"an ephemeral member", func(c *Config) { c.Ephemeral, c.Peers = true, []string{"b:7400"} }, "Peers: an ephemeral engine"},
		{"expects others but names none", func(c *Config) { c.ClusterExpect = 3 }, "ClusterExpect: 3 nodes shall meet"},
		{"expects others but names itself", func(c *Config) { c.ClusterExpect, c.Peers = 3, []string{"127.0.0.1:7400"} }, "is this node alone"},
		{"expects too many", func(c *Config) { c.ClusterExpect, c.Peers = 10, []string{"b:7400"} }, "ClusterExpect: 10 is not within"},
		{"expects less than none", func(c *Config) { c.ClusterExpect = -1 }, "ClusterExpect: -1"},
		{"a name that no certificate has", func(c *Config) { c.NodeID, c.Peers = "node one", []string{"b:7400"} }, `NodeID: "node one"`},
		{"a name for one node alone", func(c *Config) { c.NodeID = "node one" }, ""},
		{"certificate without a key", func(c *Config) { c.TLSCert = "x" }, `TLSCert: certificate "x" and key "" go together`},
		{"CA without a certificate", func(c *Config) { c.TLSCA = "x" }, `TLSCA: "x" is set, but TLSCert is not`},
		{"peers without a CA", func(c *Config) { c.TLSCert, c.TLSKey, c.Peers = "x", "y", []string{"b:7400"} }, "TLSCA: empty"},
		{"an unknown profile", func(c *Config) { c.RaftProfile = "moon" }, `RaftProfile: raft profile "moon"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := DefaultConfig()
			config.Postgres, config.DataDir, config.Listen = "postgres://user@127.0.0.1/db", "/nowhere", "127.0.0.1:7400"
			c.change(&config)
			if config.Ephemeral {
				config.DataDir = ""
			}
			err := config.Validate()
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
		})
	}
}

func TestEvenClustersAreWarnedOf(t *testing.T) {
	for n, want := range map[int]int{0: 0, 1: 0, 2: 1, 3: 0, 4: 1, 5: 0} {
		if got := (Config{ClusterExpect: n}).warnings(); len(got) != want {
			t.Errorf("%d nodes: %q", n, got)
		}
	}
}

func TestAdvertised(t *testing.T) {
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}
	for _, c := range []struct{ listen, advertise, want string }{
		{"127.0.0.1:0", "", "127.0.0.1:9"},
		{"localhost:0", "", "localhost:9"},
		{"engine.example:9", "", "engine.example:9"},
		{"0.0.0.0:0", "", ""},
		{":0", "", ""},
		{"[::]:0", "", ""},
		{"[::1]:0", "", "[::1]:9"},
		{":0", "engine.example:1", "engine.example:1"},
	} {
		if got := (Config{Listen: c.listen, Advertise: c.advertise}).advertised(at); got != c.want {
			t.Errorf("listen %q, advertise %q: %q, want %q", c.listen, c.advertise, got, c.want)
		}
	}
}
