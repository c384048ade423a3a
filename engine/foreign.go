package engine

import "github.com/heddle-io/heddle/engine/store"

// ErrForeign is returned by Start when the database belongs to the engine of
// another data directory; see Config.Adopt.
var ErrForeign = store.ErrForeign
