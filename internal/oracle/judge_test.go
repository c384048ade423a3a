package oracle

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	heddle "github.com/heddle-io/heddle/sdk"
)

var (
	graphID = uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8000")
	loneID  = uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8001")
	noneID  = uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8002")
)

// story is a run of two workflows, as logs and tables would tell it. The
// graph: node 1 fails once and succeeds, the batch 2 after it has the members 3
// and 4, the second of which was lost once with its worker, and 5 comes after
// the batch; 6 was added by node 3 while it ran. The lone job was given back
// once. A third submission was never acknowledged.
type story struct {
	events []Event
	now    int64
	lease  uint64
	tables func(*share)
}

func sound() *story {
	s := &story{now: 1000, lease: 100}
	s.add(Event{What: Hired, Who: "boss", Target: "a", Jobs: 10}, Event{What: Hired, Who: "boss", Target: "b", Jobs: 10}, Event{What: Hired, Who: "boss", Target: "k", Jobs: 10})
	s.add(Event{What: Submitting, Workflow: graphID.String(), Jobs: 4, Want: heddle.Succeeded}, Event{What: Submitted, Workflow: graphID.String(), Jobs: 4, Want: heddle.Succeeded})
	s.add(Event{What: Submitted, Workflow: loneID.String(), Node: 1, Lone: true, Jobs: 1, Want: heddle.Succeeded})
	s.add(Event{What: Submitting, Workflow: noneID.String(), Jobs: 7})
	s.runs(graphID, 1, "a", heddlev1.Ending_ENDING_FAILED)
	s.runs(graphID, 1, "b", heddlev1.Ending_ENDING_SUCCEEDED)
	s.add(Event{What: Growing, Workflow: graphID.String(), Key: "six", Jobs: 1}, Event{What: Grown, Workflow: graphID.String(), Key: "six"})
	s.runs(graphID, 3, "a", heddlev1.Ending_ENDING_SUCCEEDED)
	s.runs(graphID, 6, "a", heddlev1.Ending_ENDING_SUCCEEDED)
	s.runs(graphID, 4, "k", 0)
	s.add(Event{What: Fault, Who: "boss", How: FaultKill, Target: "k"})
	s.runs(graphID, 4, "a", heddlev1.Ending_ENDING_SUCCEEDED)
	s.runs(graphID, 5, "a", heddlev1.Ending_ENDING_SUCCEEDED)
	s.runs(loneID, 1, "a", heddlev1.Ending_ENDING_RELEASED)
	s.runs(loneID, 1, "b", heddlev1.Ending_ENDING_SUCCEEDED)
	s.tables = func(s *share) {
		g, l := s.flow(graphID), s.flow(loneID)
		g.rooted, g.outcome = true, heddle.Succeeded
		g.batches = map[int32]*batch{2: {parent: 0}}
		g.edges = []edge{{1, 2}, {2, 5}}
		finish := func(f *flow, node, batch int32, turn, attempt int) *job {
			j := f.job(node)
			j.row, j.turn, j.attempt, j.outcome, j.byWorker, j.batch = rowFinished, turn, attempt, heddle.Succeeded, true, batch
			return j
		}
		finish(g, 1, 0, 2, 2).tries[howFailed] = 1
		finish(g, 3, 2, 1, 1)
		lost := finish(g, 4, 2, 2, 2)
		lost.tries[howLost], lost.gone, lost.lostWith = 1, []string{"k"}, []string{"k"}
		finish(g, 5, 0, 1, 1)
		finish(g, 6, 2, 1, 1)
		released := finish(l, 1, 0, 2, 1)
		released.tries[howReleased], released.gone = 1, []string{"a"}
	}
	return s
}

// add appends events, a microsecond after each other.
func (s *story) add(events ...Event) {
	for _, e := range events {
		s.now += 1000
		e.Mono = s.now
		s.events = append(s.events, e)
	}
}

// runs appends one run of a job; without an ending it has none.
func (s *story) runs(id uuid.UUID, node int32, worker string, ending heddlev1.Ending) {
	s.lease++
	e := Event{What: Start, Who: worker, Workflow: id.String(), Node: node, Lease: s.lease, Attempt: 1}
	s.add(e)
	if ending == 0 {
		return
	}
	e.What, e.How = End, HowError
	if ending == heddlev1.Ending_ENDING_SUCCEEDED {
		e.How = HowOK
	}
	s.add(e)
	e.What, e.How, e.Ending, e.Status = Ack, "", ending.String(), ackDone
	s.add(e)
}

// judged gives what the oracle says of the story, reading it in so many shares.
func (s *story) judged(of int) *Verdict {
	v := &Verdict{}
	p := newPace(2*time.Second, 0)
	for i := range s.events {
		p.see(&s.events[i])
	}
	v.add(p.found...)
	for n := range of {
		part := &share{n: n, of: of, flows: make(map[uuid.UUID]*flow), pace: p, who: make([]string, len(p.names))}
		for name, number := range p.names {
			part.who[number] = name
		}
		for i := range s.events {
			part.see(&s.events[i])
		}
		s.tables(part)
		for id := range part.flows {
			if !part.has(id) {
				delete(part.flows, id)
			}
		}
		part.judge(Case{Settled: true, TTL: 15 * time.Second}, v)
	}
	return v
}

// find gives the index of a job's event; the n-th of them from 0.
func (s *story) find(id uuid.UUID, node int32, what What, n int) int {
	for i, e := range s.events {
		if e.Workflow == id.String() && e.Node == node && e.What == what {
			if n--; n < 0 {
				return i
			}
		}
	}
	panic(fmt.Sprintf("no %s of %v/%d", what, id, node))
}

// after changes what the tables say.
func (s *story) after(harm func(g, l *flow)) {
	tables := s.tables
	s.tables = func(p *share) {
		tables(p)
		harm(p.flow(graphID), p.flow(loneID))
	}
}

// A sound story is judged sound, in whatever shares it is read.
func TestSoundStory(t *testing.T) {
	for _, of := range []int{1, 2, 3, 200} {
		v := sound().judged(of)
		if !v.Sound() {
			t.Errorf("in %d shares: %v", of, v.Violations)
		}
		if v.Jobs != 6 || v.Runs != 9 || v.Submissions != 3 || v.Losses != 1 {
			t.Errorf("in %d shares: %v", of, v)
		}
	}
}

// Each fault that is put into the story is found, under its name.
func TestOracleBites(t *testing.T) {
	for what, c := range map[string]struct {
		invariant string
		sort      Sort
		harm      func(*story)
	}{
		"a job of an acknowledged workflow is gone": {"I8", Lost, func(s *story) { s.after(func(g, _ *flow) { g.nodes[5] = &job{} }) }},
		"an acknowledged workflow is gone":          {"I8", Lost, func(s *story) { s.after(func(_, l *flow) { l.nodes = nil }) }},
		"a job that ran is gone":                    {"I1", Lost, func(s *story) { s.after(func(g, _ *flow) { g.nodes[5].row = rowNone }) }},
		"an acknowledged addition is gone":          {"I8", Lost, func(s *story) { s.after(func(g, _ *flow) { delete(g.nodes, 6) }) }},
		"what a job continued with is gone": {"I8", Lost, func(s *story) {
			grow := GrowsThen(Job{graphID.String(), 1}, 1)
			s.events = slices.Insert(s.events, s.find(graphID, 1, Start, 1), grow)
		}},
		"an addition is there twice":       {"I8", Lost, func(s *story) { s.after(func(g, _ *flow) { *g.job(7) = *g.job(6) }) }},
		"half of what nobody acknowledged": {"I8", Lost, func(s *story) { s.after(func(g, _ *flow) { g.announced, g.acked, g.jobs = true, false, 7 }) }},
		"a wrong outcome":                  {"I8", Tables, func(s *story) { s.after(func(g, _ *flow) { g.outcome = heddle.Failed }) }},
		"a wrong outcome of a lone job":    {"I8", Tables, func(s *story) { s.after(func(_, l *flow) { l.nodes[1].outcome = heddle.Cancelled }) }},
		"one lease started twice": {"I5", Twice, func(s *story) {
			e := s.events[s.find(graphID, 5, Start, 0)]
			s.add(e)
		}},
		"a run that left no outcome": {"I5", Twice, func(s *story) { s.runs(graphID, 5, "b", 0) }},
		"a run without an outcome before its end": {"I5", Twice, func(s *story) {
			s.after(func(_, l *flow) { l.nodes[1].turn = 1 })
		}},
		"on two workers at once": {"I5", Twice, func(s *story) {
			end, start := s.find(graphID, 1, End, 0), s.find(graphID, 1, Start, 1)
			s.events[end].Mono, s.events[start].Mono = s.events[start].Mono, s.events[end].Mono
		}},
		"taken from a worker that was not lost": {"I5", Twice, func(s *story) {
			s.after(func(_, l *flow) { l.nodes[1].gone = []string{"b"} })
			s.events[s.find(loneID, 1, End, 0)].Mono = s.now + 1
		}},
		"a report that was acknowledged is not written": {"I9", Lost, func(s *story) {
			s.events[s.find(graphID, 4, Start, 0)].What = Ack
			i := s.find(graphID, 4, Ack, 0)
			s.events[i].Status, s.events[i].Ending = ackDone, heddlev1.Ending_ENDING_SNOOZED.String()
			s.after(func(g, _ *flow) { g.nodes[4].turn = 1 })
		}},
		"an acknowledged end is open again": {"I9", Lost, func(s *story) { s.after(func(g, _ *flow) { g.nodes[3].row = rowOpen }) }},
		"run again after the end": {"I9", Twice, func(s *story) {
			s.runs(graphID, 3, "b", heddlev1.Ending_ENDING_SUCCEEDED)
			s.after(func(g, _ *flow) { g.nodes[3].turn = 2 })
		}},
		"a skipped job that ran":        {"I4", Order, func(s *story) { s.after(func(g, _ *flow) { g.nodes[3].outcome = heddle.Skipped }) }},
		"an attempt too many":           {"I7", Charged, func(s *story) { s.after(func(g, _ *flow) { g.nodes[3].attempt++ }) }},
		"an attempt too few":            {"I7", Charged, func(s *story) { s.after(func(g, _ *flow) { g.nodes[1].attempt-- }) }},
		"a failure nobody reported":     {"I7", Charged, func(s *story) { s.after(func(g, _ *flow) { g.nodes[3].tries[howFailed], g.nodes[3].attempt = 1, 2 }) }},
		"lost, and nobody was killed":   {"I7", Charged, func(s *story) { s.events[s.find(graphID, 4, Start, 0)+1].How = "looked at" }},
		"lost after a short stop":       {"I7", Charged, func(s *story) { s.stop(5 * time.Second) }},
		"a continuation before":         {"I4", Order, func(s *story) { s.after(func(g, _ *flow) { g.edges = append(g.edges, edge{5, 1}) }) }},
		"members before a parent":       {"I4", Order, func(s *story) { s.after(func(g, _ *flow) { g.edges = append(g.edges, edge{5, 2}) }) }},
		"before the members of a batch": {"I4", Order, func(s *story) { s.after(func(g, _ *flow) { g.edges = append(g.edges, edge{2, 1}) }) }},
		"a free worker, and no start": {"I10", Late, func(s *story) {
			for i := s.find(loneID, 1, Start, 0); i < len(s.events); i++ {
				s.events[i].Mono += int64(3 * time.Second)
			}
		}},
	} {
		s := sound()
		c.harm(s)
		slices.SortStableFunc(s.events, func(a, b Event) int { return int(a.Mono - b.Mono) })
		v := s.judged(1)
		if !slices.ContainsFunc(v.Violations, func(f Violation) bool { return f.Invariant == c.invariant && f.Sort == c.sort }) {
			t.Errorf("%s: nothing about %s (%s) in %v", what, c.invariant, c.sort, v.Violations)
		}
		if v.Count[c.sort] == 0 {
			t.Errorf("%s: not counted: %v", what, v.Count)
		}
	}
}

// stop turns the kill of worker k into a stop of that length.
func (s *story) stop(d time.Duration) {
	i := s.find(graphID, 4, Start, 0) + 1
	s.events[i].How = FaultStop
	for j := i + 1; j < len(s.events); j++ {
		s.events[j].Mono += int64(d)
	}
	heal := s.events[i]
	heal.What, heal.Mono = Healed, heal.Mono+int64(d)
	s.events = slices.Insert(s.events, i+1, heal)
}

// What is right is not taken for wrong.
func TestOracleForgives(t *testing.T) {
	for what, change := range map[string]func(*story){
		"lost after a long stop": func(s *story) { s.stop(16 * time.Second) },
		"lost after two short stops in a row": func(s *story) {
			s.stop(5 * time.Second)
			i := s.find(graphID, 4, Start, 0) + 3
			again, heal := s.events[i-1], s.events[i-1]
			again.What, again.How, again.Mono = Fault, FaultCut, again.Mono+1
			heal.How, heal.Mono = FaultCut, heal.Mono+int64(5*time.Second)
			for j := i; j < len(s.events); j++ {
				s.events[j].Mono += int64(6 * time.Second)
			}
			s.events = slices.Insert(s.events, i, again, heal)
		},
		"a run that goes on where its worker was lost": func(s *story) {
			s.stop(16 * time.Second)
			e := s.events[s.find(graphID, 4, Start, 0)]
			e.What, e.How = End, HowError
			s.add(e)
		},
		"a report that was acknowledged late": func(s *story) {
			s.events[s.find(graphID, 3, Ack, 0)].Status = "REPORT_STATUS_STALE"
		},
		"retried by hand after its end": func(s *story) {
			s.add(Event{What: Commanding, Workflow: loneID.String(), How: "retry"})
			s.runs(loneID, 1, "b", heddlev1.Ending_ENDING_SUCCEEDED)
			s.after(func(_, l *flow) { l.nodes[1].turn, l.nodes[1].attempt = 3, 2 })
		},
		"what a job would have continued with, cancelled": func(s *story) {
			s.events = slices.Insert(s.events, s.find(graphID, 1, Start, 1), GrowsThen(Job{graphID.String(), 1}, 1))
			s.add(Event{What: Commanding, Workflow: graphID.String(), How: "cancel"})
		},
		"late while another leader came": func(s *story) {
			for i := s.find(loneID, 1, Start, 0); i < len(s.events); i++ {
				s.events[i].Mono += int64(3 * time.Second)
				s.events[i].Epoch = 2
			}
		},
		"late while something was broken": func(s *story) {
			i := s.find(loneID, 1, Start, 0)
			for j := i; j < len(s.events); j++ {
				s.events[j].Mono += int64(3 * time.Second)
			}
			e := s.events[i]
			s.events = slices.Insert(s.events, i, Event{What: Fault, Target: "engine", How: FaultKill, Mono: e.Mono - 2000},
				Event{What: Healed, Target: "engine", How: FaultKill, Mono: e.Mono - 1000})
		},
	} {
		s := sound()
		change(s)
		slices.SortStableFunc(s.events, func(a, b Event) int { return int(a.Mono - b.Mono) })
		if v := s.judged(1); !v.Sound() {
			t.Errorf("%s: %v", what, v.Violations)
		}
	}
}
