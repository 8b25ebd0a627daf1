package main

import (
	"errors"
	"io"
	"log"
	"math"
	"runtime"
	"time"
)

// A task is what one contender does in a micro benchmark, and what it allocates for it.
type task struct {
	Work, By      string
	Allocs, Bytes float64
}

// A work is a task that can be done.
type work struct {
	task
	run func(n int) // does it n times
}

var worksOf = map[string]func() []work{
	partParse: parseWorks, partAppend: appendWorks, partPolicy: policyWorks,
}

// The units of what is measured.
const (
	unitNs     = "ns/header"
	unitAllocs = "allocs/header"
)

// measureMicro measures what needs no connection, in a process that has a CPU to itself as far as
// that can be had. All contenders at all works take turns, so that the works too can be compared
// with each other.
func measureMicro(part string) func(m *measuring) {
	return func(m *measuring) {
		h := m.start("micro", secondCPU, alone)
		defer h.stop()
		slice := 20 * time.Millisecond
		if m.quick {
			slice = 50 * time.Microsecond
		}
		tasks := h.ask(request{Op: "prepare", Part: part, Slice: slice}).Tasks
		rounds := m.many(21, 2)
		for round := range rounds {
			for i, ns := range h.ask(request{Op: "round", Round: round}).Times {
				m.add(tasks[i].Work, tasks[i].By, unitNs, ns)
			}
			m.step(round+1, rounds)
		}
		for _, t := range tasks {
			m.add(t.Work, t.By, unitAllocs, t.Allocs)
		}
	}
}

// micro is the helper that does them.
type micro struct {
	works []work
	times []int // how often each is done in a round
}

func (m *micro) handle(req request) (reply, error) {
	switch req.Op {
	case "prepare":
		log.SetOutput(io.Discard) // armon logs every refusal
		var rep reply
		for _, w := range worksOf[req.Part]() {
			times := calibrate(w.run, req.Slice)
			w.Allocs, w.Bytes = allocations(w.run, min(times, 1000))
			m.works, m.times = append(m.works, w), append(m.times, times)
			rep.Tasks = append(rep.Tasks, w.task)
		}
		return rep, nil
	case "round":
		rep := reply{Times: make([]float64, len(m.works))}
		for _, i := range turns(req.Round, len(m.works)) {
			runtime.GC() // nobody pays for what came before
			start := time.Now()
			m.works[i].run(m.times[i])
			rep.Times[i] = float64(time.Since(start)) / float64(m.times[i])
		}
		return rep, nil
	}
	return reply{}, errors.New("no such operation")
}

// calibrate returns how many times run does its work in about d.
func calibrate(run func(n int), d time.Duration) int {
	for n := 1; ; n *= 2 {
		start := time.Now()
		run(n)
		if took := time.Since(start); took >= d/4 || n > 1<<30 {
			return max(1, int(float64(n)*float64(d)/float64(max(took, 1))))
		}
	}
}

// allocations returns the heap allocations and bytes of doing the work once.
func allocations(run func(n int), n int) (count, bytes float64) {
	run(n)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run(n)
	runtime.ReadMemStats(&after)
	// What the program does beside must not turn a 0 into 0.001.
	round := func(x uint64) float64 { return math.Round(float64(x)/float64(n)*100) / 100 }
	return round(after.Mallocs - before.Mallocs), round(after.TotalAlloc - before.TotalAlloc)
}
