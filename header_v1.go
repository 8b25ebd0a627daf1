package proxyproto

import (
	"bytes"
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
	l := line{b: b}
	switch {
	case l.starts(tcp4V1):
		h.Protocol = TCP4
		source := netip.AddrFrom4(l.ipv4(math.MaxInt))
		l.space()
		destination := netip.AddrFrom4(l.ipv4(math.MaxInt))
		l.space()
		l.ports(h, source, destination)
	case l.starts(tcp6V1):
		h.Protocol = TCP6
		source := netip.AddrFrom16(l.ipv6())
		l.space()
		destination := netip.AddrFrom16(l.ipv6())
		l.space()
		l.ports(h, source, destination)
	case l.starts(unknownV1):
		l.unknown()
	default:
		l.refuseStart()
	}
	if l.broken != keeps {
		*h = Header{}
		return 0, l.err()
	}
	h.Version, h.Command = V1, Proxy
	return l.i, nil
}

// A line is a cursor on a version 1 header. The first broken rule stays, with i at the byte
// that broke it; from then on the methods do nothing.
type line struct {
	b      []byte
	i      int
	broken rule
}

func (l *line) err() error {
	switch {
	case l.broken == short:
		return ErrIncomplete
	case l.i < len(prefixV1):
		return ErrNoHeader
	}
	return formatError(l.broken, l.i)
}

// fail notes that r is broken at byte i, or that the bytes end before it.
func (l *line) fail(r rule, i int) {
	if i >= len(l.b) {
		r = short
	}
	l.broken, l.i = r, i
}

func (l *line) starts(s string) bool {
	if len(l.b) < len(s) || string(l.b[:len(s)]) != s {
		return false
	}
	l.i = len(s)
	return true
}

// refuseStart finds the first byte that none of the three beginnings has.
func (l *line) refuseStart() {
	same := 0
	for _, s := range []string{tcp4V1, tcp6V1, unknownV1} {
		i := 0
		for i < len(s) && i < len(l.b) && l.b[i] == s[i] {
			i++
		}
		same = max(same, i)
	}
	l.fail(badProtocolName, same)
	if same == len(prefixV1) || same == len(tcp4V1)-1 {
		l.fail(badSpace, same)
	}
}

// unknown reads what follows UNKNOWN: nothing or a space and anything, up to the CRLF.
func (l *line) unknown() {
	if l.i < len(l.b) && l.b[l.i] == '\r' {
		l.crlf()
		return
	}
	if l.i >= len(l.b) || l.b[l.i] != ' ' {
		l.fail(badUnknown, l.i)
		return
	}
	limited := l.b[:min(len(l.b), maxV1)]
	switch end := bytes.Index(limited, []byte("\r\n")); {
	case end >= 0:
		l.i = end + 2
	case len(limited) >= maxV1-1 && limited[maxV1-2] != '\r':
		l.fail(badLineLength, maxV1-2)
	default:
		l.fail(badLineLength, maxV1-1)
	}
}

func (l *line) space() {
	if l.broken != keeps {
		return
	}
	if l.i >= len(l.b) || l.b[l.i] != ' ' {
		l.fail(badSpace, l.i)
		return
	}
	l.i++
}

func (l *line) crlf() {
	if l.broken != keeps {
		return
	}
	for _, want := range []byte("\r\n") {
		if l.i >= len(l.b) || l.b[l.i] != want {
			l.fail(badLineEnd, l.i)
			return
		}
		l.i++
	}
}

// ports reads the two ports and the CRLF, and fills in the addresses if all are well.
func (l *line) ports(h *Header, source, destination netip.Addr) {
	sourcePort := l.port()
	l.space()
	destinationPort := l.port()
	l.crlf()
	h.Source = netip.AddrPortFrom(source, sourcePort)
	h.Destination = netip.AddrPortFrom(destination, destinationPort)
}

func (l *line) port() uint16 {
	if l.broken != keeps {
		return 0
	}
	b, i := l.b, l.i
	if i >= len(b) || !isDigit(b[i]) {
		l.fail(badPortDigit, i)
		return 0
	}
	port := uint(b[i] - '0')
	zero := port == 0
	for i++; i < len(b) && isDigit(b[i]); i++ {
		port = port*10 + uint(b[i]-'0')
		if zero {
			l.fail(badPortZero, i)
			return 0
		}
		if port > 1<<16-1 {
			l.fail(badPortRange, i)
			return 0
		}
	}
	l.i = i
	return uint16(port)
}

// ipv4 reads a dotted quad that has to end before byte limit.
func (l *line) ipv4(limit int) (ip [4]byte) {
	for k := range ip {
		if k > 0 {
			l.dot()
		}
		ip[k] = l.octet(limit - len(".0")*(len(ip)-1-k))
	}
	return ip
}

func (l *line) dot() {
	if l.broken != keeps {
		return
	}
	if l.i >= len(l.b) || l.b[l.i] != '.' {
		l.fail(badIPv4Dot, l.i)
		return
	}
	l.i++
}

// octet reads one number of a dotted quad.
func (l *line) octet(limit int) byte {
	if l.broken != keeps {
		return 0
	}
	b, i := l.b, l.i
	if i >= len(b) || !isDigit(b[i]) {
		l.fail(badIPv4Digit, i)
		return 0
	}
	n := uint(b[i] - '0')
	zero := n == 0
	for i++; i < len(b) && isDigit(b[i]); i++ {
		n = n*10 + uint(b[i]-'0')
		switch {
		case zero:
			l.fail(badIPv4Zero, i)
			return 0
		case n > 255:
			l.fail(badIPv4Range, i)
			return 0
		case i >= limit:
			l.fail(badIPv6Length, i)
			return 0
		}
	}
	l.i = i
	return byte(n)
}

// ipv6 reads an IPv6 address: eight groups of one to four hexadecimal digits, one run of
// which may be left out as "::", and the last two of which may be a dotted quad.
func (l *line) ipv6() (ip [16]byte) {
	if l.broken != keeps {
		return ip
	}
	b, i := l.b, l.i
	n, gap, most := 0, -1, len(ip) // bytes so far, those before "::", and how many there may be
	if i < len(b) && b[i] == ':' {
		if i++; i >= len(b) || b[i] != ':' {
			l.fail(badIPv6Gap, i)
			return ip
		}
		gap, most = 0, len(ip)-2
		i++
	}
	for {
		start, group := i, uint(0)
		for i < len(b) && i < start+4 {
			digit := hexDigit(b[i])
			if digit > 15 {
				break
			}
			group = group<<4 | digit
			i++
		}
		if i == start {
			if n == gap && i < len(b) && b[i] != ':' {
				break // "::" ends the address
			}
			l.fail(badIPv6Digit, i)
			return ip
		}
		if n >= most {
			l.fail(badIPv6Count, start)
			return ip
		}
		if i < len(b) && b[i] == '.' {
			if n+4 > most || gap < 0 && n+4 < most {
				l.fail(badIPv6Dotted, i)
				return ip
			}
			quad := l.dotted(start, i)
			n += copy(ip[n:], quad[:])
			i = l.i
			break
		}
		ip[n], ip[n+1] = byte(group>>8), byte(group)
		n += 2
		if i >= len(b) || b[i] != ':' {
			if i < len(b) && hexDigit(b[i]) <= 15 {
				l.fail(badIPv6Group, i)
			}
			break
		}
		if n >= most {
			l.fail(badIPv6Count, i)
			return ip
		}
		if i++; i < len(b) && b[i] == ':' {
			if gap >= 0 {
				l.fail(badIPv6Gap, i)
				return ip
			}
			gap, most = n, len(ip)-2
			i++
		}
	}
	switch {
	case l.broken != keeps:
	case gap >= 0:
		copy(ip[gap+len(ip)-n:], ip[gap:n])
		clear(ip[gap : gap+len(ip)-n])
		l.i = i
	case n < len(ip):
		l.fail(badIPv6Colon, i)
	default:
		l.i = i
	}
	return ip
}

// dotted reads the dotted quad that ends the IPv6 address at l.i. Its first number was a
// group of hexadecimal digits, b[start:dot], until the dot came.
func (l *line) dotted(start, dot int) (quad [4]byte) {
	limit := l.i + maxIPv6V1
	first := line{b: l.b[:dot], i: start}
	first.octet(limit)
	switch {
	case first.broken != keeps || first.i != dot:
		l.fail(badIPv6Dotted, dot)
	case dot+len(".0.0.0") > limit:
		l.fail(badIPv6Length, dot)
	default:
		l.i = start
		quad = l.ipv4(limit)
	}
	return quad
}

func isDigit(c byte) bool { return c-'0' <= 9 }

// hexDigit returns the value of a hexadecimal digit, and more than 15 for any other byte.
func hexDigit(c byte) uint {
	if isDigit(c) {
		return uint(c - '0')
	}
	if letter := c | 0x20 - 'a'; letter <= 'f'-'a' {
		return uint(letter) + 10
	}
	return 16
}

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
