package dispatch

import "math"

const noTimer = math.MaxInt64

// setTimer puts a stream at its place in the heap of those that wait for a
// time, or takes it out.
func (d *Dispatcher) setTimer(s *stream, at int64) {
	h := d.timers
	switch {
	case at == noTimer && s.timer < 0:
		return
	case at == noTimer:
		i, last := s.timer, len(h)-1
		h.swap(i, last)
		h[last] = nil
		d.timers = h[:last]
		s.timer = -1
		if i < last {
			d.timers.fix(i)
		}
	case s.timer < 0:
		s.timer, s.timerAt = len(h), at
		d.timers = append(h, s)
		d.timers.fix(s.timer)
	case s.timerAt != at:
		s.timerAt = at
		h.fix(s.timer)
	}
}

// fire wakes what has become due.
func (d *Dispatcher) fire() {
	for len(d.timers) > 0 && d.timers[0].timerAt <= d.now {
		s := d.timers[0]
		if s.wake != 0 && s.wake <= d.now {
			s.wake = 0
			d.consider(s)
		}
		d.place(s)
	}
}

// timers is a binary heap by timerAt; streams know their places.
type timers []*stream

func (h timers) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].timer, h[j].timer = i, j
}

func (h timers) fix(i int) {
	for i > 0 {
		up := (i - 1) / 2
		if h[up].timerAt <= h[i].timerAt {
			break
		}
		h.swap(i, up)
		i = up
	}
	for {
		low := 2*i + 1
		if low >= len(h) {
			return
		}
		if right := low + 1; right < len(h) && h[right].timerAt < h[low].timerAt {
			low = right
		}
		if h[i].timerAt <= h[low].timerAt {
			return
		}
		h.swap(i, low)
		i = low
	}
}
