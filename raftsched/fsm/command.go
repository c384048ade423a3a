package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
)

// A command is one entry of the Raft log. Its first byte says which one; the
// bytes of the others are listed here once and for ever.
const (
	codeLead         = 1
	codeAdopt        = 2
	codeOpenSession  = 3
	codeCloseSession = 4
	codeSchedule     = 5
	codeSetMember    = 6
	codeRemoveMember = 7
	codeSetFeature   = 8
	codeSetMember2   = 9 // with features
	codeCheck        = 10
	codeOpenSession2 = 11 // with version, slots and time
)

// ErrMalformed: a command or snapshot that no version of this code wrote.
var ErrMalformed = errors.New("malformed")

// ErrUnknownCommand: a command of a newer version. The node that meets one must
// stop: to skip it would let its state differ from the others'.
var ErrUnknownCommand = errors.New("unknown command")

// Command is an entry that can be proposed.
type Command interface {
	// Append writes the entry's bytes behind b.
	Append(b []byte) []byte
}

// Lead begins a reign: the epoch becomes max(epoch, Floor) + 1.
type Lead struct {
	Node  string
	Floor uint64
}

// Adopt gives the cluster the id of the database it shall own, and an epoch of
// at least Floor.
type Adopt struct {
	Cluster WorkflowID
	Floor   uint64
}

// OpenSession opens a session; its id is the index of the entry.
type OpenSession struct {
	Worker  string
	Process string
	Version string
	Slots   int32 // jobs it takes at once; 0: not told
	At      int64 // microseconds of the database clock, told by the proposer
}

// CloseSession ends a session. Lost: it is closing until each of its leases has
// been released. Otherwise its leases are released here, uncounted.
type CloseSession struct {
	Session uint64
	Lost    bool
}

// Release takes back the lease that the entry with index ID granted as its
// grant number Ordinal.
type Release struct {
	ID      uint64
	Ordinal uint32
}

// Grant leases a job to a poll of a session.
type Grant struct {
	Job     JobID
	Session uint64
	Poll    uint64
	Turn    int32
}

// Schedule takes leases back and grants new ones, in this order, if Epoch is
// the state's.
type Schedule struct {
	Epoch    uint64
	At       int64 // microseconds of the database clock, told by the proposer
	Releases []Release
	Grants   []Grant
}

// Member is a node of the cluster.
type Member struct {
	ID       string
	RaftAddr string // host:port
	APIAddr  string // URL
	Version  string
	// Features it understands, each up to a level. Not to be changed.
	Features map[string]uint64
}

// Equal compares all fields.
func (m Member) Equal(o Member) bool {
	return m.ID == o.ID && m.RaftAddr == o.RaftAddr && m.APIAddr == o.APIAddr && m.Version == o.Version && maps.Equal(m.Features, o.Features)
}

// SetMember adds or changes a member.
type SetMember struct{ Member Member }

// RemoveMember removes one.
type RemoveMember struct{ ID string }

// SetFeature raises what all members must understand; levels never fall.
type SetFeature struct {
	Name  string
	Level uint64
}

// Append writes the entry's bytes behind b.
func (c Lead) Append(b []byte) []byte {
	return binary.AppendUvarint(appendString(append(b, codeLead), c.Node), c.Floor)
}

// Append writes the entry's bytes behind b.
func (c Adopt) Append(b []byte) []byte {
	return binary.AppendUvarint(append(append(b, codeAdopt), c.Cluster[:]...), c.Floor)
}

// Append writes the entry's bytes behind b.
func (c OpenSession) Append(b []byte) []byte {
	b = appendString(appendString(append(b, codeOpenSession2), c.Worker), c.Process)
	return appendOpened(b, c.Version, c.Slots, c.At)
}

// Append writes the entry's bytes behind b.
func (c CloseSession) Append(b []byte) []byte {
	return appendBool(binary.AppendUvarint(append(b, codeCloseSession), c.Session), c.Lost)
}

// Append writes the entry's bytes behind b.
func (c SetMember) Append(b []byte) []byte {
	return appendFeatures(appendMember(append(b, codeSetMember2), c.Member), c.Member.Features)
}

// Append writes the entry's bytes behind b.
func (c RemoveMember) Append(b []byte) []byte {
	return appendString(append(b, codeRemoveMember), c.ID)
}

// Append writes the entry's bytes behind b.
func (c SetFeature) Append(b []byte) []byte {
	return binary.AppendUvarint(appendString(append(b, codeSetFeature), c.Name), c.Level)
}

// Append writes the entry's bytes behind b, in columns: the grants of one poll
// share its numbers, the jobs of one workflow its id. The order is kept.
func (c *Schedule) Append(b []byte) []byte {
	b = append(b, codeSchedule)
	b = binary.AppendUvarint(b, c.Epoch)
	b = binary.AppendVarint(b, c.At)
	b = binary.AppendUvarint(b, uint64(len(c.Releases)))
	var id uint64
	for _, r := range c.Releases {
		b = binary.AppendVarint(b, int64(r.ID-id))
		b = binary.AppendUvarint(b, uint64(r.Ordinal))
		id = r.ID
	}
	g := c.Grants
	b = binary.AppendUvarint(b, uint64(len(g)))
	for i := 0; i < len(g); {
		j := i + 1
		for j < len(g) && g[j].Session == g[i].Session && g[j].Poll == g[i].Poll {
			j++
		}
		b = binary.AppendUvarint(b, uint64(j-i))
		b = binary.AppendUvarint(b, g[i].Session)
		b = binary.AppendUvarint(b, g[i].Poll)
		i = j
	}
	for i := 0; i < len(g); {
		j := i + 1
		for j < len(g) && g[j].Job.Workflow == g[i].Job.Workflow {
			j++
		}
		b = binary.AppendUvarint(b, uint64(j-i))
		b = append(b, g[i].Job.Workflow[:]...)
		i = j
	}
	var node int32
	for i := range g {
		b = binary.AppendVarint(b, int64(g[i].Job.Node)-int64(node))
		node = g[i].Job.Node
	}
	for i := range g {
		b = binary.AppendVarint(b, int64(g[i].Turn))
	}
	return b
}

// decode reads what Append wrote after the code, into the slices c has.
func (c *Schedule) decode(r *reader) {
	c.Epoch = r.uvarint()
	c.At = r.varint()
	c.Releases, c.Grants = c.Releases[:0], c.Grants[:0]
	var id uint64
	for n := r.count(2); n > 0; n-- {
		id += uint64(r.varint())
		c.Releases = append(c.Releases, Release{ID: id, Ordinal: uint32(r.upTo(1<<32 - 1))})
	}
	n := r.count(2) // a node and a turn each
	for len(c.Grants) < n && r.err == nil {
		run := r.run(n - len(c.Grants))
		g := Grant{Session: r.uvarint(), Poll: r.uvarint()}
		for ; run > 0; run-- {
			c.Grants = append(c.Grants, g)
		}
	}
	if r.err != nil {
		return
	}
	for i := 0; i < n && r.err == nil; {
		run, w := r.run(n-i), r.workflow()
		for ; run > 0; run-- {
			c.Grants[i].Job.Workflow = w
			i++
		}
	}
	var node int64
	for i := range c.Grants {
		node += r.varint()
		c.Grants[i].Job.Node = r.int32(node)
	}
	for i := range c.Grants {
		c.Grants[i].Turn = r.int32(r.varint())
	}
}

// Decode reads one command. A *Schedule for that code, else the value types.
func Decode(b []byte) (Command, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("command of no bytes: %w", ErrMalformed)
	}
	r := &reader{b: b[1:]}
	var c Command
	switch b[0] {
	case codeLead:
		c = Lead{Node: r.str(), Floor: r.uvarint()}
	case codeAdopt:
		c = Adopt{Cluster: r.workflow(), Floor: r.uvarint()}
	case codeOpenSession:
		c = OpenSession{Worker: r.str(), Process: r.str()}
	case codeOpenSession2:
		o := OpenSession{Worker: r.str(), Process: r.str()}
		o.Version, o.Slots, o.At = r.opened()
		c = o
	case codeCloseSession:
		c = CloseSession{Session: r.uvarint(), Lost: r.bool()}
	case codeSchedule:
		s := &Schedule{}
		s.decode(r)
		c = s
	case codeSetMember:
		c = SetMember{Member: r.member()}
	case codeSetMember2:
		m := r.member()
		m.Features = r.features()
		c = SetMember{Member: m}
	case codeCheck:
		c = Check{Index: r.uvarint(), Hash: r.uint64()}
	case codeRemoveMember:
		c = RemoveMember{ID: r.str()}
	case codeSetFeature:
		c = SetFeature{Name: r.str(), Level: r.uvarint()}
	default:
		return nil, fmt.Errorf("code %d: %w", b[0], ErrUnknownCommand)
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("command %d: %w", b[0], err)
	}
	return c, nil
}
