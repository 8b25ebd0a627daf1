package proxyudp

import (
	"sync/atomic"

	"github.com/seed2e8fe8ee/proxyproto"
)

// An outcome is what a datagram counts as.
type outcome uint8

const (
	servedV1 outcome = iota
	servedV2
	servedLocal
	servedBare
	servedIgnored
	servedSkipped
	probed
	outcomes // and a drop for a Reason is outcomes + Reason
)

// maxReason is the last Reason for which datagrams are dropped.
const maxReason = max(proxyproto.ReasonRejected, proxyproto.ReasonNoHeader,
	proxyproto.ReasonMalformed, proxyproto.ReasonIncomplete, proxyproto.ReasonVersion,
	proxyproto.ReasonTooLarge, proxyproto.ReasonInvalid)

// counters are Stats while counting.
type counters [int(outcomes) + int(maxReason) + 1]atomic.Uint64

func (c *counters) count(o outcome) { c[o].Add(1) }

func (c *counters) drop(r proxyproto.Reason) { c.count(outcomes + outcome(r)) }

// stats returns the counts. Accepted is their sum: one more count for each datagram is saved.
func (c *counters) stats() proxyproto.Stats {
	s := proxyproto.Stats{
		V1:      c[servedV1].Load(),
		V2:      c[servedV2].Load(),
		Local:   c[servedLocal].Load(),
		Bare:    c[servedBare].Load(),
		Ignored: c[servedIgnored].Load(),
		Skipped: c[servedSkipped].Load(),
		Probes:  c[probed].Load(),
		Dropped: make(map[proxyproto.Reason]uint64),
	}
	s.Accepted = s.V1 + s.V2 + s.Local + s.Bare + s.Ignored + s.Skipped + s.Probes
	for r := proxyproto.Reason(1); r <= maxReason; r++ {
		if n := c[outcomes+outcome(r)].Load(); n > 0 {
			s.Dropped[r] = n
			s.Accepted += n
		}
	}
	return s
}
