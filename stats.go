package proxyproto

import (
	"iter"
	"strconv"
	"sync/atomic"
)

// Reason is why a connection was dropped.
type Reason uint8

const (
	ReasonRejected   Reason = 1 + iota // by the Policy, before a byte was read
	ReasonNoHeader                     // the first bytes are no header
	ReasonMalformed                    // the header breaks a rule of the spec
	ReasonIncomplete                   // the peer ended the connection inside the header
	ReasonVersion                      // the header's version isn't in Config.Versions
	ReasonTooLarge                     // the header is longer than Config.MaxHeaderSize
	ReasonTimeout                      // the header wasn't there within Config.HeaderTimeout
	ReasonEvicted                      // it had waited longest when Config.MaxPending was reached
	ReasonInvalid                      // Config.Validate refused the header
	ReasonBroken                       // reading failed inside the header, by a reset for example
	ReasonClosed                       // we closed it, or the Listener, while the header was awaited
	reasons
)

var reasonNames = [reasons]string{
	ReasonRejected: "rejected", ReasonNoHeader: "no header", ReasonMalformed: "malformed",
	ReasonIncomplete: "incomplete", ReasonVersion: "version", ReasonTooLarge: "too large",
	ReasonTimeout: "timeout", ReasonEvicted: "evicted", ReasonInvalid: "invalid",
	ReasonBroken: "broken", ReasonClosed: "closed",
}

// String returns a short lower-case name that stays the same, fit for a metric's label.
func (r Reason) String() string {
	if r > 0 && r < reasons {
		return reasonNames[r]
	}
	return "Reason(" + strconv.Itoa(int(r)) + ")"
}

// DropError is what Config.OnDrop is told, and what a lazy connection's reader gets inside a
// *net.OpError.
type DropError struct {
	Reason Reason

	// Err is the cause: a [*FormatError], ErrNoHeader, ErrIncomplete, os.ErrDeadlineExceeded,
	// net.ErrClosed, the error of Config.Validate, a read error, or what Reason says in words.
	Err error

	// Bytes are up to 16 of those that the peer sent: the ones that led to the fault if it
	// is in the header's form, and otherwise the first. It is the receiver's own.
	Bytes []byte
}

func (e *DropError) Error() string {
	s := e.Err.Error()
	if len(e.Bytes) > 0 {
		s += " (sent " + strconv.QuoteToASCII(string(e.Bytes)) + ")"
	}
	return s
}

// Unwrap returns e.Err.
func (e *DropError) Unwrap() error { return e.Err }

// Timeout reports whether the header came too late. It makes a *net.OpError around e a timeout.
func (e *DropError) Timeout() bool { return e.Reason == ReasonTimeout }

// A dropReason is the Err of a DropError whose Reason says all.
type dropReason string

func (e dropReason) Error() string { return "proxyproto: " + string(e) }

// Stats are counts since the Listener was made. A connection counts in Accepted when the inner
// listener returns it, and in exactly one of the others when it is decided what becomes of it: for
// a lazy one that is when its header is read, if ever. For a PacketConn it is the datagrams that
// are counted.
type Stats struct {
	Accepted uint64 // connections from the inner listener
	Pending  int    // those of them whose header is being awaited now; not counted when Lazy

	// Served, by what they brought.
	V1      uint64 // a version 1 header
	V2      uint64 // a version 2 header with the command PROXY
	Local   uint64 // a version 2 header with the command LOCAL
	Bare    uint64 // no header, under Optional or Ignore
	Ignored uint64 // a header that Ignore skipped
	Skipped uint64 // not looked at, under Skip

	// Probes ended without having sent a byte: health checks, port scans.
	Probes uint64

	dropped [reasons]uint64
}

// Dropped returns how many connections were closed for the reason.
func (s Stats) Dropped(r Reason) uint64 {
	if r >= reasons {
		return 0
	}
	return s.dropped[r]
}

// Drops iterates over all reasons and their counts.
func (s Stats) Drops() iter.Seq2[Reason, uint64] {
	return func(yield func(Reason, uint64) bool) {
		for r := Reason(1); r < reasons; r++ {
			if !yield(r, s.dropped[r]) {
				return
			}
		}
	}
}

// TotalDropped returns how many connections were closed for any reason.
func (s Stats) TotalDropped() (total uint64) {
	for _, n := range s.Drops() {
		total += n
	}
	return total
}

// counters is Stats while counting. A nil one counts nothing.
type counters struct {
	accepted, v1, v2, local, bare, ignored, skipped, probes atomic.Uint64

	dropped [reasons]atomic.Uint64
}

func (c *counters) drop(r Reason) {
	if c != nil {
		c.dropped[r].Add(1)
	}
}

func (c *counters) probe() {
	if c != nil {
		c.probes.Add(1)
	}
}

// serve counts a connection whose header is decided.
func (c *counters) serve(action Action, h *Header) {
	switch {
	case c == nil:
	case h.Version == 0:
		c.bare.Add(1)
	case action == Ignore:
		c.ignored.Add(1)
	case h.Version == V1:
		c.v1.Add(1)
	case h.Command == Local:
		c.local.Add(1)
	default:
		c.v2.Add(1)
	}
}

func (c *counters) stats() Stats {
	s := Stats{
		Accepted: c.accepted.Load(),
		V1:       c.v1.Load(),
		V2:       c.v2.Load(),
		Local:    c.local.Load(),
		Bare:     c.bare.Load(),
		Ignored:  c.ignored.Load(),
		Skipped:  c.skipped.Load(),
		Probes:   c.probes.Load(),
	}
	for r := range s.dropped {
		s.dropped[r] = c.dropped[r].Load()
	}
	return s
}
