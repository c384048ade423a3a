package dispatch

import "github.com/heddle-io/heddle/raftsched/fsm"

// Config bounds a Dispatcher. A field that is zero takes its default.
type Config struct {
	// Window is how many rows of one stream are kept. Default 2,000.
	Window int
	// MaxRows is how many rows of all streams are kept together; windows shrink
	// to their share, down to a handful. Default 131,072.
	MaxRows int
	// MaxStreams is how many streams are known at once. Further ones are left
	// to be found when there is room. Default 200,000.
	MaxStreams int
	// Horizon in microseconds: rows due later stay in the database. Default 60 s.
	Horizon int64
	// SweepEvery is the time in microseconds between the periodic sweeps of a
	// stream that somebody polls for. Default 1 s.
	SweepEvery int64
	// ScanEvery is the time in microseconds between scans for streams, while
	// anybody polls. Default 1.2 s.
	ScanEvery int64
	// MaxPast is how many ended jobs are remembered for the sake of open marks.
	// Beyond it the oldest mark is void: its rows are read again. Default 262,144.
	MaxPast int
}

const (
	minWindow = 4         // rows of a stream, however many streams there are
	aloneFrom = 2         // losses from which a job runs alone
	maxApart  = 1_000     // rows kept that run alone
	maxStrays = 1_000     // streams remembered whose route is unknown
	maxLoads  = 1_000     // loads in one answer of Wants
	maxAsked  = 20_000    // rows asked for in it
	scanLimit = 1_000     // streams in one scan
	firstPage = 128       // rows of a sweep's first page; each further one doubles
	maxPages  = 8         // pages of a sweep without a pause
	idleAfter = 2_000_000 // microseconds without a poll until a class's streams are left alone
	loneNode  = 1         // the number of a lone job
	slabSize  = 32        // jobs allocated at once
)

// Dispatcher decides which poll gets which job. It is not safe for concurrent
// use: one loop owns it. Times are microseconds of the database's clock, as the
// owner estimates it; they may go backwards.
type Dispatcher struct {
	config Config
	now    int64
	fault  fault

	// The jobs that are kept or remembered.
	index    map[fsm.JobID]entry
	rows     int // waiting in windows
	granting int
	leased   int
	apart    []*job // in order
	free     []*job
	graphs   map[fsm.WorkflowID]*graph
	marks    marks
	past     fifo[past]

	// The streams, and who serves them.
	routes    map[int32]*route
	queues    map[string]*queue
	streams   map[LanePriority]*stream
	all       []*stream
	hand      int    // walks over all, looking for what may shrink or go
	ready     int    // streams with a due row
	turn      uint64 // counts what is served, for the turns of keys
	timers    timers
	heldLanes map[Lane]struct{}
	partial   bool // there may be unknown streams with rows
	latest    *stream

	latestGraph *graph

	// The polls.
	sessions   map[uint64]*session
	classes    []*class
	classByKey map[string]*class
	polls      int
	arrivals   uint64
	active     int      // classes that poll
	order      []*class // of a match
	unmatched  bool     // the last match broke off at its limit

	// What to read.
	todo         fifo[*stream]
	round        fifo[*stream]
	scan         scan
	routesWanted bool
	strays       map[LanePriority]struct{}

	// What is kept back.
	bars      map[fsm.WorkflowID]*bar
	holds     map[HoldID]*hold
	releasing fifo[*hold]
	lastHold  HoldID
}

// fault switches a rule off, to show that the tests notice.
type fault uint8

const (
	faultNone     fault = iota
	faultNoMarks        // ends are not remembered
	faultNoHolds        // a released hold does not wait for older reads
	faultNoSweeps       // nothing is searched periodically
)

// New makes an empty dispatcher.
func New(c Config) *Dispatcher {
	setDefault(&c.Window, 2_000)
	setDefault(&c.MaxRows, 131_072)
	setDefault(&c.MaxStreams, 200_000)
	setDefault(&c.Horizon, 60_000_000)
	setDefault(&c.SweepEvery, 1_000_000)
	setDefault(&c.ScanEvery, 1_200_000)
	setDefault(&c.MaxPast, 262_144)
	d := &Dispatcher{config: c}
	d.Reset()
	return d
}

func setDefault[T int | int64](v *T, to T) {
	if *v <= 0 {
		*v = to
	}
}

// Reset forgets everything: a reign has ended. What is handed in under marks
// begun before it is ignored.
func (d *Dispatcher) Reset() {
	lastMark, lastHold := d.marks.last, d.lastHold
	*d = Dispatcher{
		config:     d.config,
		fault:      d.fault,
		index:      map[fsm.JobID]entry{},
		graphs:     map[fsm.WorkflowID]*graph{},
		routes:     map[int32]*route{},
		queues:     map[string]*queue{},
		streams:    map[LanePriority]*stream{},
		heldLanes:  map[Lane]struct{}{},
		sessions:   map[uint64]*session{},
		classByKey: map[string]*class{},
		bars:       map[fsm.WorkflowID]*bar{},
		holds:      map[HoldID]*hold{},
		marks:      marks{last: lastMark},
		lastHold:   lastHold,
	}
}

// Stats counts what a dispatcher holds.
type Stats struct {
	Streams  int
	Rows     int // waiting
	Polls    int
	Granting int
	Leased   int
	Past     int // ends remembered for open marks
	Marks    int // open
}

// Stats counts what is held now.
func (d *Dispatcher) Stats() Stats {
	return Stats{
		Streams:  len(d.all),
		Rows:     d.rows + len(d.apart),
		Polls:    d.polls,
		Granting: d.granting,
		Leased:   d.leased,
		Past:     d.past.len(),
		Marks:    d.marks.n,
	}
}
