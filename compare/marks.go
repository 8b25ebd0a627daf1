package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// results is all that was measured; a part that wasn't is nil.
type results struct {
	parse, appendTo, policies []work
	conns                     []*conns
	together, apart           map[string]map[string]float64 // system calls of a connection, by contender
	relays                    []*relaying
	web                       []*site
	idle                      []idle
	pending, cpus             []growth
	missing                   []string
}

// A mark is something that has to be reached.
type mark struct {
	work, want string
	part       string // that measures it
	measure    func(r *results) (figure string, pass bool)
}

var marks = []mark{
	{"Parse v2 TCP4", "45x faster than pires, within 3x of the C sample", partParse, parseMark("v2 TCP4", 45, 1.0/3)},
	{"Parse v2 TCP6", "60x faster than pires, within 3x of the C sample", partParse, parseMark("v2 TCP6", 60, 1.0/3)},
	{"Parse v2, four TLVs walked", "25x faster than pires, within 3x of the C sample", partParse, parseMark("v2 four TLVs, walked", 25, 1.0/3)},
	{"Parse v1 TCP4", "10x faster than pires, 2x faster than the C sample", partParse, parseMark("v1 TCP4", 10, 2)},
	{"Parse v1 TCP6", "8x faster than pires, 2x faster than the C sample", partParse, parseMark("v1 TCP6", 8, 2)},
	{"Parse v1 TCP6, compressed", "8x faster than pires, 2x faster than the C sample", partParse, parseMark("v1 TCP6, compressed", 8, 2)},
	{"CRC32C verified, in a header of 100 bytes", "at most 25 ns more", partParse, func(r *results) (string, bool) {
		more := ours(r.parse, "v2 100 bytes with CRC32C").ns.minus(ours(r.parse, "v2 100 bytes without").ns).median()
		return fmt.Sprintf("%.1f ns more", more), more <= 25
	}},
	{"refuse an HTTP request", "no slower than to accept v1 TCP4, no allocation", partParse, refuseMark("refuse an HTTP request", "v1 TCP4")},
	{"refuse a wrong CRC32C", "no slower than to accept the right one, no allocation", partParse, refuseMark("refuse a wrong CRC32C", "v2 100 bytes with CRC32C")},
	{"refuse 107 bytes without end", "no slower than to accept 107 bytes with one, no allocation", partParse, refuseMark("refuse 107 bytes without end", "v1 UNKNOWN, 107 bytes")},
	{"AppendTo, every header", "10x faster than pires' Format, no allocation", partAppend, func(r *results) (string, bool) {
		least, allocs, at := math.Inf(1), 0.0, ""
		for _, w := range r.appendTo {
			allocs = max(allocs, w.of(nameOurs).allocs)
			if other := w.of(namePires); other != nil {
				if faster := other.ns.over(w.of(nameOurs).ns).median(); faster < least {
					least, at = faster, w.name
				}
			}
		}
		return fmt.Sprintf("%.1fx or more (least: %s), %g allocations", least, at, allocs), least >= 10 && allocs == 0
	}},
	{"short connection, header and payload together: time", "within 3 % of bare", partConns, connMark(togetherAt8, 1.03)},
	{"the same, 256 at once", "within 3 % of bare", partConns, connMark(togetherAt256, 1.03)},
	{"the same: memory", "at most 2 allocations and 320 bytes more than bare", partConns, func(r *results) (string, bool) {
		allocs, bytes := 0.0, 0.0
		for _, c := range r.conns[:2] {
			allocs = max(allocs, c.allocs[nameOurs]-c.allocs[nameBare])
			bytes = max(bytes, c.bytes[nameOurs]-c.bytes[nameBare])
		}
		return fmt.Sprintf("%.2f allocations and %.0f bytes more", allocs, bytes), math.Round(allocs*10)/10 <= 2 && bytes <= 320
	}},
	{"the same: system calls", "none more than bare", partCalls, func(r *results) (string, bool) {
		return callsMark(r.together, map[string]float64{})
	}},
	{"short connection, header in its own segment: time", "within 8 % of bare", partConns, connMark(apartAt8, 1.08)},
	{"the same, 256 at once", "within 8 % of bare", partConns, connMark(apartAt256, 1.08)},
	{"the same: system calls", "at most one read more than bare", partCalls, func(r *results) (string, bool) {
		return callsMark(r.apart, map[string]float64{"read": 1})
	}},
	{"relay, all directions: time", "within 3 % of bare", partRelay, func(r *results) (string, bool) {
		figure, pass := relayMark(r, func(r *relaying) bool { return r.handler != "file" && !r.nets })
		return figure + " (" + netsNote + ")", pass
	}},
	{"file: time", "within 3 % of bare", partRelay, func(r *results) (string, bool) {
		return relayMark(r, func(r *relaying) bool { return r.handler == "file" })
	}},
	{"relay and file: system calls", "splice and sendfile carry the bytes, as for bare", partRelay, func(r *results) (string, bool) {
		least := 1.0
		for _, relay := range r.relays {
			if !relay.nets {
				least = min(least, carried(relay.sent, relay.zeroCopy()))
			}
		}
		return fmt.Sprintf("%.2f %% of the bytes or more (%s)", 100*least, netsNote), least > 0.99
	}},
	{"idle connection", "at most 400 bytes more than bare at 15,000", partIdle, func(r *results) (string, bool) {
		last := r.idle[len(r.idle)-1]
		more := last.bytes[nameOurs].minus(last.bytes[nameBare]).median()
		return fmt.Sprintf("%.0f bytes more at %s", more, grouped(last.conns)), more <= 400
	}},
	{"policy, 10,000 prefixes", "under 100 ns, no allocation", partPolicy, policyMark(10_000, 100)},
	{"policy, 1 prefix", "under 10 ns, no allocation", partPolicy, policyMark(1, 10)},
	{"10,000 pending headers", "a good client's connection takes at most 1.2x what it takes with none", partGrowth, func(r *results) (string, bool) {
		x := r.pending[len(r.pending)-1].times[nameOurs].over(r.pending[0].times[nameOurs]).median()
		return fmt.Sprintf("%.2fx", x), x <= 1.2
	}},
}

func ours(works []work, name string) *score {
	for _, w := range works {
		if w.name == name {
			return w.of(nameOurs)
		}
	}
	panic("nothing is called " + name)
}

func find(works []work, name string) work {
	for _, w := range works {
		if w.name == name {
			return w
		}
	}
	panic("nothing is called " + name)
}

func parseMark(name string, fasterThanPires, fasterThanC float64) func(r *results) (string, bool) {
	return func(r *results) (string, bool) {
		w := find(r.parse, name)
		pires := w.of(namePires).ns.over(w.of(nameOurs).ns).median()
		c := w.of(nameC).ns.over(w.of(nameOurs).ns).median()
		return fmt.Sprintf("%.0fx faster than pires, %s", pires, fasterOrSlower(c)), pires >= fasterThanPires && c >= fasterThanC
	}
}

func fasterOrSlower(x float64) string {
	if x < 1 {
		return fmt.Sprintf("%.1fx the time of C", 1/x)
	}
	return fmt.Sprintf("%.1fx faster than C", x)
}

func refuseMark(name, accepted string) func(r *results) (string, bool) {
	return func(r *results) (string, bool) {
		no, yes := ours(r.parse, name), ours(r.parse, accepted)
		x := no.ns.over(yes.ns).median()
		// As in the other marks, what is within 3 % is the same.
		return fmt.Sprintf("%.2fx the time, %g allocations", x, no.allocs), x <= 1.03 && no.allocs == 0
	}
}

func connMark(name string, most float64) func(r *results) (string, bool) {
	return func(r *results) (string, bool) {
		for _, c := range r.conns {
			if c.name == name {
				x := c.times[nameOurs].over(c.times[nameBare])
				return fmt.Sprintf("%s (quartiles %s to %s)", percent(x.median()), percent(x.quantile(0.25)), percent(x.quantile(0.75))), x.median() <= most
			}
		}
		panic("nothing is called " + name)
	}
}

func callsMark(calls map[string]map[string]float64, allowed map[string]float64) (string, bool) {
	more := moreCalls(calls[nameOurs], calls[nameBare])
	var texts []string
	pass := true
	for _, name := range sortedKeys(more) {
		texts = append(texts, fmt.Sprintf("%.1f %s", more[name], name))
		if more[name] > allowed[name]+0.05 {
			pass = false
		}
	}
	if texts == nil {
		return "none more", pass
	}
	return strings.Join(texts, ", ") + " more", pass
}

// moreCalls returns the system calls that ours makes more often than bare. What happens less
// than once in 20 connections has other causes.
func moreCalls(ours, bare map[string]float64) map[string]float64 {
	more := map[string]float64{}
	for name, n := range ours {
		if n > bare[name]+0.05 {
			more[name] = n - bare[name]
		}
	}
	return more
}

func relayMark(r *results, which func(*relaying) bool) (string, bool) {
	most, at := 0.0, ""
	for _, relay := range r.relays {
		if which(relay) {
			if x := relay.times[nameOurs].over(relay.times[nameBare]).median(); x > most {
				most, at = x, relay.name
			}
		}
	}
	return fmt.Sprintf("%s or less (most: %s)", percent(most), at), most <= 1.03
}

func policyMark(size int, most float64) func(r *results) (string, bool) {
	return func(r *results) (string, bool) {
		w := find(r.policies, policyName(size))
		trust, rules := w.of(nameTrust), w.of(nameRules)
		return fmt.Sprintf("Trust %.1f ns, Rules %.1f ns, %g allocations", trust.ns.median(), rules.ns.median(), max(trust.allocs, rules.allocs)),
			max(trust.ns.median(), rules.ns.median()) < most && max(trust.allocs, rules.allocs) == 0
	}
}

// percent writes a ratio as what is more or less.
func percent(x float64) string { return fmt.Sprintf("%+.1f %%", (x-1)*100) }

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
