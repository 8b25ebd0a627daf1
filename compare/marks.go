package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// A mark is something that has to be reached. CONTRIBUTING.md lists them.
type mark struct {
	work, want string
	part       string // that measures it
	reached    func(f *figures) (figure string, ok bool)
}

var marks = []mark{
	{"a connection, header and payload there: CPU time", "at most 1.04 of bare: v1, v2, v2 with " +
		"four TLVs",
		partBacklog, func(f *figures) (string, bool) {
			v1 := f.ratio(backlogV1, nameOurs, nameBare, unitCPU).median()
			v2 := f.ratio(backlogV2, nameOurs, nameBare, unitCPU).median()
			tlvs := f.ratio(backlogTLVs, nameOurs, nameBare, unitCPU).median()
			return fmt.Sprintf("%.3f, %.3f, %.3f", v1, v2, tlvs), max(v1, v2, tlvs) <= 1.04
		}},
	{"the same: memory", "at most 2 allocations and 320 bytes more than bare (v2)",
		partBacklog, func(f *figures) (string, bool) {
			allocs := f.of(backlogV2, nameOurs, unitConnAllocs).
				minus(f.of(backlogV2, nameBare, unitConnAllocs)).median()
			bytes := f.of(backlogV2, nameOurs, unitConnBytes).
				minus(f.of(backlogV2, nameBare, unitConnBytes)).median()
			return fmt.Sprintf("%.1f and %.0f", allocs, bytes),
				math.Round(allocs) <= 2 && math.Round(bytes) <= 320
		}},
	{"the same: system calls", "none more than bare", partCalls, callsMark(callsTogether, 0)},
	{"header in its own segment: system calls", "at most one read more than bare", partCalls,
		callsMark(callsApart, 1)},
	{"under attack, a good client's median", "at most 1.05 of bare", partAttack,
		attackMark(unitMedian, 1.05)},
	{"under attack, its 99th percentile", "at most 1.25 of bare", partAttack,
		attackMark(unitP99, 1.25)},
	{"Parse v1 TCP4", "12x faster than pires", partParse, parseMark("v1 TCP4", 12)},
	{"Parse v1 TCP6", "9x faster than pires", partParse, parseMark("v1 TCP6", 9)},
	{"Parse v2 TCP4", "30x faster than pires", partParse, parseMark("v2 TCP4", 30)},
	{"Parse v2 TCP6", "45x faster than pires", partParse, parseMark("v2 TCP6", 45)},
	{"a refusal", "at most twice the time of what is accepted, and one allocation", partParse,
		refuseMark},
	{"AppendTo", "faster than pires' Format, no allocation", partAppend, appendMark},
	{"quartiles of the times above", "within 10 % of their median", partParse, spreadMark},
	{"a policy of 10,000 prefixes", "under 100 ns, no " +
		"allocation", partPolicy, policyMark(10_000, 100)},
	{"a policy of one prefix", "under 10 ns, no allocation", partPolicy, policyMark(1, 10)},
	{"relay and file: system calls", "splice and sendfile carry the bytes, as for bare", partRelay,
		relayMark},
	{"15,000 pending", "a new connection's CPU time at most 1.2x that with 1,000", partScale,
		func(f *figures) (string, bool) {
			first := f.of(scaleWork(scalePending, scaleLevels[0]), nameOurs, unitCPU)
			last := f.of(scaleWork(scalePending, scaleLevels[len(scaleLevels)-1]), nameOurs, unitCPU)
			x := last.over(first).median()
			return fmt.Sprintf("%.2fx", x), x <= 1.2
		}},
}

// judgement tells which marks the figures reach.
func judgement(all map[string]*record) string {
	var b strings.Builder
	reached, measured := 0, 0
	for _, m := range marks {
		verdict, figure := "-    ", "not measured"
		if r := all[m.part]; r != nil {
			measured++
			var ok bool
			verdict = "SHORT"
			if figure, ok = m.reached(r.figures); ok {
				verdict = "ok   "
				reached++
			}
		}
		fmt.Fprintf(&b, "%s %s: %s (%s)\n", verdict, m.work, figure, m.want)
	}
	fmt.Fprintf(&b, "\n%d of %d marks are reached.\n", reached, measured)
	return b.String()
}

func attackMark(unit string, most float64) func(f *figures) (string, bool) {
	return func(f *figures) (string, bool) {
		x := f.ratio(attackHalf, nameOurs, nameBare, unit).median()
		return fmt.Sprintf("%.3f", x), x <= most
	}
}

func parseMark(work string, least float64) func(f *figures) (string, bool) {
	return func(f *figures) (string, bool) {
		x := f.ratio(work, namePires, nameOurs, unitNs).median()
		c := f.ratio(work, nameOurs, nameC, unitNs).median()
		return fmt.Sprintf("%.0fx (%.2f of C's time)", x, c), x >= least
	}
}

func refuseMark(f *figures) (string, bool) {
	worst, allocs := 0.0, 0.0
	for refused, accepted := range map[string]string{
		"refuse an HTTP request":       "v1 TCP4",
		refuseCRC:                      "v2 100 bytes with CRC32C",
		"refuse 107 bytes without end": "v1 UNKNOWN, 107 bytes",
	} {
		x := f.of(refused, nameOurs, unitNs).over(f.of(accepted, nameOurs, unitNs)).median()
		worst = max(worst, x)
		allocs = max(allocs, f.of(refused, nameOurs, unitAllocs).median())
	}
	return fmt.Sprintf("%.2fx or less, %g or less", worst, allocs), worst <= 2 && allocs <= 1
}

func appendMark(f *figures) (string, bool) {
	least, at, allocs := math.Inf(1), "", 0.0
	for _, work := range f.works() {
		allocs = max(allocs, f.of(work, nameOurs, unitAllocs).median())
		if x := f.ratio(work, namePires, nameOurs, unitNs).median(); x < least {
			least, at = x, work
		}
	}
	return fmt.Sprintf("%.1fx or more (%s), %g allocations", least, at, allocs),
		least >= 1 && allocs == 0
}

func spreadMark(f *figures) (string, bool) {
	widest, at := 0.0, ""
	for _, work := range f.works() {
		if s := f.of(work, nameOurs, unitNs).spread(); s > widest {
			widest, at = s, work
		}
	}
	return fmt.Sprintf("%.0f %% apart or less (%s)", 100*widest, at), widest <= 0.2
}

// callsMark allows so many calls of read more.
func callsMark(work string, reads float64) func(f *figures) (string, bool) {
	return func(f *figures) (string, bool) {
		more := moreCalls(callsOf(f, work, nameOurs), callsOf(f, work, nameBare))
		var texts []string
		ok := true
		for _, name := range sortedKeys(more) {
			texts = append(texts, fmt.Sprintf("%.1f %s more", more[name], name))
			ok = ok && name == "read" && more[name] <= reads+0.05
		}
		if texts == nil {
			return "none more", true
		}
		return strings.Join(texts, ", "), ok
	}
}

// callsOf returns how many system calls of each name a contender makes.
func callsOf(f *figures, work, by string) map[string]float64 {
	return bySuffix(f, work, by, suffixCalls)
}

// bySuffix returns the figures of a contender whose units end so, by what comes before.
func bySuffix(f *figures, work, by, suffix string) map[string]float64 {
	found := map[string]float64{}
	for _, key := range f.order {
		if name, ok := strings.CutSuffix(key.unit, suffix); ok && key.work == work && key.by == by {
			found[name] = f.series[key].median()
		}
	}
	return found
}

func policyMark(size int, most float64) func(f *figures) (string, bool) {
	return func(f *figures) (string, bool) {
		ns, allocs := 0.0, 0.0
		for _, by := range []string{nameTrust, nameRules} {
			ns = max(ns, f.of(policyName(size), by, unitNs).median())
			allocs = max(allocs, f.of(policyName(size), by, unitAllocs).median())
		}
		return fmt.Sprintf("%.1f ns, %g allocations", ns, allocs), ns < most && allocs == 0
	}
}

// relayMark leaves out what package net alone decides: io.CopyN hands a *net.TCPConn an
// io.LimitedReader, in which that looks for its own types only.
func relayMark(f *figures) (string, bool) {
	least := 1.0
	for _, r := range relayings() {
		if !r.nets {
			least = min(least, bySuffix(f, r.name, nameOurs, suffixBytes)[r.zeroCopy()])
		}
	}
	return fmt.Sprintf("%.2f %% of the bytes or more", 100*least), least > 0.99
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
