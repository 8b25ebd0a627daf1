package proxyproto

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// Peer is who holds the other end of a socket: a proxy, or a client that connects directly.
type Peer struct {
	// Addr is the peer's address and Local the one of ours that it connected to. Both are plain:
	// IPv4-mapped IPv6 addresses come as IPv4, and without zone. An end that has no IP address (a
	// Unix socket) is the zero AddrPort.
	Addr, Local netip.AddrPort

	// Conn is the inner connection, to ask what it is: a Unix peer's credentials, or the
	// ConnectionState of a *tls.Conn. (That in Validate only: before, it would wait for the
	// handshake.) Never read from it, write to it, close it or set its deadlines. In OnDrop it is
	// closed already. It is nil for a datagram.
	Conn net.Conn
}

// String returns the peer's address and port for a log line. Without an IP address it is the
// network and the peer's name, if it has one: "unix", `unix "/run/client.sock"`.
func (p Peer) String() string {
	if p.Addr.IsValid() {
		return p.Addr.String()
	}
	if p.Conn == nil {
		return "unknown"
	}
	addr := p.Conn.RemoteAddr()
	if addr == nil {
		return "unknown"
	}
	network, name := addr.Network(), addr.String()
	if name == "" || name == "@" || name == network {
		return network
	}
	return network + " " + strconv.QuoteToASCII(name)
}

// MarshalText returns what String does, so that a JSON log has the peer's address in a field.
func (p Peer) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// peerOf returns who holds the other end of a connection.
func peerOf(conn net.Conn) Peer {
	return Peer{Addr: addrPort(conn.RemoteAddr()), Local: addrPort(conn.LocalAddr()), Conn: conn}
}

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
	// they aren't, or if nothing comes for Config.HeaderTimeout. A header that comes after that
	// closes the connection. (With TLS inside, a client that hasn't shaken hands by then is lost:
	// crypto/tls can't go on.) Whoever may connect may then claim any address, which is why the
	// spec forbids guessing (section 2): use it during a migration only, for peers that you
	// trust anyway.
	Optional

	// Ignore serves the connection at once, with the socket's addresses and no Header. A header
	// at its front is taken off, whenever it comes, and nothing in it is believed.
	Ignore
)

var actionNames = [...]string{
	Reject: "reject", Require: "require", Skip: "skip", Optional: "optional", Ignore: "ignore",
}

// String returns the Action's name in lower case.
func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return "Action(" + strconv.Itoa(int(a)) + ")"
}

// MarshalText returns what String does. It is an error if a isn't one of the constants.
func (a Action) MarshalText() ([]byte, error) {
	if int(a) >= len(actionNames) {
		return nil, fmt.Errorf("proxyproto: there is no %v", a)
	}
	return []byte(actionNames[a]), nil
}

// UnmarshalText reads an Action's name as it is in a configuration file: "require", for example.
func (a *Action) UnmarshalText(text []byte) error {
	i := slices.Index(actionNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("proxyproto: there is no action %q: expected %s", text,
			strings.Join(actionNames[:], ", "))
	}
	*a = Action(i)
	return nil
}

// Policy chooses the Action for a peer's connection. An Action that isn't one of the constants
// rejects.
//
// It is called for every connection before the next is accepted, and may be called by several
// goroutines at once: it must not block.
type Policy func(p Peer) Action

// livePolicy is a Policy that can be replaced while it is asked.
type livePolicy struct{ current atomic.Pointer[Policy] }

// set replaces the Policy; nil rejects everybody.
func (l *livePolicy) set(p Policy) {
	if p == nil {
		p = Always(Reject)
	}
	l.current.Store(&p)
}

func (l *livePolicy) ask(peer Peer) Action { return (*l.current.Load())(peer) }

// Always is the Policy that chooses the same Action for every peer.
func Always(action Action) Policy {
	return func(Peer) Action { return action }
}

// Trust is the Policy that requires a header from peers in the prefixes and rejects all others.
// It panics if a prefix is invalid, as [Rules] does.
func Trust(prefixes ...netip.Prefix) Policy {
	rules := make([]Rule, len(prefixes))
	for i, p := range prefixes {
		rules[i] = Rule{p, Require}
	}
	return Rules(Reject, rules...)
}

// ParseTrust is [Trust] for prefixes as a configuration file has them: see [ParsePrefixes].
func ParseTrust(prefixes ...string) (Policy, error) {
	parsed, err := ParsePrefixes(prefixes...)
	if err != nil {
		return nil, err
	}
	return Trust(parsed...), nil
}

// ParsePrefixes reads prefixes as a configuration file has them: CIDR ranges ("10.0.0.0/8",
// "2001:db8::/32") and single addresses ("192.0.2.1"), with or without white space around them.
// Bits after a range's prefix length are cleared, and IPv4-mapped ones become IPv4. The error
// names the first string that is neither.
func ParsePrefixes(prefixes ...string) ([]netip.Prefix, error) {
	parsed := make([]netip.Prefix, len(prefixes))
	for i, s := range prefixes {
		s = strings.TrimSpace(s)
		p, err := netip.ParsePrefix(s)
		if err != nil && !strings.Contains(s, "/") {
			var addr netip.Addr
			if addr, err = netip.ParseAddr(s); err == nil && addr.Zone() != "" {
				err = fmt.Errorf("an address with a zone has no prefix")
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		if err == nil {
			p, err = plainPrefix(p)
		}
		if err != nil {
			return nil, fmt.Errorf("proxyproto: %q is neither an IP address nor a CIDR range: %w",
				s, err)
		}
		parsed[i] = p
	}
	return parsed, nil
}

// plainPrefix gives a prefix its one plain form: masked, and one of IPv4-mapped addresses as IPv4.
func plainPrefix(p netip.Prefix) (netip.Prefix, error) {
	switch {
	case !p.IsValid():
		return p, fmt.Errorf("invalid prefix")
	case !p.Addr().Is4In6():
		return p.Masked(), nil
	case p.Bits() < bitsMapped:
		return p, fmt.Errorf("the prefix length of IPv4-mapped addresses is at least %d: "+
			"for IPv4 write %v/n", bitsMapped, p.Addr().Unmap())
	}
	return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-bitsMapped).Masked(), nil
}

// bitsMapped is how many bits are the same in all IPv4-mapped IPv6 addresses.
const bitsMapped = 96

// Rule is an Action for the peers in a prefix.
type Rule struct {
	Prefix netip.Prefix `json:"prefix" yaml:"prefix" toml:"prefix"`
	Action Action       `json:"action" yaml:"action" toml:"action"`
}

// Rules is the Policy that chooses by the peer's address: the Action of the longest prefix that
// contains it, and otherwise if none does. Of two rules for one prefix the later counts. A prefix
// of IPv4-mapped addresses is one of IPv4, and no shorter prefix of IPv6 (::/0, say) contains IPv4.
// A peer without an IP address (a Unix socket) gets otherwise.
//
// It panics if a prefix is invalid (the zero Prefix, for example) or one of IPv4-mapped addresses
// that is shorter than /96, since a rule that never matches would be worse. The Policy costs a
// binary search and doesn't allocate.
func Rules(otherwise Action, rules ...Rule) Policy {
	t := newRangeTable(otherwise, rules)
	return func(peer Peer) Action {
		if addr := peer.Addr.Addr(); addr.IsValid() {
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

// next returns the key after k, and whether there is one.
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

// newSpan returns the range of a plain prefix.
func newSpan(p netip.Prefix, action Action) span {
	s := span{start: key(p.Addr()), bits: p.Bits(), action: action}
	if p.Addr().Is4() {
		s.bits += bitsMapped
	}
	s.last = s.start.last(s.bits)
	return s
}

func newRangeTable(otherwise Action, rules []Rule) *rangeTable {
	spans := []span{
		newSpan(netip.MustParsePrefix("::/0"), otherwise),
		newSpan(netip.MustParsePrefix("0.0.0.0/0"), otherwise),
	}
	for _, r := range rules {
		p, err := plainPrefix(r.Prefix)
		if err != nil {
			panic(fmt.Sprintf("proxyproto: the rule for %v: %v", r.Prefix, err))
		}
		spans = append(spans, newSpan(p, r.Action))
	}
	// Outer ranges before inner ones, later rules after earlier ones for the same range.
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
