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

// endKey is a position in the order of ends.
type endKey struct {
	at time.Time
	key
}

// lastEnd is behind every end.
var lastEnd = endKey{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), lastKey}

func (k endKey) compare(other endKey) int {
	if c := k.at.Compare(other.at); c != 0 {
		return c
	}
	return k.key.compare(other.key)
}

// endToken writes a position in the order of ends.
func endToken(k endKey) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(k.at.UnixMicro()))
	b = append(b, k.id[:]...)
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(b, uint32(k.node)))
}

// readEndToken reads one; "" is the latest end.
func readEndToken(token string) (endKey, error) {
	if token == "" {
		return lastEnd, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != 28 {
		return endKey{}, invalid("page_token %q is not one of this list", token)
	}
	k := endKey{at: time.UnixMicro(int64(binary.BigEndian.Uint64(b))).UTC()}
	if k.at.Before(time.Unix(0, 0)) || k.at.After(lastEnd.at) {
		return endKey{}, invalid("page_token %q is not one of this list", token)
	}
	copy(k.id[:], b[8:])
	k.node = int32(binary.BigEndian.Uint32(b[24:]))
	return k, nil
}
