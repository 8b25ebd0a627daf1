package proxyproto

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"strconv"
)

// Version 1, section 2.1: one line of US-ASCII,
//
//	PROXY SP TCP4|TCP6 SP source SP destination SP source-port SP destination-port CRLF
//	PROXY SP UNKNOWN [SP anything] CRLF
//
// of at most 107 bytes. A TCP4 line has at most 56 and a TCP6 line 104, because an address
// has at most 15 and 39 characters.
const (
	prefixV1  = "PROXY"
	tcp4V1    = "PROXY TCP4 "
	tcp6V1    = "PROXY TCP6 "
	unknownV1 = "PROXY UNKNOWN"
	maxV1     = 107
	maxIPv6V1 = 39
)

func parseV1(h *Header, b []byte) (int, error) {
	i, broken := 0, keeps
	switch {
	case len(b) >= len(tcp4V1) && string(b[:len(tcp4V1)]) == tcp4V1:
		i, broken = readTCP4(h, b)
	case len(b) >= len(tcp6V1) && string(b[:len(tcp6V1)]) == tcp6V1:
		i, broken = readTCP6(h, b)
	case len(b) >= len(unknownV1) && string(b[:len(unknownV1)]) == unknownV1:
		i, broken = readUnknown(b)
	default:
		i, broken = refuseStartV1(b)
	}
	switch {
	case broken == keeps:
		h.Version, h.Command = V1, Proxy
		return i, nil
	case i >= len(b):
		return 0, ErrIncomplete
	case i < len(prefixV1):
		return 0, ErrNoHeader
	}
	return 0, formatError(broken, i)
}

// The functions below read a part of a line from byte i on. They return the index of the byte
// behind it, or the rule that it breaks and the index of the byte that breaks it: if b ends before
// that byte none is broken yet. Given a rule that is broken already they hand that on.

func readTCP4(h *Header, b []byte) (int, rule) {
	source, i, broken := readIPv4(b, len(tcp4V1), math.MaxInt, keeps)
	i, broken = readSpace(b, i, broken)
	destination, i, broken := readIPv4(b, i, math.MaxInt, broken)
	i, broken = readSpace(b, i, broken)
	sourcePort, i, broken := readPort(b, i, broken)
	i, broken = readSpace(b, i, broken)
	destinationPort, i, broken := readPort(b, i, broken)
	i, broken = readEnd(b, i, broken)
	if broken == keeps {
		h.Protocol = TCP4
		h.Source = netip.AddrPortFrom(addr4(source), sourcePort)
		h.Destination = netip.AddrPortFrom(addr4(destination), destinationPort)
	}
	return i, broken
}

func readTCP6(h *Header, b []byte) (int, rule) {
	source, i, broken := readIPv6(b, len(tcp6V1), keeps)
	i, broken = readSpace(b, i, broken)
	destination, i, broken := readIPv6(b, i, broken)
	i, broken = readSpace(b, i, broken)
	sourcePort, i, broken := readPort(b, i, broken)
	i, broken = readSpace(b, i, broken)
	destinationPort, i, broken := readPort(b, i, broken)
	i, broken = readEnd(b, i, broken)
	if broken == keeps {
		h.Protocol = TCP6
		h.Source = netip.AddrPortFrom(source, sourcePort)
		h.Destination = netip.AddrPortFrom(destination, destinationPort)
	}
	return i, broken
}

// readUnknown reads what follows UNKNOWN: nothing or a space and anything, up to the CRLF.
func readUnknown(b []byte) (int, rule) {
	i := len(unknownV1)
	if i < len(b) && b[i] == '\r' {
		return readEnd(b, i, keeps)
	}
	if i >= len(b) || b[i] != ' ' {
		return i, badUnknown
	}
	limited := b[:min(len(b), maxV1)]
	switch end := bytes.Index(limited, []byte("\r\n")); {
	case end >= 0:
		return end + 2, keeps
	case len(limited) >= maxV1-1 && limited[maxV1-2] != '\r':
		return maxV1 - 2, badLineLength
	}
	return maxV1 - 1, badLineLength
}

// refuseStartV1 finds the first byte that none of the three beginnings has.
func refuseStartV1(b []byte) (int, rule) {
	same := 0
	for _, s := range []string{tcp4V1, tcp6V1, unknownV1} {
		i := 0
		for i < len(s) && i < len(b) && b[i] == s[i] {
			i++
		}
		same = max(same, i)
	}
	if same == len(prefixV1) || same == len(tcp4V1)-1 {
		return same, badSpace
	}
	return same, badProtocolName
}

func readSpace(b []byte, i int, broken rule) (int, rule) {
	switch {
	case broken != keeps:
		return i, broken
	case i >= len(b) || b[i] != ' ':
		return i, badSpace
	}
	return i + 1, keeps
}

func readEnd(b []byte, i int, broken rule) (int, rule) {
	switch {
	case broken != keeps:
		return i, broken
	case i >= len(b) || b[i] != '\r':
		return i, badLineEnd
	case i+1 >= len(b) || b[i+1] != '\n':
		return i + 1, badLineEnd
	}
	return i + 2, keeps
}

func readPort(b []byte, i int, broken rule) (uint16, int, rule) {
	if broken != keeps {
		return 0, i, broken
	}
	if i >= len(b) || !isDigit(b[i]) {
		return 0, i, badPortDigit
	}
	port := uint(b[i] - '0')
	zero := port == 0
	for i++; i < len(b) && isDigit(b[i]); i++ {
		port = port*10 + uint(b[i]-'0')
		if zero {
			return 0, i, badPortZero
		}
		if port > 1<<16-1 {
			return 0, i, badPortRange
		}
	}
	return uint16(port), i, keeps
}

// readIPv4 reads a dotted quad that has to end before byte limit.
func readIPv4(b []byte, i, limit int, broken rule) (ip uint32, next int, _ rule) {
	if broken != keeps {
		return 0, i, broken
	}
	limit -= len(".0.0.0")
	for k := 0; ; k++ {
		if i >= len(b) || !isDigit(b[i]) {
			return 0, i, badIPv4Digit
		}
		n := uint32(b[i] - '0')
		if i++; i < len(b) && isDigit(b[i]) {
			if n == 0 {
				return 0, i, badIPv4Zero
			}
			if i >= limit {
				return 0, i, badIPv6Length
			}
			n = n*10 + uint32(b[i]-'0')
			if i++; i < len(b) && isDigit(b[i]) {
				if n = n*10 + uint32(b[i]-'0'); n > 255 {
					return 0, i, badIPv4Range
				}
				if i >= limit {
					return 0, i, badIPv6Length
				}
				if i++; i < len(b) && isDigit(b[i]) {
					return 0, i, badIPv4Range
				}
			}
		}
		ip = ip<<8 | n
		if k == 3 {
			return ip, i, keeps
		}
		if i >= len(b) || b[i] != '.' {
			return 0, i, badIPv4Dot
		}
		i++
		limit += len(".0")
	}
}

func addr4(ip uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], ip)
	return netip.AddrFrom4(b)
}

// groups are some of an IPv6 address's groups of 16 bits, as a number.
type groups struct{ hi, lo uint64 }

func (g groups) push(group uint64) groups {
	return groups{g.hi<<16 | g.lo>>48, g.lo<<16 | group}
}

// shift moves g up by n groups.
func (g groups) shift(n int) groups {
	if n >= 4 {
		return groups{g.lo << (16 * (n - 4)), 0}
	}
	return groups{g.hi<<(16*n) | g.lo>>(64-16*n), g.lo << (16 * n)}
}

func (g groups) addr() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], g.hi)
	binary.BigEndian.PutUint64(b[8:], g.lo)
	return netip.AddrFrom16(b)
}

// readIPv6 reads an IPv6 address: eight groups of one to four hexadecimal digits, one run of
// which may be left out as "::", and the last two of which may be a dotted quad.
func readIPv6(b []byte, i int, broken rule) (ip netip.Addr, next int, _ rule) {
	if broken != keeps {
		return ip, i, broken
	}
	first := i
	var head, tail groups // before "::" and behind it; all are tail if there is none
	n, gap := 0, -1       // groups so far, and those before "::"
	if i < len(b) && b[i] == ':' {
		if i++; i >= len(b) || b[i] != ':' {
			return ip, i, badIPv6Digit
		}
		gap = 0
		i++
	}
	for more := true; more; {
		most := 8
		if gap >= 0 {
			most = 7
			switch hex := i < len(b) && hexDigit[b[i]] < notHex; {
			case hex && n == most:
				return ip, i, badIPv6Count
			case i < len(b) && !hex && b[i] != ':':
				return head.shift(8 - gap).addr(), i, keeps // "::" ends the address
			}
		}
		tail, n, next, broken = readGroups(b, i, n, most)
		switch i = next; {
		case broken != keeps:
			return ip, i, broken
		case i >= len(b):
			return ip, i, badIPv6Colon
		case b[i] == ':' && gap >= 0:
			return ip, i, badIPv6Gap
		case b[i] == ':':
			gap, head, tail = n, tail, groups{}
			i++
		case b[i] == '.':
			if n+1 > most || gap < 0 && n+1 < most {
				return ip, i, badIPv6Dotted
			}
			var quad uint32
			if quad, i, broken = readDotted(b, i, first+maxIPv6V1); broken != keeps {
				return ip, i, broken
			}
			tail.lo &^= 0xffff // the quad's first number, taken for a group
			tail = groups{tail.hi, tail.lo | uint64(quad>>16)}.push(uint64(quad & 0xffff))
			n++
			more = false
		case hexDigit[b[i]] < notHex:
			return ip, i, badIPv6Group
		default:
			more = false
		}
	}
	if gap < 0 && n < 8 {
		return ip, i, badIPv6Colon
	}
	if gap >= 0 {
		head = head.shift(8 - gap)
	}
	return groups{head.hi | tail.hi, head.lo | tail.lo}.addr(), i, keeps
}

// readGroups reads groups with single colons between them, of an address that has n groups
// before and may have most in all. It ends behind a group, or at the second of two colons.
func readGroups(b []byte, i, n, most int) (g groups, total, next int, _ rule) {
	before := n
	for {
		group, start := notHex, i
		if i+4 <= len(b) {
			group = hexDigit[b[i]]<<12 | hexDigit[b[i+1]]<<8 | hexDigit[b[i+2]]<<4 | hexDigit[b[i+3]]
		}
		if group < notHex {
			i += 4
		} else {
			group = 0
			for i < len(b) && i < start+4 && hexDigit[b[i]] < notHex {
				group = group<<4 | hexDigit[b[i]]
				i++
			}
			if i == start {
				if n > before && i < len(b) && b[i] == ':' {
					return g, n, i, keeps
				}
				return g, n, i, badIPv6Digit
			}
		}
		g = g.push(group)
		n++
		if i >= len(b) || b[i] != ':' {
			return g, n, i, keeps
		}
		if n >= most {
			return g, n, i, badIPv6Count
		}
		i++
	}
}

// readDotted reads the dotted quad that ends an IPv6 address and has to end before byte limit.
// Its first number was a group of hexadecimal digits until the dot came.
func readDotted(b []byte, dot, limit int) (quad uint32, next int, broken rule) {
	start := dot
	for hexDigit[b[start-1]] < notHex {
		start--
	}
	if _, end, _ := readIPv4(b[:dot+1], start, math.MaxInt, keeps); end <= dot {
		return 0, dot, badIPv6Dotted
	}
	return readIPv4(b, start, limit, keeps)
}

func isDigit(c byte) bool { return c-'0' <= 9 }

// hexDigit has the values of the hexadecimal digits, and notHex for all other bytes: more
// than a group of four digits can have.
var hexDigit = func() (values [256]uint64) {
	for c := range values {
		values[c] = notHex
	}
	for i, c := range []byte("0123456789abcdef") {
		values[c] = uint64(i)
	}
	for i, c := range []byte("ABCDEF") {
		values[c] = uint64(10 + i)
	}
	return values
}()

const notHex = uint64(1 << 16)

func appendV1(h *Header, b []byte) ([]byte, error) {
	switch {
	case h.Command != Proxy:
		return b, unencodable("version 1 has no command " + h.Command.String())
	case len(h.TLVs) > 0:
		return b, unencodable("version 1 has no TLVs")
	case h.Protocol != Unspec && h.Protocol != TCP4 && h.Protocol != TCP6:
		return b, unencodable("version 1 has no protocol " + h.Protocol.String())
	}
	if err := h.checkAddresses(); err != nil {
		return b, err
	}
	switch h.Protocol {
	case Unspec:
		return append(b, unknownV1+"\r\n"...), nil
	case TCP4:
		b = append(b, tcp4V1...)
	case TCP6:
		b = append(b, tcp6V1...)
	}
	b = append(h.Source.Addr().AppendTo(b), ' ')
	b = append(h.Destination.Addr().AppendTo(b), ' ')
	b = append(strconv.AppendUint(b, uint64(h.Source.Port()), 10), ' ')
	b = strconv.AppendUint(b, uint64(h.Destination.Port()), 10)
	return append(b, "\r\n"...), nil
}
