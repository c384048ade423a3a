package oracle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	heddle "github.com/heddle-io/heddle/sdk"
)

// What says of what sort an event is.
type What string

// The sorts of events. What a line says has happened before it was written,
// but for Submitting, Commanding, Growing and Fault, which announce.
const (
	// Submitting: a workflow of at least Jobs jobs is about to be submitted
	// under an id that is known beforehand. Submitted: the engine has
	// acknowledged it. Lone jobs have their id only then.
	Submitting What = "submitting"
	Submitted  What = "submitted"
	// Commanding: somebody is about to retry, cancel or otherwise steer a
	// workflow by hand.
	Commanding What = "commanding"
	// Growing: Jobs more jobs are about to be added under a key. Grown: that
	// was acknowledged. Jobs that continue with Then have no Grown: their
	// nodes are there if and only if their success is.
	Growing What = "growing"
	Grown   What = "grown"
	// Start and End of a handler's run, under a lease, with a nonce of the run.
	Start What = "start"
	End   What = "end"
	// Ack: the answer to a report came in.
	Ack What = "ack"
	// Fault: something is done to a process or a link; Healed: it is over.
	Fault  What = "fault"
	Healed What = "healed"
)

// How handlers end.
const (
	HowOK    = "ok"
	HowError = "error"
)

// What is done to workers so that their sessions may be lost, as How of a
// Fault whose Target is the worker.
const (
	FaultKill = "kill"
	FaultStop = "stop"
	FaultCut  = "cut"
)

// Event is one line of a log.
type Event struct {
	// At is when, in nanoseconds since 1970. Mono is the same by the machine's
	// monotonic clock, which orders the events of all its processes.
	At   int64 `json:"at"`
	Mono int64 `json:"mono"`
	What What  `json:"what"`
	// Who is the name of the process. Every process has one of its own, also
	// when it is the successor of another.
	Who string `json:"who"`

	Workflow string `json:"workflow,omitempty"`
	Node     int32  `json:"node,omitempty"`
	Attempt  int    `json:"attempt,omitempty"`
	Lease    uint64 `json:"lease,omitempty"`
	Session  uint64 `json:"session,omitempty"`
	Epoch    uint64 `json:"epoch,omitempty"`
	Nonce    string `json:"nonce,omitempty"`

	// Ending and Status of a report; How of an end, a command or a fault.
	Ending string `json:"ending,omitempty"`
	Status string `json:"status,omitempty"`
	How    string `json:"how,omitempty"`

	// Target of a fault.
	Target string `json:"target,omitempty"`
	// Jobs of a submission or a growth; Key of a growth.
	Jobs int    `json:"jobs,omitempty"`
	Key  string `json:"key,omitempty"`
	// Lone jobs are one row. Want is the outcome the submission must have; 0:
	// any.
	Lone bool           `json:"lone,omitempty"`
	Want heddle.Outcome `json:"want,omitempty"`
}

// Job names a job, as in "01890a5d-ac96-774b-bcce-b302099a8057/1".
type Job struct {
	Workflow string
	Node     int32
}

func (j Job) String() string { return fmt.Sprintf("%s/%d", j.Workflow, j.Node) }

// Job of the event.
func (e *Event) Job() Job { return Job{e.Workflow, e.Node} }

// Acknowledged: the event is the answer to a report, and it is durable.
func (e *Event) Acknowledged() bool { return e.What == Ack && e.Status == ackDone }

// Journal is the writing end of a log, for one process. It is safe for
// concurrent use. Each call of Write is one write to the file: killed in the
// middle, a process leaves at most half a line, which readers pass over.
type Journal struct {
	mu   sync.Mutex
	file *os.File
	who  string
}

// OpenJournal appends to the file at path in the name of a process.
func OpenJournal(path, who string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return &Journal{file: f, who: who}, nil
}

// Write appends events with the present time. A journal that cannot be written
// makes every verdict worthless: Write panics then.
func (j *Journal) Write(events ...Event) {
	if len(events) == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	at, mono := time.Now().UnixNano(), monotonic()
	for _, e := range events {
		e.At, e.Mono, e.Who = at, mono, j.who
		if err := enc.Encode(e); err != nil {
			panic(fmt.Sprintf("journal of %s: %v", j.who, err))
		}
	}
	if _, err := j.file.Write(buf.Bytes()); err != nil {
		panic(fmt.Sprintf("journal of %s: %v", j.who, err))
	}
}

// Close closes the file.
func (j *Journal) Close() error { return j.file.Close() }

// Now is the present moment, as the Mono of an event written now.
func Now() int64 { return monotonic() }
