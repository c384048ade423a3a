package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
)

// BuildEngine builds cmd/engine into a directory and gives its path. The go
// command must be there, and the module the working directory is in must be
// Heddle's.
func BuildEngine(ctx context.Context, dir string, flags ...string) (string, error) {
	path := filepath.Join(dir, "engine")
	args := append(append([]string{"build"}, flags...), "-o", path, "github.com/heddle-io/heddle/cmd/engine")
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the engine: %w: %s", err, out)
	}
	return path, nil
}

// Cluster is engine nodes that form one cluster.
type Cluster struct {
	// Engine is the path of cmd/engine, Dir where nodes keep their data and
	// logs, Postgres the database.
	Engine, Dir, Postgres string
	Net                   *Network
	// TTL of the sessions.
	TTL time.Duration
	// Args are further arguments of engine serve.
	Args []string
	// Disks gives the nodes disks that can be slow, where the system can have
	// them. The program must call Play then.
	Disks bool

	Nodes []*Node
	http  *http.Client
}

// Node is one engine node: a process at a time, an address for ever.
type Node struct {
	ID     string
	Listen string
	// Disk of the node; nil: a slow one cannot be had.
	Disk *Disk

	proxy *Proxy

	mu      sync.Mutex
	process *Process
}

// Process is the present one; nil before the first. It is not alive after a
// Kill, until the next Start.
func (n *Node) Process() *Process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

// URL is where everybody finds the node: at its proxy.
func (n *Node) URL() string { return "http://" + n.proxy.Addr() }

// Found makes the nodes of a cluster; none is started yet.
func (c *Cluster) Found(nodes int) error {
	c.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for i := range nodes {
		listen, err := FreeAddr()
		if err != nil {
			return err
		}
		n := &Node{ID: fmt.Sprintf("node%d", i+1), Listen: listen}
		if disk, err := NewDisk(); err == nil && c.Disks {
			n.Disk = disk
		}
		if n.proxy, err = c.Net.Proxy(n.ID, listen); err != nil {
			return err
		}
		c.Nodes = append(c.Nodes, n)
	}
	return nil
}

// URLs of all nodes.
func (c *Cluster) URLs() []string {
	urls := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		urls[i] = n.URL()
	}
	return urls
}

// Start starts the process of a node.
func (c *Cluster) Start(n *Node) error {
	peers := make([]string, len(c.Nodes))
	for i, peer := range c.Nodes {
		peers[i] = peer.proxy.Addr()
	}
	p, err := Start(Program{
		Name: n.ID, Path: c.Engine, Log: filepath.Join(c.Dir, n.ID+".log"), Disk: n.Disk,
		Args: append([]string{
			"serve", "--node-id", n.ID, "--data-dir", filepath.Join(c.Dir, n.ID), "--listen", n.Listen, "--advertise", n.proxy.Addr(),
			"--peers", strings.Join(peers, ","), "--cluster-expect", strconv.Itoa(len(c.Nodes)), "--postgres", c.Postgres,
			"--session-ttl", c.TTL.String(),
		}, c.Args...),
	})
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.process = p
	n.mu.Unlock()
	c.Net.Know(p.Pid(), n.ID)
	return nil
}

// StartAll starts all nodes and waits until one dispatches.
func (c *Cluster) StartAll(ctx context.Context) (*Node, error) {
	for _, n := range c.Nodes {
		if err := c.Start(n); err != nil {
			return nil, err
		}
	}
	return c.AwaitLeader(ctx, nil)
}

// Status is what a node says of itself, past the proxy.
func (c *Cluster) Status(ctx context.Context, n *Node) (*heddlev1.ClusterServiceStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	client := heddlev1connect.NewClusterServiceClient(c.http, "http://"+n.Listen)
	res, err := client.Status(ctx, connect.NewRequest(&heddlev1.ClusterServiceStatusRequest{Here: true}))
	if err != nil {
		return nil, fmt.Errorf("status of %s: %w", n.ID, err)
	}
	return res.Msg, nil
}

// Leader is the node that dispatches, by its own word; of several the one of
// the latest term. Nil: none.
func (c *Cluster) Leader(ctx context.Context) *Node {
	type answer struct {
		node *Node
		term uint64
	}
	answers := make(chan answer, len(c.Nodes))
	for _, n := range c.Nodes {
		go func() {
			a := answer{}
			if n.Process().Alive() {
				if s, err := c.Status(ctx, n); err == nil && s.GetState() == "leader" && s.GetDispatching() {
					a = answer{n, s.GetTerm()}
				}
			}
			answers <- a
		}()
	}
	var best answer
	for range c.Nodes {
		if a := <-answers; a.node != nil && (best.node == nil || a.term > best.term) {
			best = a
		}
	}
	return best.node
}

// AwaitLeader waits until another node than not dispatches.
func (c *Cluster) AwaitLeader(ctx context.Context, not *Node) (*Node, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if leader := c.Leader(ctx); leader != nil && leader != not {
			return leader, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("no node dispatches: %w", ctx.Err())
		}
	}
}

// AwaitMember waits until a node knows a leader.
func (c *Cluster) AwaitMember(ctx context.Context, n *Node) error {
	_, err := c.await(ctx, n, func(s *heddlev1.ClusterServiceStatusResponse) bool { return s.GetLeader() != "" })
	return err
}

// AwaitWell waits until a node knows a leader and suffers from nothing.
func (c *Cluster) AwaitWell(ctx context.Context, n *Node) (*heddlev1.ClusterServiceStatusResponse, error) {
	return c.await(ctx, n, func(s *heddlev1.ClusterServiceStatusResponse) bool {
		return s.GetLeader() != "" && s.GetTrouble() == ""
	})
}

func (c *Cluster) await(ctx context.Context, n *Node, ok func(*heddlev1.ClusterServiceStatusResponse) bool) (*heddlev1.ClusterServiceStatusResponse, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last *heddlev1.ClusterServiceStatusResponse
	for {
		s, err := c.Status(ctx, n)
		if err == nil {
			if ok(s) {
				return s, nil
			}
			last = s
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("%s is not well: %w: its leader is %q, its trouble %q", n.ID, ctx.Err(), last.GetLeader(), last.GetTrouble())
		}
	}
}

// Transfer hands the leadership to another node.
func (c *Cluster) Transfer(ctx context.Context, by *Node) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client := heddlev1connect.NewClusterServiceClient(c.http, "http://"+by.Listen)
	_, err := client.Transfer(ctx, connect.NewRequest(&heddlev1.ClusterServiceTransferRequest{}))
	return err
}

// Close ends all nodes: first in order, then by force.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range c.Nodes {
		if p := n.Process(); p.Alive() {
			if code, err := p.Terminate(20 * time.Second); err != nil {
				p.Kill()
				errs = append(errs, err)
			} else if code != 0 {
				errs = append(errs, fmt.Errorf("%s ended with code %d", n.ID, code))
			}
		}
	}
	return errors.Join(errs...)
}

// FreeAddr picks a loopback address below the ports that systems give to
// outgoing connections: nobody takes it while its process is down.
func FreeAddr() (string, error) {
	for range 100 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+rand.IntN(10_000)))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr, nil
		}
	}
	return "", errors.New("no free port")
}
