package dag

// fault is a rule broken on purpose. The mutation test sets one at a time to
// prove that cases and properties notice each of them; otherwise none is set.
type fault uint8

const (
	faultNone fault = iota
	faultGateIgnored
	faultHopelessWaits
	faultAllSkippedSucceeds
	faultFailedBeatsCancel
	faultToleranceFailedOnly
	faultToleranceStrict
	faultCleanupCancelled
	faultCancelledFails
	faultHoldIgnored
	faultOpenIgnored
	faultNoUnskip
	faultNoReopen
	faultNoRecount
	faultNoUnskipInside
	faultDownstreamKeeps
	faultParentOutside
	faultSettleBetween
	faultJoinAllIsAny
	faultPlainCycles
	faultSkipsOverlooked
	faultFateOverlooked
	faults // how many
)

var planted fault

func faulty(f fault) bool { return planted == f }
