package main

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"
)

// effort is how long and how often things are measured.
type effort struct {
	rounds int           // of the interleaved repetitions
	slice  time.Duration // for one contender in one round
}

// A contender is one way to do a piece of work.
type contender struct {
	name string
	run  func(n int) // does it n times
}

// A series has one figure for each round.
type series []float64

// sorted returns the figures in ascending order.
func (s series) sorted() series { return slices.Sorted(slices.Values(s)) }

func (s series) quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := s.sorted()
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

func (s series) median() float64 { return s.quantile(0.5) }

// spread is the distance between the quartiles as a share of the median.
func (s series) spread() float64 { return (s.quantile(0.75) - s.quantile(0.25)) / s.median() }

// over returns the ratio of s to base, round by round: what disturbs a round disturbs both.
func (s series) over(base series) series {
	ratio := make(series, min(len(s), len(base)))
	for i := range ratio {
		ratio[i] = s[i] / base[i]
	}
	return ratio
}

// minus returns the difference of s and base, round by round.
func (s series) minus(base series) series {
	d := make(series, min(len(s), len(base)))
	for i := range d {
		d[i] = s[i] - base[i]
	}
	return d
}

// A score is what one contender needed for a piece of work, once.
type score struct {
	name   string
	ns     series
	allocs float64
	bytes  float64
}

// turns returns the order of n contenders in a round: another one each time, so that nobody
// always comes first or behind the same one, and the same in every run.
func turns(round, n int) []int { return rand.New(rand.NewPCG(uint64(round), uint64(n))).Perm(n) }

// work is a piece of work, who does it, and what they needed for it.
type work struct {
	name       string
	contenders []contender
	scores     []score
}

// of returns the score of a contender, or nil.
func (w work) of(name string) *score {
	for i := range w.scores {
		if w.scores[i].name == name {
			return &w.scores[i]
		}
	}
	return nil
}

// compete measures all contenders at all works in turn, round after round, so that the works
// too can be compared with each other.
func compete(e effort, works []work) []work {
	type one struct {
		contender
		*score
		times int
	}
	var all []one
	for i := range works {
		w := &works[i]
		w.scores = make([]score, len(w.contenders))
		for k, c := range w.contenders {
			times := calibrate(c.run, e.slice)
			allocs, bytes := allocations(c.run, min(times, 1000))
			w.scores[k] = score{name: c.name, allocs: allocs, bytes: bytes}
			all = append(all, one{c, &w.scores[k], times})
		}
	}
	for round := range e.rounds {
		for _, i := range turns(round, len(all)) {
			c := all[i]
			start := time.Now()
			c.run(c.times)
			c.ns = append(c.ns, float64(time.Since(start).Nanoseconds())/float64(c.times))
		}
	}
	runtime.KeepAlive(sink)
	return works
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
