package store

// Bits of jobs.flags, finished_jobs.flags, batches.flags and workflows.flags.
// A column that may be null means 0 by it.
const (
	// FlagPaused: nothing of the workflow is dispatched. On workflows.
	FlagPaused int32 = 1
	// FlagChildren: edges leave the node.
	FlagChildren int32 = 2
	// FlagHold: edges that would die by the node's failure stay open.
	FlagHold int32 = 4
	// FlagCleanup: follows its edges even inside a cancelled batch.
	FlagCleanup int32 = 8
	// FlagOpen: the batch does not end until sealed.
	FlagOpen int32 = 16
	// FlagCancelled: a batch marked cancelled; a job whose running attempt was
	// told.
	FlagCancelled int32 = 32
	// FlagArgsInPayloads: the args lie in payloads, slot 0.
	FlagArgsInPayloads int32 = 64
	// FlagResultInPayloads: the result lies in payloads, slot 1.
	FlagResultInPayloads int32 = 128
	// FlagReleased: the batch or finished job was released in this life.
	FlagReleased int32 = 256
)

// PayloadThreshold is the size in bytes above which args and results live in
// payloads instead of their job's row.
const PayloadThreshold = 1024

// Slots of payloads.
const (
	slotArgs   int16 = 0
	slotResult int16 = 1
)

// Values of jobs.state; batches and workflows add stateEnded.
const (
	stateBlocked  int16 = 0
	stateReleased int16 = 1
	stateEnded    int16 = 2
)

// DefaultPriority is that of a job when neither it nor a batch around it has
// one. batches.priority and workflows.priority hold what a member without one
// of its own inherits; 0 means DefaultPriority.
const DefaultPriority int16 = 2
