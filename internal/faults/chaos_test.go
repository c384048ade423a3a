package faults

import (
	"fmt"
	"testing"
	"time"

	"github.com/heddle-io/heddle/internal/pgtest"
)

// Everything is killed under load, in an order that the seed draws, sometimes
// one thing while another one is still coming back.
func TestEverythingKilledUnderLoad(t *testing.T) {
	t.Parallel()
	pg := pgtest.Server(t, true, nil)
	s := serve(t, pg.DSN(), 4*time.Second)
	v := newEvents(t)
	l := newLoad(t, s.client(nil), 10)
	var workers []*process
	hired := 0
	another := func() *process {
		hired++
		return hire(t, s, v, fmt.Sprintf("worker%d", hired), 15, nil)
	}
	for range 3 {
		workers = append(workers, another())
	}
	l.begin(60)
	for step := range 8 {
		l.reach(v, step*200+l.draw(0, 200))
		fault := l.draw(0, 5)
		if step == 2 || step == 5 {
			fault = 2 // no job is lost more often than its attempts allow
		} else if fault == 2 {
			fault = 0
		}
		t.Logf("step %d: fault %d", step, fault)
		switch fault {
		case 0:
			s.kill()
			s.launch()
		case 1:
			pg.Kill()
			relaunch(t, pg)
		case 2:
			w := workers[0]
			w.kill()
			workers = append(workers[1:], another())
		case 3: // the engine comes back to a database that is away
			s.kill()
			pg.Kill()
			s.process = play(t, partEngine, "engine", s.config)
			relaunch(t, pg)
			s.hear("ready", startTime)
		case 4: // the other way round
			pg.Kill()
			s.kill()
			relaunch(t, pg)
			s.launch()
		case 5:
			if code := workers[0].terminate(startTime); code != 0 {
				t.Errorf("a worker that was stopped ended with code %d", code)
			}
			workers = append(workers[1:], another())
		}
	}
	l.finish()
	settle(t, pg.DSN(), patience)
	judge(t, pg.DSN(), v, l.submitted())
	t.Logf("longest pause between starts: %v", v.longestPause())
}
