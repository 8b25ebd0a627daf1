package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"
)

// A series has one number for each round.
type series []float64

func (s series) quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
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

// turns returns the order of n contenders in a round: another one each time, so that nobody
// always comes first or after the same one, and the same in every run.
func turns(round, n int) []int { return rand.New(rand.NewPCG(uint64(round), uint64(n))).Perm(n) }

// A figure says what a series is of: a contender at a piece of work, in a unit.
type figure struct{ work, by, unit string }

// figures are what was measured in one part, in the order in which it came.
type figures struct {
	order  []figure
	series map[figure]series
}

func newFigures() *figures { return &figures{series: map[figure]series{}} }

func (f *figures) add(work, by, unit string, x float64) {
	key := figure{work, by, unit}
	if _, ok := f.series[key]; !ok {
		f.order = append(f.order, key)
	}
	f.series[key] = append(f.series[key], x)
}

// of returns a series, which is empty if there is none.
func (f *figures) of(work, by, unit string) series { return f.series[figure{work, by, unit}] }

// ratio returns the series of a contender over another's.
func (f *figures) ratio(work, by, base, unit string) series {
	return f.of(work, by, unit).over(f.of(work, base, unit))
}

// works returns what was done, in order.
func (f *figures) works() []string {
	var all []string
	for _, key := range f.order {
		if !slices.Contains(all, key.work) {
			all = append(all, key.work)
		}
	}
	return all
}

// measuring is one part being measured.
type measuring struct {
	*figures
	quick bool   // so little that the figures mean nothing
	dir   string // for files
	step  func(done, all int)
}

// many returns n, or little if quick.
func (m *measuring) many(n, little int) int {
	if m.quick {
		return little
	}
	return n
}

// inTurn has n contenders each do their turn, in every round, and tells how far it is.
func (m *measuring) inTurn(rounds, n int, turn func(i int)) {
	for round := range rounds {
		for _, i := range turns(round, n) {
			turn(i)
		}
		m.step(round+1, rounds)
	}
}

// A clock tells on standard error what is measured and how much time is left.
type clock struct {
	began time.Time
	left  time.Duration // of the parts after this one, by what they usually take
	last  time.Time
}

func (c *clock) begin(p part) {
	c.left -= p.takes
	c.began, c.last = time.Now(), time.Time{}
	c.say(p, 0)
}

// step is called when done of all rounds are over.
func (c *clock) step(p part, done, all int) {
	if time.Since(c.last) > 5*time.Second || done == all {
		c.say(p, float64(done)/float64(all))
	}
}

func (c *clock) say(p part, done float64) {
	c.last = time.Now()
	rest := time.Duration(float64(p.takes) * (1 - done))
	if done > 0.1 {
		rest = time.Duration(float64(time.Since(c.began)) * (1 - done) / done)
	}
	fmt.Fprintf(os.Stderr, "%s%s %3.0f %%, about %.0f s left in all\n", p.name,
		strings.Repeat(" ", max(0, 10-len(p.name))), 100*done, (rest + c.left).Seconds())
}
