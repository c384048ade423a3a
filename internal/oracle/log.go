package oracle

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// Logs lists the files of a folder of logs: "*.jsonl".
func Logs(dir string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		return nil, fmt.Errorf("logs of %q: %w", dir, err)
	}
	slices.Sort(paths)
	return paths, nil
}

// Merge calls each for the events of all files, in order of time, and holds one
// event of each file in memory. Each file is in order already, as journals
// write them.
func Merge(paths []string, each func(*Event) error) error {
	var m merge
	defer func() {
		for _, s := range m {
			s.file.Close()
		}
	}()
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("merge logs: %w", err)
		}
		s := &stream{file: f, lines: bufio.NewReaderSize(f, 1<<16)}
		more, err := s.next()
		if err != nil || !more {
			f.Close()
			if err != nil {
				return fmt.Errorf("merge logs: %s: %w", path, err)
			}
			continue
		}
		m = append(m, s)
	}
	heap.Init(&m)
	for len(m) > 0 {
		if err := each(&m[0].head); err != nil {
			return err
		}
		more, err := m[0].next()
		if err != nil {
			return fmt.Errorf("merge logs: %s: %w", m[0].file.Name(), err)
		}
		if more {
			heap.Fix(&m, 0)
		} else {
			heap.Pop(&m).(*stream).file.Close()
		}
	}
	return nil
}

// stream is a file that is being read.
type stream struct {
	file  *os.File
	lines *bufio.Reader
	head  Event
}

// next reads the next whole line that is an event.
func (s *stream) next() (bool, error) {
	for {
		line, err := s.lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return false, nil // the rest, if any, is half a line
		}
		if err != nil {
			return false, err
		}
		s.head = Event{}
		if json.Unmarshal(line, &s.head) == nil {
			return true, nil
		}
	}
}

// merge is a heap of streams by the time of their heads.
type merge []*stream

func (m merge) Len() int           { return len(m) }
func (m merge) Less(i, j int) bool { return m[i].head.Mono < m[j].head.Mono }
func (m merge) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *merge) Push(x any)        { *m = append(*m, x.(*stream)) }
func (m *merge) Pop() any {
	last := len(*m) - 1
	x := (*m)[last]
	*m = (*m)[:last]
	return x
}

// Tail follows the logs of a folder while processes write them.
type Tail struct {
	dir    string
	offset map[string]int64
}

// NewTail follows the logs of a folder from their beginning.
func NewTail(dir string) *Tail { return &Tail{dir: dir, offset: make(map[string]int64)} }

// Read gives what was written since the last call, in order of time. Files
// that were written at the same time may give events from before that the next
// time.
func (t *Tail) Read() ([]Event, error) {
	paths, err := Logs(t.dir)
	if err != nil {
		return nil, err
	}
	var all []Event
	for _, path := range paths {
		if all, err = t.readFile(path, all); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(all, func(a, b Event) int { return cmp.Compare(a.Mono, b.Mono) })
	return all, nil
}

func (t *Tail) readFile(path string, into []Event) ([]Event, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(t.offset[path], io.SeekStart); err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	for r := bufio.NewReader(f); ; {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return into, nil // the rest, if any, is not a whole line yet
		}
		t.offset[path] += int64(len(line))
		var e Event
		if json.Unmarshal(line, &e) == nil {
			into = append(into, e)
		}
	}
}
