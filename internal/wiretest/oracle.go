package wiretest

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Parse is a second parser, slow and as plain as the specification allows, to judge the library's
// by. It asks of some bytes whether they begin with a header, and, if they don't, whether any bytes
// that might follow would make them do so. It returns the header and its length, or one of the
// three errors.
func Parse(b []byte) (Header, int, error) {
	switch s := string(b); {
	case strings.HasPrefix(s, "PROXY"):
		return parseV1(s)
	case strings.HasPrefix(s, Signature):
		return parseV2(b)
	case strings.HasPrefix("PROXY", s), strings.HasPrefix(Signature, s):
		return Header{}, 0, ErrIncomplete
	default:
		return Header{}, 0, ErrNoHeader
	}
}

// Version 1. A line is whole or it isn't: parseLine tells. What isn't is incomplete if something
// can follow it so that it is, and of that the shortest will do, as the length is limited. Whatever
// place in a line the bytes end at, the shortest that can follow is how one of these lines goes on.
var shortLines = []string{
	"PROXY TCP4 0.0.0.0 :: 0 0\r\n",
	"PROXY TCP6 :: :: 0 0\r\n",
	"PROXY TCP6 ::0 :: 0 0\r\n",
	"PROXY TCP6 :: 0.0.0.0 0 0\r\n",
	"PROXY TCP6 :: ::0 0 0\r\n",
	"PROXY UNKNOWN\r\n",
}

func parseV1(s string) (Header, int, error) {
	if h, n, ok := parseLine(s); ok {
		return h, n, nil
	}
	if strings.Contains(s, "\r\n") {
		return Header{}, 0, ErrMalformed // the line has ended: nothing after it matters
	}
	for _, line := range shortLines {
		for i := range line {
			if _, _, ok := parseLine(s + line[i:]); ok {
				return Header{}, 0, ErrIncomplete
			}
		}
	}
	return Header{}, 0, ErrMalformed
}

// An address has at most 39 characters, by the longest line of TCP over IPv6 that there may be.
var fields = regexp.MustCompile(
	`^PROXY TCP[46] ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9][0-9]*) (0|[1-9][0-9]*)$`)

func parseLine(s string) (h Header, n int, ok bool) {
	line, _, found := strings.Cut(s, "\r\n")
	n = len(line) + len("\r\n")
	if !found || n > 107 {
		return Header{}, 0, false
	}
	if line == "PROXY UNKNOWN" || strings.HasPrefix(line, "PROXY UNKNOWN ") {
		return Header{Version: 1, Command: Proxy}, n, true
	}
	f := fields.FindStringSubmatch(line)
	if f == nil || len(f[1]) > 39 || len(f[2]) > 39 {
		return Header{}, 0, false
	}
	// netip's grammar of addresses is the specification's, but for zones, which the expression
	// leaves out.
	source, err1 := netip.ParseAddr(f[1])
	destination, err2 := netip.ParseAddr(f[2])
	sourcePort, err3 := strconv.ParseUint(f[3], 10, 16)
	destinationPort, err4 := strconv.ParseUint(f[4], 10, 16)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
		return Header{}, 0, false
	}
	// The addresses decide, whatever the keyword says: nginx mixes them.
	h = Header{Version: 1, Command: Proxy, Protocol: tcp4}
	if source.Is6() || destination.Is6() {
		h.Protocol = tcp6
		source, destination = netip.AddrFrom16(source.As16()), netip.AddrFrom16(destination.As16())
	}
	h.Source = netip.AddrPortFrom(source, uint16(sourcePort))
	h.Destination = netip.AddrPortFrom(destination, uint16(destinationPort))
	return h, n, true
}

// Version 2. The fixed part is as long as the addresses of its protocol, and the TLVs fill the
// rest; each length that the bytes don't tell yet is tried.

type block4 struct {
	Source, Destination         [4]byte
	SourcePort, DestinationPort uint16
}

type block6 struct {
	Source, Destination         [16]byte
	SourcePort, DestinationPort uint16
}

var sizes = map[uint8]int{
	tcp4: 12, udp4: 12, tcp6: 36, udp6: 36,
	unixStream: 216, unixDatagram: 216,
}

func parseV2(b []byte) (Header, int, error) {
	const fixed = 16
	if len(b) > 12 && b[12] != 0x20 && b[12] != 0x21 {
		return Header{}, 0, ErrMalformed
	}
	proxied := len(b) > 12 && b[12] == 0x21
	if proxied && len(b) > 13 && (b[13]>>4 > 3 || b[13]&0xf > 2) {
		return Header{}, 0, ErrMalformed
	}
	if len(b) < 15 {
		return Header{}, 0, ErrIncomplete // a length that suits can follow
	}
	least, most := lengthRange(b[14:min(fixed, len(b))])
	block := b[min(fixed, len(b)):]
	protocol := b[13]
	size, addressed := sizes[protocol]
	if proxied && addressed {
		possible := false
		for n := least; n <= most && !possible; n++ {
			addresses, tlvs := split(block, n, size)
			possible = n >= size && areTLVs(tlvs, n-size, true, false) && len(addresses) <= size
		}
		if !possible {
			return Header{}, 0, ErrMalformed
		}
	}
	if len(b) < fixed || len(block) < least {
		return Header{}, 0, ErrIncomplete
	}

	wire, block := b[:fixed+least], block[:least]
	h := Header{Version: 2, Command: Local}
	if !proxied {
		return h, len(wire), nil
	}
	h.Command, h.Protocol = Proxy, protocol
	if !addressed {
		return h, len(wire), nil
	}
	h.TLVs = block[size:]
	if !isSummed(wire, fixed+size) {
		return Header{}, 0, ErrMalformed
	}
	r := bytes.NewReader(block)
	switch size {
	case 12:
		var a block4
		must(binary.Read(r, binary.BigEndian, &a))
		h.Source = netip.AddrPortFrom(netip.AddrFrom4(a.Source), a.SourcePort)
		h.Destination = netip.AddrPortFrom(netip.AddrFrom4(a.Destination), a.DestinationPort)
	case 36:
		var a block6
		must(binary.Read(r, binary.BigEndian, &a))
		h.Source = netip.AddrPortFrom(netip.AddrFrom16(a.Source), a.SourcePort)
		h.Destination = netip.AddrPortFrom(netip.AddrFrom16(a.Destination), a.DestinationPort)
	case 216:
		h.Unix = new([216]byte)
		must(binary.Read(r, binary.BigEndian, h.Unix))
	}
	return h, len(wire), nil
}

// areTLVs tells whether b, what has come of an area of size bytes, is or can become TLVs that fill
// it. At the top level three types have rules of their own; summed says that a checksum was there.
func areTLVs(b []byte, size int, top, summed bool) bool {
	if size == 0 {
		return true
	}
	if len(b) == 0 {
		return size >= 3 // one TLV of a type without rules fills it
	}
	least, most := lengthRange(b[1:min(3, len(b))])
	for n := least; n <= most && n <= size-3; n++ {
		value, rest := split(b[min(3, len(b)):], size-3, n)
		if top && !isValue(b[0], value, n, summed) {
			continue
		}
		if areTLVs(rest, size-3-n, top, summed || b[0] == 0x03) {
			return true
		}
	}
	return false
}

// isValue tells whether a TLV of the top level may have a value of n bytes that begins like this.
func isValue(typ byte, value []byte, n int, summed bool) bool {
	switch typ {
	case 0x03:
		return n == 4 && !summed
	case 0x05:
		return n <= 128
	case 0x20:
		return n >= 5 && areTLVs(value[min(5, len(value)):], n-5, false, false)
	default:
		return true
	}
}

// isSummed tells whether the checksum of a whole header, if there is one, is right. It counts when
// the header is whole, not as soon as it can't come out right any more.
func isSummed(wire []byte, tlvs int) bool {
	for at := tlvs; at < len(wire); at += 3 + int(binary.BigEndian.Uint16(wire[at+1:])) {
		if wire[at] == 0x03 {
			zeroed := bytes.Clone(wire)
			copy(zeroed[at+3:at+7], []byte{0, 0, 0, 0})
			return crc32c(zeroed) == binary.BigEndian.Uint32(wire[at+3:])
		}
	}
	return true
}

// crc32c is the checksum of RFC 4960, appendix B, bit by bit: the polynomial 0x1EDC6F41, its
// bits and those of the bytes in reversed order.
func crc32c(b []byte) uint32 {
	sum := ^uint32(0)
	for _, c := range b {
		sum ^= uint32(c)
		for range 8 {
			if sum&1 == 1 {
				sum = sum>>1 ^ 0x82f63b78
			} else {
				sum >>= 1
			}
		}
	}
	return ^sum
}

// lengthRange is the least and the most that a length of two bytes can be, of which those in b are
// known.
func lengthRange(b []byte) (least, most int) {
	padded := func(with byte) int {
		return int(binary.BigEndian.Uint16(append(bytes.Clone(b), with, with)))
	}
	return padded(0x00), padded(0xff)
}

// split splits what has come of an area of size bytes, without what is after it, at n.
func split(b []byte, size, n int) (before, after []byte) {
	b = b[:min(size, len(b))]
	n = min(n, len(b))
	return b[:n], b[n:]
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Appendable tells whether Parse can return h, but for the checksum's value: whether a sender can
// write it.
func Appendable(h Header) bool {
	source, destination := h.Source.Addr(), h.Destination.Addr()
	withoutIP := h.Source == netip.AddrPort{} && h.Destination == netip.AddrPort{}
	withZone := source.Zone() != "" || destination.Zone() != ""
	var addresses bool
	switch h.Protocol {
	case tcp4, udp4:
		addresses = source.Is4() && destination.Is4() && h.Unix == nil
	case tcp6, udp6:
		addresses = source.Is6() && destination.Is6() && !withZone && h.Unix == nil
	case unixStream, unixDatagram:
		addresses = withoutIP && h.Unix != nil
	case 0x00, 0x01, 0x02, 0x10, 0x20, 0x30:
		addresses = withoutIP && h.Unix == nil && len(h.TLVs) == 0
	}
	switch {
	case h.Version == 1 && h.Command == Proxy:
		known := h.Protocol == tcp4 || h.Protocol == tcp6 || h.Protocol == 0
		return known && addresses && len(h.TLVs) == 0
	case h.Version == 2 && h.Command == Local:
		return h.Protocol == 0 && addresses
	case h.Version == 2 && h.Command == Proxy:
		return addresses && areTLVs(h.TLVs, len(h.TLVs), true, false) &&
			sizes[h.Protocol]+len(h.TLVs) <= 0xffff
	}
	return false
}
