package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// node is one engine process.
type node struct {
	cmd *exec.Cmd
	url string
}

// startNode runs the engine with its data in dir until stop.
func startNode(o options, dsn, dir string, args ...string) (*node, error) {
	args = append([]string{"serve", "--postgres", dsn, "--data-dir", dir, "--log-level", "warn"}, args...)
	n := &node{cmd: exec.Command(o.engine, args...)}
	n.cmd.Stderr = os.Stderr
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for n.url == "" && lines.Scan() {
		if at := strings.Index(lines.Text(), "http://127.0.0.1:"); at >= 0 {
			n.url = strings.TrimSuffix(strings.Fields(lines.Text()[at:])[0], "/")
		}
	}
	if n.url == "" {
		return nil, errors.Join(errors.New("the engine did not start"), n.cmd.Wait())
	}
	go io.Copy(io.Discard, out) // until the engine ends
	return n, nil
}

func (n *node) stop() {
	_ = n.cmd.Process.Signal(os.Interrupt) // if it has ended, Wait tells
	if err := n.cmd.Wait(); err != nil {
		slog.Error("engine process", "error", err)
	}
}

// startCluster runs count nodes on loopback and waits until one of them leads.
func startCluster(ctx context.Context, o options, dsn, dir string, count int) (nodes []*node, err error) {
	addrs := make([]string, count)
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		addrs[i] = l.Addr().String()
		defer l.Close()
		if err := l.Close(); err != nil {
			return nil, err
		}
	}
	for i, addr := range addrs {
		n, err := startNode(o, dsn, filepath.Join(dir, fmt.Sprint(i)), "--node-id", fmt.Sprintf("node%d", i+1), "--listen", addr,
			"--peers", strings.Join(addrs, ","), "--cluster-expect", fmt.Sprint(count))
		if err != nil {
			return nodes, err
		}
		nodes = append(nodes, n)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		res, err := http.Get(nodes[0].url + "/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nodes, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nodes, ctx.Err()
		}
	}
}

// watchPages holds what open pages hold: a stream each of the overview, as fast
// as the engine sends. It returns when ctx has ended and all are closed.
func watchPages(ctx context.Context, url string, count int) {
	// A message of the Connect protocol: flags, length, JSON.
	const ask = `{"view":{"overview":true}}`
	body := append([]byte{0, 0, 0, 0, byte(len(ask))}, ask...)
	var wg sync.WaitGroup
	for range count {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/heddle.v1.LiveService/Watch", strings.NewReader(string(body)))
			if err != nil {
				slog.Error("page", "error", err)
				return
			}
			req.Header.Set("Content-Type", "application/connect+json")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				if ctx.Err() == nil {
					slog.Error("page", "error", err)
				}
				return
			}
			defer res.Body.Close()
			if n, err := io.Copy(io.Discard, res.Body); ctx.Err() == nil {
				slog.Error("page's stream ended", "status", res.Status, "bytes", n, "error", err)
			}
		})
	}
	wg.Wait()
}
