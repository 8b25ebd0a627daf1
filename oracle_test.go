package proxyproto

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// oracleParse is a second parser, slow and as plain as the specification allows, to judge Parse by.
// It asks of some bytes whether they begin with a header, and, if they don't, whether any bytes that
// might follow would make them do so. Its errors are the bare sentinels.
func oracleParse(b []byte) (Header, int, error) {
	switch s := string(b); {
	case strings.HasPrefix(s, "PROXY"):
		return oracleV1(s)
	case strings.HasPrefix(s, wireSig):
		return oracleV2(b)
	case strings.HasPrefix("PROXY", s), strings.HasPrefix(wireSig, s):
		return Header{}, 0, ErrIncomplete
	default:
		return Header{}, 0, ErrNoHeader
	}
}

// Version 1. A line is whole or it isn't: oracleLine tells. What isn't is incomplete if something can
// be put behind it so that it is, and of that the shortest will do, as the length is limited. Whatever
// place in a line the bytes end at, the shortest that can follow is how one of these lines goes on.
var oracleLines = []string{
	"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n",
	"PROXY TCP6 :: :: 0 0\r\n",
	"PROXY TCP6 ::0 :: 0 0\r\n",
	"PROXY TCP6 :: ::0 0 0\r\n",
	"PROXY TCP6 ::0.0.0.0 :: 0 0\r\n",
	"PROXY TCP6 :: ::0.0.0.0 0 0\r\n",
	"PROXY UNKNOWN\r\n",
}

func oracleV1(s string) (Header, int, error) {
	if h, n, ok := oracleLine(s); ok {
		return h, n, nil
	}
	if strings.Contains(s, "\r\n") {
		return Header{}, 0, ErrMalformed // the line has ended: nothing behind it matters
	}
	for _, line := range oracleLines {
		for i := range line {
			if _, _, ok := oracleLine(s + line[i:]); ok {
				return Header{}, 0, ErrIncomplete
			}
		}
	}
	return Header{}, 0, ErrMalformed
}

// An address has at most 39 characters, by the longest line of TCP over IPv6 that there may be.
var oracleFields = regexp.MustCompile(`^PROXY TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9][0-9]*) (0|[1-9][0-9]*)$`)

func oracleLine(s string) (h Header, n int, ok bool) {
	line, _, found := strings.Cut(s, "\r\n")
	n = len(line) + len("\r\n")
	if !found || n > 107 {
		return Header{}, 0, false
	}
	if line == "PROXY UNKNOWN" || strings.HasPrefix(line, "PROXY UNKNOWN ") {
		return Header{Version: V1, Command: Proxy, Protocol: Unspec}, n, true
	}
	f := oracleFields.FindStringSubmatch(line)
	if f == nil || len(f[2]) > 39 || len(f[3]) > 39 {
		return Header{}, 0, false
	}
	// netip's grammar of addresses is the specification's, but for zones, which the expression leaves out.
	source, err1 := netip.ParseAddr(f[2])
	destination, err2 := netip.ParseAddr(f[3])
	sourcePort, err3 := strconv.ParseUint(f[4], 10, 16)
	destinationPort, err4 := strconv.ParseUint(f[5], 10, 16)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
		return Header{}, 0, false
	}
	h = Header{Version: V1, Command: Proxy, Protocol: TCP4,
		Source:      netip.AddrPortFrom(source, uint16(sourcePort)),
		Destination: netip.AddrPortFrom(destination, uint16(destinationPort))}
	if f[1] == "6" {
		h.Protocol = TCP6
	}
	return h, n, source.Is4() == (f[1] == "4") && destination.Is4() == (f[1] == "4")
}

// Version 2. The fixed part is as long as the addresses of its protocol, and the TLVs fill the rest;
// each length that the bytes don't tell yet is tried.

type oracleInet4 struct {
	Source, Destination         [4]byte
	SourcePort, DestinationPort uint16
}

type oracleInet6 struct {
	Source, Destination         [16]byte
	SourcePort, DestinationPort uint16
}

var oracleSizes = map[Protocol]int{TCP4: 12, UDP4: 12, TCP6: 36, UDP6: 36, UnixStream: 216, UnixDatagram: 216}

func oracleV2(b []byte) (Header, int, error) {
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
	least, most := oracleRange(b[14:min(fixed, len(b))])
	block := b[min(fixed, len(b)):]
	protocol := Protocol(b[13])
	size, addressed := oracleSizes[protocol]
	if proxied && addressed {
		possible := false
		for n := least; n <= most && !possible; n++ {
			addresses, tlvs := oracleSplit(block, n, size)
			possible = n >= size && oracleTLVs(tlvs, n-size, true, false) && len(addresses) <= size
		}
		if !possible {
			return Header{}, 0, ErrMalformed
		}
	}
	if len(b) < fixed || len(block) < least {
		return Header{}, 0, ErrIncomplete
	}

	wire, block := b[:fixed+least], block[:least]
	h := Header{Version: V2, Command: Local}
	if !proxied {
		return h, len(wire), nil
	}
	h.Command, h.Protocol = Proxy, protocol
	if !addressed {
		return h, len(wire), nil
	}
	h.TLVs = block[size:]
	if !oracleSummed(wire, fixed+size) {
		return Header{}, 0, ErrMalformed
	}
	r := bytes.NewReader(block)
	switch size {
	case 12:
		var a oracleInet4
		oracleMust(binary.Read(r, binary.BigEndian, &a))
		h.Source = netip.AddrPortFrom(netip.AddrFrom4(a.Source), a.SourcePort)
		h.Destination = netip.AddrPortFrom(netip.AddrFrom4(a.Destination), a.DestinationPort)
	case 36:
		var a oracleInet6
		oracleMust(binary.Read(r, binary.BigEndian, &a))
		h.Source = netip.AddrPortFrom(netip.AddrFrom16(a.Source), a.SourcePort)
		h.Destination = netip.AddrPortFrom(netip.AddrFrom16(a.Destination), a.DestinationPort)
	case 216:
		h.Unix = new(UnixAddrs)
		oracleMust(binary.Read(r, binary.BigEndian, h.Unix))
	}
	return h, len(wire), nil
}

// oracleTLVs tells whether b, what has come of an area of size bytes, is or can become TLVs that fill
// it. At the top level three types have rules of their own; summed says that a checksum was there.
func oracleTLVs(b []byte, size int, top, summed bool) bool {
	if size == 0 {
		return true
	}
	if len(b) == 0 {
		return size >= 3 // one TLV of a type without rules fills it
	}
	least, most := oracleRange(b[1:min(3, len(b))])
	for n := least; n <= most && n <= size-3; n++ {
		value, rest := oracleSplit(b[min(3, len(b)):], size-3, n)
		if top && !oracleValue(b[0], value, n, summed) {
			continue
		}
		if oracleTLVs(rest, size-3-n, top, summed || b[0] == 0x03) {
			return true
		}
	}
	return false
}

// oracleValue tells whether a TLV of the top level may have a value of n bytes that begins like this.
func oracleValue(typ byte, value []byte, n int, summed bool) bool {
	switch typ {
	case 0x03:
		return n == 4 && !summed
	case 0x05:
		return n <= 128
	case 0x20:
		return n >= 5 && oracleTLVs(value[min(5, len(value)):], n-5, false, false)
	default:
		return true
	}
}

// oracleSummed tells whether the checksum of a whole header, if there is one, is right. It counts when
// the header is whole, not as soon as it can't come out right any more.
func oracleSummed(wire []byte, tlvs int) bool {
	for at := tlvs; at < len(wire); at += 3 + int(binary.BigEndian.Uint16(wire[at+1:])) {
		if wire[at] == 0x03 {
			zeroed := bytes.Clone(wire)
			copy(zeroed[at+3:at+7], []byte{0, 0, 0, 0})
			return oracleCRC32C(zeroed) == binary.BigEndian.Uint32(wire[at+3:])
		}
	}
	return true
}

// oracleCRC32C is the checksum of RFC 4960, appendix B, bit by bit: the polynomial 0x1EDC6F41, its
// bits and those of the bytes in reversed order.
func oracleCRC32C(b []byte) uint32 {
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

// oracleRange is the least and the most that a length of two bytes can be, of which those in b are known.
func oracleRange(b []byte) (least, most int) {
	padded := func(with byte) int {
		return int(binary.BigEndian.Uint16(append(bytes.Clone(b), with, with)))
	}
	return padded(0x00), padded(0xff)
}

// oracleSplit splits what has come of an area of size bytes, without what is behind it, at n.
func oracleSplit(b []byte, size, n int) (before, after []byte) {
	b = b[:min(size, len(b))]
	n = min(n, len(b))
	return b[:n], b[n:]
}

func oracleMust(err error) {
	if err != nil {
		panic(err)
	}
}

// requireAgreement checks that Parse and the oracle say the same of b.
func requireAgreement(t *testing.T, b []byte) {
	t.Helper()
	want, wantN, kind := oracleParse(b)
	h, n, err := Parse(b)
	if kind != nil {
		requireRefused(t, h, n, err, kind)
		return
	}
	require.NoError(t, err, "%q", b)
	require.Equal(t, wantN, n, "%q", b)
	require.True(t, sameHeader(want, h), "%q: got %v, want %v", b, h, want)
}

// requireRefused checks what Parse gives along with an error.
func requireRefused(t *testing.T, h Header, n int, err, kind error) *FormatError {
	t.Helper()
	require.ErrorIs(t, err, kind)
	require.True(t, sameHeader(Header{}, h), "a header along with an error: %v", h)
	require.Zero(t, n, "bytes of header along with an error")
	if kind != ErrMalformed {
		require.True(t, err == kind, "not the bare sentinel: %#v", err)
		return nil
	}
	require.NotErrorIs(t, err, ErrNoHeader)
	require.NotErrorIs(t, err, ErrIncomplete)
	var format *FormatError
	require.ErrorAs(t, err, &format)
	return format
}
