package proxyproto

import "sync/atomic"

// Stats are counts since the Listener was made. A connection counts in Accepted when the inner
// listener returns it, and in exactly one of the others when its first bytes are decided: for one
// that is lazy, or that was served before its first byte came, that is when it is read, if ever.
// Package proxyudp counts datagrams in the same way.
//
// Together they are never more than Accepted.
type Stats struct {
	Accepted uint64 // connections from the inner listener
	Pending  int    // those of them that wait for their header now, in the Listener's hands

	// Served, by what they brought.
	V1      uint64 // a version 1 header
	V2      uint64 // a version 2 header with the command PROXY
	Local   uint64 // a version 2 header with the command LOCAL
	Bare    uint64 // no header, under Optional or Ignore
	Ignored uint64 // a header that Ignore skipped
	Skipped uint64 // not looked at, under Skip

	// Probes ended without having sent a byte, or nothing but a LOCAL header: health checks,
	// port scans.
	Probes uint64

	// Dropped has how many were closed for each Reason; those with none are left out.
	Dropped map[Reason]uint64
}

// TotalDropped returns how many connections were closed for any reason.
func (s Stats) TotalDropped() (total uint64) {
	for _, n := range s.Dropped {
		total += n
	}
	return total
}

// An outcome is what a connection counts as.
type outcome uint8

const (
	uncounted outcome = iota // as long as its first bytes aren't decided
	servedV1
	servedV2
	servedLocal
	servedBare
	servedIgnored
	servedSkipped
	probed
	outcomes // and a drop for a Reason is outcomes + Reason
)

// counters are Stats while counting. A nil one counts nothing.
type counters struct {
	accepted atomic.Uint64
	outcomes [int(outcomes) + int(reasons)]atomic.Uint64
}

func (c *counters) count(o outcome) {
	if c != nil && o != uncounted {
		c.outcomes[o].Add(1)
	}
}

func (c *counters) drop(r Reason) { c.count(outcomes + outcome(r)) }

// stats returns all but Accepted and Pending, which the caller has to read afterwards.
func (c *counters) stats() Stats {
	s := Stats{
		V1:      c.outcomes[servedV1].Load(),
		V2:      c.outcomes[servedV2].Load(),
		Local:   c.outcomes[servedLocal].Load(),
		Bare:    c.outcomes[servedBare].Load(),
		Ignored: c.outcomes[servedIgnored].Load(),
		Skipped: c.outcomes[servedSkipped].Load(),
		Probes:  c.outcomes[probed].Load(),
		Dropped: make(map[Reason]uint64),
	}
	for r := Reason(1); r < reasons; r++ {
		if n := c.outcomes[outcomes+outcome(r)].Load(); n > 0 {
			s.Dropped[r] = n
		}
	}
	return s
}
