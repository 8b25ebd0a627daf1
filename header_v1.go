package proxyproto

import (
	"bytes"
	"encoding/binary"
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
//
// A line is read by its addresses, not by its keyword. With the keyword alone nginx can't say what
// it means once its realip module has replaced the client's address: it writes the client's family
// there and its own socket's address as the destination, whatever family that one has.
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
		i, broken = readTCP(h, b, true)
	case len(b) >= len(tcp6V1) && string(b[:len(tcp6V1)]) == tcp6V1:
		i, broken = readTCP(h, b, false)
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
// after it, or the rule that it breaks and the index of the byte that breaks it: if b ends before
// that byte none is broken yet. Given a rule that is broken already they hand that on.

// readTCP reads what follows TCP4 or TCP6; v4 says that it was TCP4.
func readTCP(h *Header, b []byte, v4 bool) (int, rule) {
	source, i, broken := readAddr(b, len(tcp4V1), v4, keeps)
	i, broken = readSpace(b, i, broken)
	destination, i, broken := readAddr(b, i, v4, broken)
	if broken == badAddr && i < len(b) && b[i] == 'u' && source.IsValid() {
		broken = badUnixAddr
	}
	i, broken = readSpace(b, i, broken)
	sourcePort, i, broken := readPort(b, i, broken)
	i, broken = readSpace(b, i, broken)
	destinationPort, i, broken := readPort(b, i, broken)
	i, broken = readEnd(b, i, broken)
	if broken != keeps {
		return i, broken
	}
	h.Protocol = TCP6
	switch v4, destinationV4 := source.Is4(), destination.Is4(); {
	case v4 && destinationV4:
		h.Protocol = TCP4
	case v4:
		source = netip.AddrFrom16(source.As16())
	case destinationV4:
		destination = netip.AddrFrom16(destination.As16())
	}
	h.Source = netip.AddrPortFrom(source, sourcePort)
	h.Destination = netip.AddrPortFrom(destination, destinationPort)
	return i, keeps
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
	switch {
	case broken != keeps:
		return 0, i, broken
	case i >= len(b) || !isDigit(b[i]):
		return 0, i, badPortDigit
	case b[i] == '0':
		if i++; i < len(b) && isDigit(b[i]) {
			return 0, i, badPortZero
		}
		return 0, i, keeps
	}
	port := uint(0)
	for ; i < len(b) && isDigit(b[i]); i++ {
		if port = port*10 + uint(b[i]-'0'); port > 1<<16-1 {
			return 0, i, badPortRange
		}
	}
	return uint16(port), i, keeps
}

// readAddr reads an address of either family; v4 says which is likely. What isn't good IPv4 is
// judged by readIPv6, which has the rules of both.
func readAddr(b []byte, i int, v4 bool, broken rule) (netip.Addr, int, rule) {
	if broken != keeps {
		return netip.Addr{}, i, broken
	}
	if v4 {
		ip, next, broken := readIPv4(b, i, i+maxIPv6V1)
		if broken == keeps || next >= len(b) {
			return addr4(ip), next, broken
		}
	}
	return readIPv6(b, i)
}

// readIPv4 reads four decimal numbers with dots between them, which have to end before byte end.
func readIPv4(b []byte, i, end int) (ip uint32, next int, broken rule) {
	limit := end - len(".0.0.0") // of this number: those after it need room
	for k := 0; ; k++ {
		if i >= len(b) || !isDigit(b[i]) {
			return 0, i, badIPv4Digit
		}
		number := uint32(b[i] - '0')
		for i++; i < len(b) && isDigit(b[i]); i++ {
			if number == 0 {
				return 0, i, badIPv4Zero
			}
			if number = number*10 + uint32(b[i]-'0'); number > 255 {
				return 0, i, badIPv4Range
			}
			if i >= limit {
				return 0, i, badIPv6Length
			}
		}
		ip = ip<<8 | number
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

// readIPv6 reads an IPv6 address: eight groups of one to four hexadecimal digits with colons
// between them, one run of which may be left out as "::", and the last two of which may be written
// as an IPv4 address is. It also reads an IPv4 address alone, which begins as a group does.
func readIPv6(b []byte, i int) (ip netip.Addr, next int, broken rule) {
	var head, tail groups // before "::" and after it; all are tail if there is none
	n, gap := 0, -1       // groups so far, and those before "::"
	most := 8             // how many there may be: one less with "::"
	first := i

	// It begins with "::" or with a group.
	switch {
	case i < len(b) && b[i] == ':':
		if i++; i >= len(b) || b[i] != ':' {
			return ip, i, badIPv6Digit
		}
		i++
		gap, most = 0, 7
	case i >= len(b) || hexDigit[b[i]] == notHex:
		return ip, i, badAddr
	}
	for {
		// After "::" there may be nothing more.
		if gap >= 0 {
			switch hex := i < len(b) && hexDigit[b[i]] < notHex; {
			case hex && n == most:
				return ip, i, badIPv6Count
			case i < len(b) && !hex && b[i] != ':':
				return head.shift(8 - gap).addr(), i, keeps
			}
		}
		// Otherwise groups, and what ends them says how the address goes on.
		tail, n, i, broken = readGroups(b, i, n, most)
		switch {
		case broken != keeps:
			return ip, i, broken
		case i >= len(b):
			return ip, i, badIPv6Colon
		case b[i] == ':' && gap >= 0:
			return ip, i, badIPv6Gap
		case b[i] == ':':
			gap, most = n, 7
			head, tail = tail, groups{}
			i++
			continue
		case b[i] == '.':
			// The last group was the first number of an IPv4 address: is there room for it?
			alone := n == 1 && gap < 0
			if !alone && (n+1 > most || gap < 0 && n+1 < most) {
				return ip, i, badIPv6Dotted
			}
			dot, start := i, i
			for start > first && hexDigit[b[start-1]] < notHex {
				start--
			}
			var quad uint32
			if quad, i, broken = readIPv4(b, start, first+maxIPv6V1); broken != keeps {
				return ip, max(dot, i), broken
			}
			if alone {
				return addr4(quad), i, keeps
			}
			tail.lo &^= 0xffff
			tail = groups{tail.hi, tail.lo | uint64(quad>>16)}.push(uint64(quad & 0xffff))
			n++
		case hexDigit[b[i]] < notHex:
			return ip, i, badIPv6Group
		}
		break
	}
	if gap >= 0 {
		head = head.shift(8 - gap)
	} else if n < 8 {
		return ip, i, badIPv6Colon
	}
	return groups{head.hi | tail.hi, head.lo | tail.lo}.addr(), i, keeps
}

// readGroups reads groups with single colons between them, of an address that has n groups
// before and may have most in all. It ends after a group, or at the second of two colons.
func readGroups(b []byte, i, n, most int) (g groups, total, next int, _ rule) {
	before := n
	for {
		group, start := notHex, i
		if i+4 <= len(b) {
			// Four at once: 69 instead of 81 ns for a line with two addresses of full length.
			group = hexDigit[b[i]]<<12 | hexDigit[b[i+1]]<<8 |
				hexDigit[b[i+2]]<<4 | hexDigit[b[i+3]]
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
