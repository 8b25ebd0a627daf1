package proxyproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// Action says what to do with a peer's connection. It is chosen before a byte is read.
type Action uint8

const (
	// Reject closes the connection.
	Reject Action = iota

	// Require serves the connection if it begins with a valid header and closes it if not. It
	// is the Action for a proxy.
	Require

	// Skip serves the connection as it is, with all its bytes: no header is looked for. It is
	// the Action for peers that connect directly.
	Skip

	// Optional takes a header if the first bytes are one and serves the connection as it is if
	// they aren't. Whoever may connect may then claim any address, which is why the spec forbids
	// guessing (section 2): use it during a migration only, for peers that you trust anyway.
	Optional

	// Ignore skips a header as Optional does and believes nothing in it: the connection has the
	// socket's addresses and no Header.
	Ignore
)

func (a Action) String() string {
	switch a {
	case Reject:
		return "Reject"
	case Require:
		return "Require"
	case Skip:
		return "Skip"
	case Optional:
		return "Optional"
	case Ignore:
		return "Ignore"
	}
	return "Action(" + strconv.Itoa(int(a)) + ")"
}

// Policy chooses the Action for a connection by the peer at the other end of the socket and
// the local address that it connected to. Both are plain: IPv4-mapped IPv6 addresses come as
// IPv4, and without zone. An end that has no IP address (a Unix socket) is the zero AddrPort. An
// Action that isn't one of the constants rejects.
//
// It is called for every connection before the next is accepted, and may be called by several
// goroutines at once: it must not block.
type Policy func(peer, local netip.AddrPort) Action

// livePolicy is a Policy that can be replaced while it is asked.
type livePolicy struct{ current atomic.Pointer[Policy] }

// set replaces the Policy; nil rejects everybody.
func (l *livePolicy) set(p Policy) {
	if p == nil {
		p = Always(Reject)
	}
	l.current.Store(&p)
}

func (l *livePolicy) ask(peer, local netip.AddrPort) Action { return (*l.current.Load())(peer, local) }

// Always is the Policy that chooses the same Action for every peer.
func Always(action Action) Policy {
	return func(_, _ netip.AddrPort) Action { return action }
}

// Trust is the Policy that requires a header from peers in the prefixes and rejects all others.
func Trust(prefixes ...netip.Prefix) Policy {
	rules := make([]Rule, len(prefixes))
	for i, p := range prefixes {
		rules[i] = Rule{p, Require}
	}
	return Rules(Reject, rules...)
}

// ParseTrust is [Trust] for prefixes as a configuration file has them: CIDR ranges
// ("10.0.0.0/8", "2001:db8::/32") and single addresses ("192.0.2.1"). Bits behind a range's
// prefix length don't count. The error names the first string that is neither.
func ParseTrust(prefixes ...string) (Policy, error) {
	parsed := make([]netip.Prefix, len(prefixes))
	for i, s := range prefixes {
		s = strings.TrimSpace(s)
		p, err := netip.ParsePrefix(s)
		if err != nil && !strings.Contains(s, "/") {
			var addr netip.Addr
			if addr, err = netip.ParseAddr(s); err == nil && addr.Zone() != "" {
				err = errors.New("a zone can't be trusted apart")
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("proxyproto: trusted address %q is neither an IP address nor a CIDR range: %w", s, err)
		}
		parsed[i] = p
	}
	return Trust(parsed...), nil
}

// Rule is an Action for the peers in a prefix.
type Rule struct {
	Prefix netip.Prefix
	Action Action
}

// Rules is the Policy that chooses by the peer's address: the Action of the longest prefix that
// contains it, and otherwise if none does. Of two rules for one prefix the later counts; one
// with an invalid prefix never does. A prefix of IPv4-mapped addresses is one of IPv4, and no
// shorter prefix of IPv6 (::/0, say) contains IPv4.
//
// The Policy costs a binary search and doesn't allocate.
func Rules(otherwise Action, rules ...Rule) Policy {
	t := newRangeTable(otherwise, rules)
	return func(peer, _ netip.AddrPort) Action {
		if addr := peer.Addr(); addr.IsValid() {
			return t.lookup(key(addr))
		}
		return otherwise
	}
}

// ipKey is an IP address as a 128-bit number, IPv4 as an IPv4-mapped address.
type ipKey struct{ hi, lo uint64 }

func key(a netip.Addr) ipKey {
	if a.Is4() {
		// As the last case does, without 16 bytes that are written and then read at once: 6 ns
		// instead of 11 for a Policy with one prefix.
		b := a.As4()
		return ipKey{0, 0xffff<<32 | uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return ipKey{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (k ipKey) less(o ipKey) bool { return k.hi < o.hi || k.hi == o.hi && k.lo < o.lo }

// last returns the last key that shares k's first n bits.
func (k ipKey) last(n int) ipKey {
	if n <= 64 {
		return ipKey{k.hi | ^uint64(0)>>n, ^uint64(0)}
	}
	return ipKey{k.hi, k.lo | ^uint64(0)>>(n-64)}
}

// next returns the key behind k, and whether there is one.
func (k ipKey) next() (ipKey, bool) {
	k.lo++
	if k.lo == 0 {
		k.hi++
	}
	return k, k != ipKey{}
}

// A rangeTable cuts the address space into ranges, each with the Action of the longest prefix
// that contains it. It never changes once it is made.
type rangeTable struct {
	starts  []ipKey // ascending; the first is zero
	actions []Action
}

// A span is one rule's range of keys.
type span struct {
	start, last ipKey
	bits        int
	action      Action
}

func newRangeTable(otherwise Action, rules []Rule) *rangeTable {
	mapped := netip.MustParsePrefix("::ffff:0:0/96")
	spans := make([]span, 0, len(rules)+2)
	for _, r := range append([]Rule{{netip.MustParsePrefix("::/0"), otherwise}, {mapped, otherwise}}, rules...) {
		if !r.Prefix.IsValid() {
			continue
		}
		p := r.Prefix.Masked()
		s := span{start: key(p.Addr()), bits: p.Bits(), action: r.Action}
		if p.Addr().Is4() {
			s.bits += mapped.Bits()
		}
		s.last = s.start.last(s.bits)
		spans = append(spans, s)
	}
	// Outer ranges before inner ones, later rules behind earlier ones for the same range.
	slices.SortStableFunc(spans, func(a, b span) int {
		switch {
		case a.start.less(b.start):
			return -1
		case b.start.less(a.start):
			return 1
		}
		return a.bits - b.bits
	})
	t := new(rangeTable)
	var open []span
	closeBefore := func(start ipKey, all bool) {
		for len(open) > 1 && (all || open[len(open)-1].last.less(start)) {
			ended := open[len(open)-1]
			open = open[:len(open)-1]
			if next, ok := ended.last.next(); ok {
				t.add(next, open[len(open)-1].action)
			}
		}
	}
	for _, s := range spans {
		closeBefore(s.start, false)
		open = append(open, s)
		t.add(s.start, s.action)
	}
	closeBefore(ipKey{}, true)
	return t
}

// add begins a range. Of ranges that begin at one key the last counts, and ranges that follow
// each other with the same Action are one.
func (t *rangeTable) add(start ipKey, action Action) {
	if n := len(t.starts); n > 0 && t.starts[n-1] == start {
		t.starts, t.actions = t.starts[:n-1], t.actions[:n-1]
	}
	if n := len(t.actions); n > 0 && t.actions[n-1] == action {
		return
	}
	t.starts, t.actions = append(t.starts, start), append(t.actions, action)
}

func (t *rangeTable) lookup(k ipKey) Action {
	low, n := 0, len(t.starts)
	for n > 1 {
		half := n / 2
		if !k.less(t.starts[low+half]) {
			low += half
		}
		n -= half
	}
	return t.actions[low]
}
