package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/heddle-io/heddle/internal/oracle"
)

// fault is one way to hurt a world. Begin does it; what it gives ends it, after
// the time that lasts draws.
type fault struct {
	name string
	// sort of what it touches: only faults of different sorts go together.
	sort string
	// weight of being drawn.
	weight int
	lasts  func(*rand.Rand) time.Duration
	begin  func(context.Context, *World, *rand.Rand) (end func(context.Context) error, what string, err error)
}

// upTo draws a duration from low to high.
func upTo(low, high time.Duration) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration { return low + time.Duration(r.Int64N(int64(high-low)+1)) }
}

func atOnce(*rand.Rand) time.Duration { return 0 }

// leader gives the node that leads, or any.
func (w *World) leader(ctx context.Context, r *rand.Rand) *Node {
	if n := w.Cluster.Leader(ctx); n != nil {
		return n
	}
	return w.Cluster.Nodes[r.IntN(len(w.Cluster.Nodes))]
}

// follower gives a node that does not lead.
func (w *World) follower(ctx context.Context, r *rand.Rand) *Node {
	leader, n := w.leader(ctx, r), len(w.Cluster.Nodes)
	at := r.IntN(n)
	if w.Cluster.Nodes[at] == leader {
		at = (at + 1) % n
	}
	return w.Cluster.Nodes[at]
}

type picks func(*World, context.Context, *rand.Rand) *Node

func kill(pick picks) func(context.Context, *World, *rand.Rand) (func(context.Context) error, string, error) {
	return func(ctx context.Context, w *World, r *rand.Rand) (func(context.Context) error, string, error) {
		n := pick(w, ctx, r)
		w.killNode(n)
		return func(context.Context) error { return w.revive(n) }, n.ID, nil
	}
}

func stop(pick picks) func(context.Context, *World, *rand.Rand) (func(context.Context) error, string, error) {
	return func(ctx context.Context, w *World, r *rand.Rand) (func(context.Context) error, string, error) {
		n := pick(w, ctx, r)
		p := n.Process()
		w.Fault(oracle.FaultStop, n.ID)
		p.Stop()
		return func(context.Context) error {
			p.Continue()
			w.Healed(oracle.FaultStop, n.ID)
			return nil
		}, n.ID, nil
	}
}

// cut puts rules on the network. The name says for the oracle who is cut off.
func cut(rules func(context.Context, *World, *rand.Rand) (target string, links []link, rule Rule)) func(context.Context, *World, *rand.Rand) (func(context.Context) error, string, error) {
	return func(ctx context.Context, w *World, r *rand.Rand) (func(context.Context) error, string, error) {
		target, links, rule := rules(ctx, w, r)
		w.Fault(oracle.FaultCut, target)
		for _, l := range links {
			w.Net.Set(l.from, l.to, rule)
		}
		what := target
		if rule.Reset {
			what += " (reset)"
		}
		return func(context.Context) error {
			for _, l := range links {
				w.Net.Set(l.from, l.to, Rule{})
			}
			w.Healed(oracle.FaultCut, target)
			return nil
		}, what, nil
	}
}

// both directions between two.
func both(a, b string) []link { return []link{{a, b}, {b, a}} }

// silence is mostly silent, sometimes a reset.
func silence(r *rand.Rand) Rule {
	if r.IntN(4) == 0 {
		return Rule{Reset: true}
	}
	return Rule{Cut: true}
}

// catalogue of faults, as the TTL and the standby of the world allow them.
func catalogue(s Setup) []fault {
	leader := func(w *World, ctx context.Context, r *rand.Rand) *Node { return w.leader(ctx, r) }
	follower := func(w *World, ctx context.Context, r *rand.Rand) *Node { return w.follower(ctx, r) }
	// A worker that is silent for less than half a TTL must not be lost.
	short := upTo(100*time.Millisecond, s.TTL*4/10)
	list := []fault{
		{"kill -9 the leader", "nodes", 4, upTo(0, 3*time.Second), kill(leader)},
		{"kill -9 a follower", "nodes", 2, upTo(0, 3*time.Second), kill(follower)},
		{"stop the leader", "nodes", 3, upTo(0, 5*time.Second), stop(leader)},
		{"stop a follower", "nodes", 1, upTo(0, 5*time.Second), stop(follower)},
		{"isolate the leader", "links", 3, upTo(time.Second, 6*time.Second), cut(func(ctx context.Context, w *World, r *rand.Rand) (string, []link, Rule) {
			n := w.leader(ctx, r).ID
			return n, both(n, Everyone), silence(r)
		})},
		{"isolate a follower", "links", 1, upTo(time.Second, 6*time.Second), cut(func(ctx context.Context, w *World, r *rand.Rand) (string, []link, Rule) {
			n := w.follower(ctx, r).ID
			return n, both(n, Everyone), silence(r)
		})},
		{"cut the leader off its peers", "links", 3, upTo(time.Second, 6*time.Second), cut(func(ctx context.Context, w *World, r *rand.Rand) (string, []link, Rule) {
			n := w.leader(ctx, r)
			var links []link
			for _, peer := range w.Cluster.Nodes {
				if peer != n {
					links = append(links, both(n.ID, peer.ID)...)
				}
			}
			return n.ID, links, silence(r)
		})},
		{"nothing from the leader arrives", "links", 2, upTo(time.Second, 6*time.Second), cut(func(ctx context.Context, w *World, r *rand.Rand) (string, []link, Rule) {
			n := w.leader(ctx, r).ID
			return n, []link{{n, Everyone}}, Rule{Cut: true}
		})},
		{"nothing reaches the leader", "links", 2, upTo(time.Second, 6*time.Second), cut(func(ctx context.Context, w *World, r *rand.Rand) (string, []link, Rule) {
			n := w.leader(ctx, r).ID
			return n, []link{{Everyone, n}}, Rule{Cut: true}
		})},
		{"cut a follower off another one", "links", 1, upTo(time.Second, 6*time.Second), cut(func(ctx context.Context, w *World, r *rand.Rand) (string, []link, Rule) {
			n := w.leader(ctx, r)
			var rest []string
			for _, peer := range w.Cluster.Nodes {
				if peer != n {
					rest = append(rest, peer.ID)
				}
			}
			return rest[0], both(rest[0], rest[1]), Rule{Cut: true}
		})},
		{"cut the leader off Postgres", "links", 3, upTo(500*time.Millisecond, 14*time.Second), cut(func(ctx context.Context, w *World, r *rand.Rand) (string, []link, Rule) {
			n := w.leader(ctx, r).ID
			return n, both(n, PostgresName), silence(r)
		})},
		{"cut everyone off Postgres", "links", 1, upTo(500*time.Millisecond, 4*time.Second), cut(func(_ context.Context, _ *World, r *rand.Rand) (string, []link, Rule) {
			return PostgresName, both(PostgresName, Everyone), silence(r)
		})},
		{"cut a worker off", "links", 2, short, cut(func(_ context.Context, w *World, r *rand.Rand) (string, []link, Rule) {
			n := w.worker(r).Name
			return n, both(n, Everyone), silence(r)
		})},
		{"cut a worker off until it is lost", "links", 1, upTo(s.TTL*13/10, s.TTL*16/10), cut(func(_ context.Context, w *World, r *rand.Rand) (string, []link, Rule) {
			n := w.worker(r).Name
			return n, both(n, Everyone), Rule{Cut: true}
		})},
		{"cut a worker off the leader", "links", 2, short, cut(func(ctx context.Context, w *World, r *rand.Rand) (string, []link, Rule) {
			n := w.worker(r).Name
			return n, both(n, w.leader(ctx, r).ID), silence(r)
		})},
		{"slow links of the leader", "links", 1, upTo(time.Second, 6*time.Second), cut(func(ctx context.Context, w *World, r *rand.Rand) (string, []link, Rule) {
			n := w.leader(ctx, r).ID
			return n, both(n, Everyone), Rule{Delay: upTo(5*time.Millisecond, 60*time.Millisecond)(r)}
		})},
		{"stop a worker", "workers", 2, short, func(_ context.Context, w *World, r *rand.Rand) (func(context.Context) error, string, error) {
			p := w.worker(r)
			w.Fault(oracle.FaultStop, p.Name)
			p.Stop()
			return func(context.Context) error {
				p.Continue()
				w.Healed(oracle.FaultStop, p.Name)
				return nil
			}, p.Name, nil
		}},
		{"kill -9 a worker", "workers", 2, upTo(0, time.Second), func(_ context.Context, w *World, r *rand.Rand) (func(context.Context) error, string, error) {
			p := w.worker(r)
			w.killWorker(p)
			return func(context.Context) error { _, err := w.Hire(); return err }, p.Name, nil
		}},
		{"end a worker in order", "workers", 1, atOnce, func(_ context.Context, w *World, r *rand.Rand) (func(context.Context) error, string, error) {
			p := w.worker(r)
			return func(context.Context) error { return w.endWorker(p) }, p.Name, nil
		}},
		{"kill -9 the submitter", "submitter", 1, upTo(0, time.Second), func(_ context.Context, w *World, _ *rand.Rand) (func(context.Context) error, string, error) {
			w.mu.Lock()
			p := w.submitter
			w.submits = false
			w.mu.Unlock()
			p.Kill()
			return func(context.Context) error { return w.Submit() }, p.Name, nil
		}},
		{"kill -9 Postgres", "postgres", 2, upTo(0, 2*time.Second), func(_ context.Context, w *World, _ *rand.Rand) (func(context.Context) error, string, error) {
			w.Fault(oracle.FaultKill, PostgresName)
			w.Postgres.Kill()
			return func(ctx context.Context) error {
				err := w.Postgres.Launch(ctx)
				w.Healed(oracle.FaultKill, PostgresName)
				return err
			}, "", nil
		}},
		{"end every node in turn", "nodes", 1, atOnce, func(ctx context.Context, w *World, _ *rand.Rand) (func(context.Context) error, string, error) {
			return func(ctx context.Context) error {
				for _, n := range w.Cluster.Nodes {
					if err := w.restart(ctx, n); err != nil {
						return err
					}
				}
				return nil
			}, "", nil
		}},
		{"hand the leadership over", "nodes", 1, atOnce, func(ctx context.Context, w *World, r *rand.Rand) (func(context.Context) error, string, error) {
			n := w.leader(ctx, r)
			_ = w.Cluster.Transfer(ctx, n) // it may lead no longer
			return func(context.Context) error { return nil }, n.ID, nil
		}},
		{"kill -9 all nodes", "nodes", 1, upTo(0, 2*time.Second), func(_ context.Context, w *World, _ *rand.Rand) (func(context.Context) error, string, error) {
			for _, n := range w.Cluster.Nodes {
				w.killNode(n)
			}
			return func(context.Context) error {
				var errs []error
				for _, n := range w.Cluster.Nodes {
					errs = append(errs, w.revive(n))
				}
				return errors.Join(errs...)
			}, "", nil
		}},
		{"kill -9 two nodes", "nodes", 1, upTo(time.Second, 4*time.Second), func(_ context.Context, w *World, r *rand.Rand) (func(context.Context) error, string, error) {
			dead := r.Perm(len(w.Cluster.Nodes))[:2]
			for _, i := range dead {
				w.killNode(w.Cluster.Nodes[i])
			}
			return func(context.Context) error {
				return errors.Join(w.revive(w.Cluster.Nodes[dead[0]]), w.revive(w.Cluster.Nodes[dead[1]]))
			}, "", nil
		}},
	}
	if _, err := NewDisk(); err == nil {
		list = append(list, fault{"slow disks", "disks", 2, upTo(2*time.Second, 6*time.Second), func(ctx context.Context, w *World, r *rand.Rand) (func(context.Context) error, string, error) {
			slow := w.Cluster.Nodes
			if r.IntN(2) == 0 {
				slow = []*Node{w.leader(ctx, r)}
			}
			by := upTo(10*time.Millisecond, 400*time.Millisecond)(r)
			for _, n := range slow {
				w.Fault("slow", n.ID)
				n.Disk.Slow(by)
			}
			return func(context.Context) error {
				for _, n := range slow {
					n.Disk.Slow(0)
					w.Healed("slow", n.ID)
				}
				return nil
			}, fmt.Sprintf("%d of them by %v", len(slow), by.Round(time.Millisecond)), nil
		}})
	}
	if s.Standby {
		list = append(list, fault{"kill -9 the standby", "postgres", 1, upTo(0, 3*time.Second), func(_ context.Context, w *World, _ *rand.Rand) (func(context.Context) error, string, error) {
			w.Fault(oracle.FaultKill, "standby")
			w.Postgres.KillStandby()
			return func(ctx context.Context) error {
				err := w.Postgres.LaunchStandby(ctx)
				w.Healed(oracle.FaultKill, "standby")
				return err
			}, "", nil
		}}, fault{"Postgres fails over", "postgres", 2, upTo(time.Second, 4*time.Second), failOver})
	}
	return list
}

// failOver promotes the standby. In half of the cases the server before goes
// on, and the engines' connections to it, until the end.
func failOver(ctx context.Context, w *World, r *rand.Rand) (func(context.Context) error, string, error) {
	if !w.Postgres.HasStandby() {
		return func(context.Context) error { return nil }, "no standby", nil
	}
	alive := r.IntN(2) == 0
	w.Fault("failover", PostgresName)
	if err := w.Postgres.Failover(ctx, alive); err != nil {
		return nil, "", err
	}
	what := "the old server is dead"
	if alive {
		what = "the old server is alive"
	}
	return func(ctx context.Context) error {
		err := w.Postgres.Bury(ctx)
		if err == nil {
			err = w.Postgres.AddStandby(ctx)
		}
		w.Healed("failover", PostgresName)
		return err
	}, what, nil
}

// restart ends a node in order and starts it again, and waits until it is in
// the cluster.
func (w *World) restart(ctx context.Context, n *Node) error {
	w.Fault("restart", n.ID)
	defer w.Healed("restart", n.ID)
	p := n.Process()
	w.expect(p)
	code, err := p.Terminate(30 * time.Second)
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("%s ended with code %d when it was asked to end", n.ID, code)
	}
	if err := w.Cluster.Start(n); err != nil {
		return err
	}
	return w.Cluster.AwaitMember(ctx, n)
}

// endWorker ends a worker in order and hires another one before.
func (w *World) endWorker(p *Process) error {
	if _, err := w.Hire(); err != nil {
		return err
	}
	w.mu.Lock()
	for i, q := range w.workers {
		if q == p {
			w.workers = append(w.workers[:i:i], w.workers[i+1:]...)
			break
		}
	}
	w.mu.Unlock()
	code, err := p.Terminate(30 * time.Second)
	w.Boss.Write(oracle.Event{What: oracle.Left, Target: p.Name})
	if err == nil && code != 0 {
		err = fmt.Errorf("%s ended with code %d when it was asked to end", p.Name, code)
	}
	return err
}
