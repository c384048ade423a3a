package raftsched

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// The keys under which a node keeps, beside Raft's own, what it must not forget.
var (
	keyNode = []byte("heddle/node") // its id
	keyBond = []byte("heddle/bond")
)

// bond ties a node to a cluster. Its Raft listens to that cluster's members and
// to nobody else, so a node can never serve in two.
type bond struct {
	// cluster it belongs to; zero: none.
	cluster fsm.WorkflowID
	// founding, while the cluster is only promised: those who begin it, sorted.
	// The first is the founder, the only one who carries the beginning out. A
	// cluster's id is drawn for each try, so the founder is the only one, too,
	// who can say that a promise is void: by making another.
	founding []string
}

func (b bond) none() bool { return b.cluster == fsm.WorkflowID{} }

func (b bond) founder() string {
	if len(b.founding) == 0 {
		return ""
	}
	return b.founding[0]
}

func (b bond) encode() []byte {
	out := append([]byte{1}, b.cluster[:]...)
	out = binary.AppendUvarint(out, uint64(len(b.founding)))
	for _, id := range b.founding {
		out = append(binary.AppendUvarint(out, uint64(len(id))), id...)
	}
	return out
}

func decodeBond(in []byte) (b bond, err error) {
	bad := fmt.Errorf("bond %x: %w", in, fsm.ErrMalformed)
	if len(in) < 1+len(b.cluster) || in[0] != 1 {
		return b, bad
	}
	copy(b.cluster[:], in[1:])
	in = in[1+len(b.cluster):]
	number := func() (int, bool) {
		v, n := binary.Uvarint(in)
		if n <= 0 || v > uint64(len(in)-n) {
			return 0, false
		}
		in = in[n:]
		return int(v), true
	}
	count, ok := number()
	for ; ok && count > 0; count-- {
		var size int
		if size, ok = number(); ok {
			b.founding = append(b.founding, string(in[:size]))
			in = in[size:]
		}
	}
	if !ok || len(in) != 0 {
		return b, bad
	}
	return b, nil
}

// bonds keeps a node's bond, on disk first.
type bonds struct {
	mu     sync.Mutex
	stable raft.StableStore
	now    bond
}

func openBonds(stable raft.StableStore) (*bonds, error) {
	b := &bonds{stable: stable}
	saved, err := readKey(stable, keyBond)
	if err != nil {
		return nil, fmt.Errorf("read which cluster this node belongs to: %w", err)
	}
	if saved != nil {
		if b.now, err = decodeBond(saved); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// readKey answers nil where there is nothing.
func readKey(stable raft.StableStore, key []byte) ([]byte, error) {
	v, err := stable.Get(key)
	if err != nil && err.Error() != "not found" { // as Raft itself tells it
		return nil, err
	}
	if len(v) == 0 {
		return nil, nil
	}
	return v, nil
}

func (b *bonds) get() bond {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

// set ties the node to a cluster.
func (b *bonds) set(to bond) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.save(to)
}

func (b *bonds) save(to bond) error {
	if b.now.cluster == to.cluster && slices.Equal(b.now.founding, to.founding) {
		return nil
	}
	if err := b.stable.Set(keyBond, to.encode()); err != nil {
		return fmt.Errorf("note which cluster this node belongs to: %w", err)
	}
	b.now = to
	return nil
}

var errPromised = errors.New("promised to another founder")

// promise ties a fresh node to a cluster that is about to begin. One promise
// stands at a time; only its own founder may replace it.
func (b *bonds) promise(to bond) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.now.none() && b.now.cluster != to.cluster && b.now.founder() != to.founder() {
		return errPromised
	}
	return b.save(to)
}

// release a promise that its founder has given up, as its introduction shows.
func (b *bonds) release(from Introduction) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now.none() || b.now.founder() != from.ID || from.Cluster == (fsm.WorkflowID{}) || from.Cluster == b.now.cluster {
		return nil
	}
	return b.save(bond{})
}
