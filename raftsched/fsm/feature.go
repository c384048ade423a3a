package fsm

import (
	"errors"
	"fmt"
)

// ErrFeature: the cluster uses something that this build does not understand.
var ErrFeature = errors.New("feature of a newer version")

// FeatureCheck: Check entries are written.
const FeatureCheck = "check"

// Features this build understands, each up to a level. What changes the meaning
// of the log or of snapshots is a new name here, or a higher level; it is used
// once every member understands it and a SetFeature says so.
func Features() map[string]uint64 {
	return map[string]uint64{FeatureCheck: 1}
}

// understands tells by an error which feature is beyond this state's.
func (s *State) understands(name string, level uint64) error {
	if most := s.understood[name]; level > most {
		return fmt.Errorf("%w: %q at level %d, this version knows it up to level %d: upgrade this node", ErrFeature, name, level, most)
	}
	return nil
}
