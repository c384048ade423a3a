package store

import (
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Bounds of pages and of searches through the history.
const (
	defaultPage  = 50
	largestPage  = 500
	searchStep   = 5_000   // rows between two looks at the budget
	searchRows   = 200_000 // rows of one source that one page may read
	searchBudget = 2 * time.Second
)

func pageSize(asked int32) (int32, error) {
	switch {
	case asked == 0:
		return defaultPage, nil
	case asked < 0 || asked > largestPage:
		return 0, invalid("page_size is %d, must be 1 to %d", asked, largestPage)
	}
	return asked, nil
}

// key is a position in the order of (workflow, node).
type key struct {
	id   fsm.WorkflowID
	node int32
}

var lastKey = key{fsm.WorkflowID{
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 1<<31 - 1}

func (k key) compare(other key) int {
	for i := range k.id {
		if k.id[i] != other.id[i] {
			return int(k.id[i]) - int(other.id[i])
		}
	}
	switch {
	case k.node < other.node:
		return -1
	case k.node > other.node:
		return 1
	}
	return 0
}

// pageToken writes a position for people to hand back unread.
func pageToken(k key) string {
	b := binary.BigEndian.AppendUint32(k.id[:], uint32(k.node))
	return base64.RawURLEncoding.EncodeToString(b)
}

// readToken reads one; "" gives start.
func readToken(token string, start key) (key, error) {
	if token == "" {
		return start, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != 20 {
		return key{}, invalid("page_token %q is not one of this list", token)
	}
	var k key
	copy(k.id[:], b)
	k.node = int32(binary.BigEndian.Uint32(b[16:]))
	return k, nil
}
