package proxyproto

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// eachWireCase runs f for each row of the table.
func eachWireCase(t *testing.T, f func(t *testing.T, c wireCase)) {
	t.Helper()
	for _, c := range wireCases() {
		t.Run(c.section+"/"+c.name, func(t *testing.T) { f(t, c) })
	}
}

// wireLengths are the lengths at which wire is cut: all of them, or those near the ends and some
// between if it is very long.
func wireLengths(wire []byte) (lengths []int) {
	for n := range len(wire) {
		if n < 400 || n > len(wire)-40 || len(wire) < 3000 || n%1009 == 0 {
			lengths = append(lengths, n)
		}
	}
	return lengths
}

func TestParse(t *testing.T) {
	eachWireCase(t, func(t *testing.T, c wireCase) {
		b := bytes.Clone(c.wire)
		h, n, err := Parse(b)
		assert.Equal(t, c.wire, b, "Parse changed its bytes")
		if c.err != nil {
			format := requireRefused(t, h, n, err, c.err)
			if c.err == ErrMalformed {
				assert.Equal(t, c.offset, format.Offset(), "%v", err)
				assert.Contains(t, format.Rule(), c.rule)
			}
			return
		}
		require.NoError(t, err)
		assert.Equal(t, c.n, n)
		assert.True(t, sameHeader(c.want, h), "got %v, want %v", h, c.want)
		assert.Equal(t, c.wire[c.n:], b[n:], "payload")
	})
}

func TestParseFormatError(t *testing.T) {
	eachWireCase(t, func(t *testing.T, c wireCase) {
		if c.err != ErrMalformed {
			return
		}
		h, n, err := Parse(c.wire)
		format := requireRefused(t, h, n, err, ErrMalformed)
		version, section := V2, "section 2.2"
		if c.wire[0] == 'P' {
			version, section = V1, "section 2.1"
		}
		assert.Equal(t, version, format.Version())
		assert.Contains(t, format.Rule(), section)
		assert.Contains(t, err.Error(), fmt.Sprintf("%v header at byte %d", version, c.offset))
		assert.Contains(t, err.Error(), format.Rule())
		assert.Less(t, len(err.Error()), 200, "an error quotes no strangers at length")
	})
}

// A header that grows byte by byte is incomplete until it is whole, and then what follows doesn't matter.
func TestParseGrowing(t *testing.T) {
	eachWireCase(t, func(t *testing.T, c wireCase) {
		if c.err != nil {
			return
		}
		for _, length := range wireLengths(c.wire[:c.n]) {
			h, n, err := Parse(c.wire[:length])
			requireRefused(t, h, n, err, ErrIncomplete)
		}
		for _, payload := range []string{"", "\n", "\r\n", "\x00\x00\x00\x00", "PROXY UNKNOWN\r\n", wireV2(0x21, 0x11, wireInet4)} {
			h, n, err := Parse(append(bytes.Clone(c.wire[:c.n]), payload...))
			require.NoError(t, err)
			require.Equal(t, c.n, n)
			require.True(t, sameHeader(c.want, h))
		}
	})
}

// What is refused is refused at the first byte that settles it, and from there on in the same way.
func TestParseEarliest(t *testing.T) {
	eachWireCase(t, func(t *testing.T, c wireCase) {
		if c.err == nil {
			return
		}
		var refused error
		for _, length := range append(wireLengths(c.wire), len(c.wire)) {
			h, n, err := Parse(c.wire[:length])
			_, _, want := oracleParse(c.wire[:length])
			requireRefused(t, h, n, err, want)
			if refused != nil {
				require.EqualError(t, err, refused.Error(), "at %d bytes another refusal than before", length)
			}
			if !errors.Is(err, ErrIncomplete) && refused == nil {
				refused = err
				var format *FormatError
				if errors.As(err, &format) && format.Version() == V1 {
					require.Equal(t, length-1, format.Offset(), "the last byte of %q is the first that can't stand", c.wire[:length])
				}
			}
		}
	})
}

// Version 2 says early how much is to come, so that some refusals need less than what is wrong.
func TestParseEarliestV2(t *testing.T) {
	alpn := wireTLV(0x01, "h2")
	crc := wireTLV(0x03, "\x00\x00\x00\x00")
	header := func(block ...string) string { return wireV2(0x21, 0x11, append([]string{wireInet4}, block...)...) }
	for _, c := range []struct {
		name, wire string
		at, offset int // bytes that settle it, and the offset that is reported
	}{
		{"version", wireV2(0x31, 0x11, wireInet4), 13, 12},
		{"command", wireV2(0x22, 0x11, wireInet4), 13, 12},
		{"family", wireV2(0x21, 0x41, wireInet4), 14, 13},
		{"transport", wireV2(0x21, 0x13, wireInet4), 14, 13},
		{"length below the addresses", wireV2Len(0x21, 0x11, 11, wireInet4), 16, 14},
		{"length one above the addresses", header("\x00"), 16, 28},
		{"length two above the addresses", header("\x00\x00"), 16, 28},
		{"TLV leaves one byte", header(wireTLVLen(0x01, 2, "h2\x00")), 31, 33},
		{"TLV leaves two bytes", header(wireTLVLen(0x01, 1, "h2\x00")), 31, 32},
		{"TLV overruns by the low byte of its length", header(wireTLVLen(0x01, 3, "h2")), 31, 28},
		{"TLV overruns by the high byte of its length", header(wireTLVLen(0x01, 0x100, "h2")), 30, 28},
		{"second TLV overruns", header(alpn, wireTLVLen(0x02, 3, "h2")), 36, 33},
		{"checksum's length", header(wireTLV(0x03, "\x00\x00\x00\x00\x00\x00\x00")), 31, 28},
		{"checksum's length by its high byte", header(wireTLV(0x03, strings.Repeat("x", 256))), 30, 28},
		{"checksum without room", header(wireTLV(0x03, "\x00\x00\x00")), 29, 28},
		{"checksum without room for another TLV", header(wireTLV(0x03, "\x00\x00\x00\x00\x00")), 29, 28},
		{"second checksum", header(crc, crc), 36, 35},
		{"checksum wrong", header(crc, alpn), 40, 28},
		{"unique id's length", header(wireTLV(0x05, strings.Repeat("u", 129))), 31, 28},
		{"unique id's length by its high byte", header(wireTLV(0x05, strings.Repeat("x", 256))), 30, 28},
		{"ssl's length", header(wireTLV(0x20, "\x01\x00\x00\x00"), alpn), 31, 28},
		{"ssl without room", header(wireTLV(0x20, "\x01\x00\x00\x00")), 29, 28},
		{"TLV behind ssl leaves one byte", header(wireSSL(0x01, 0), alpn, "\x00"), 39, 41},
		{"ssl with a byte too many", header(wireSSL(0x01, 0, "\x21")), 29, 36},
		{"ssl leaves one byte, seen before its value", header(wireSSL(0x01, 0, alpn), "\x00"), 31, 41},
		{"ssl leaves one byte, and its sub overruns", header(wireSSL(0x01, 0, wireTLVLen(0x21, 1, "")), "\x00"), 31, 39},
		{"ssl without room, and overruns", header(wireTLVLen(0x20, 256, "\x01\x00\x00\x00")), 29, 28},
		{"checksum without room, and overruns", header(wireTLVLen(0x03, 256, "\x00")), 29, 28},
		{"checksum too long, and overruns", header(wireTLVLen(0x03, 511, strings.Repeat("x", 300))), 30, 28},
		{"ssl has room for less than a TLV", header(wireSSL(0x01, 0, "\x21"), alpn), 31, 36},
		{"ssl sub overruns by the low byte of its length", header(wireSSL(0x01, 0, wireTLVLen(0x21, 1, "")), alpn), 39, 36},
		{"ssl sub overruns by the high byte of its length", header(wireSSL(0x01, 0, wireTLVLen(0x21, 0x100, "")), alpn), 38, 36},
		{"ssl sub leaves one byte", header(wireSSL(0x01, 0, wireTLVLen(0x21, 1, "Tx")), alpn), 39, 40},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, whole := Parse([]byte(c.wire))
			for length := range len(c.wire) + 1 {
				want := ErrIncomplete
				if length >= c.at {
					want = ErrMalformed
				}
				_, _, oracle := oracleParse([]byte(c.wire[:length]))
				require.Equal(t, want, oracle, "oracle at %d bytes", length)
				h, n, err := Parse([]byte(c.wire[:length]))
				format := requireRefused(t, h, n, err, want)
				if format != nil {
					require.Equal(t, c.offset, format.Offset(), "at %d bytes: %v", length, err)
					require.EqualError(t, err, whole.Error(), "at %d bytes another refusal than for all", length)
				}
			}
		})
	}
}

func TestParseOracle(t *testing.T) {
	eachWireCase(t, func(t *testing.T, c wireCase) {
		h, n, err := oracleParse(c.wire)
		assert.Equal(t, c.err, err)
		assert.Equal(t, c.n, n)
		assert.True(t, sameHeader(c.want, h), "got %v, want %v", h, c.want)
		for _, length := range wireLengths(c.wire) {
			requireAgreement(t, c.wire[:length])
		}
	})
}

// Each byte of each header is replaced by others, which finds off-by-one errors that rows miss.
func TestParseReplaced(t *testing.T) {
	eachWireCase(t, func(t *testing.T, c wireCase) {
		if c.err != nil || len(c.wire) > 300 {
			return
		}
		b := bytes.Clone(c.wire)
		for i := range c.n {
			for _, other := range []byte{c.wire[i] + 1, c.wire[i] - 1, c.wire[i] ^ 0x20, 0, ' ', '0', ':', '\r', 0xff} {
				b[i] = other
				requireAgreement(t, b)
			}
			b[i] = c.wire[i]
		}
	})
}

func TestParseAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, c := range wireCases() {
		allocs := testing.AllocsPerRun(5, func() { _, _, _ = Parse(c.wire) })
		assert.Zero(t, allocs, "%s/%s", c.section, c.name)
	}
}

// What Parse returns is its caller's bytes; Clone's isn't.
func TestClone(t *testing.T) {
	tlvs := wireTLV(0x01, "h2")
	unix := wireUnix("/run/client", "/run/server")
	for _, wire := range []string{
		"PROXY TCP6 ::1 ::2 1 2\r\n",
		wireV2(0x20, 0x00),
		wireV2(0x21, 0x11, wireInet4),
		wireV2(0x21, 0x22, wireInet6, tlvs),
		wireV2(0x21, 0x31, unix),
		wireV2(0x21, 0x32, unix, tlvs),
	} {
		b := []byte(wire)
		h, n, err := Parse(b)
		require.NoError(t, err)
		again, _, _ := Parse([]byte(wire))
		clone := h.Clone()
		assert.True(t, sameHeader(h, clone), "%v", clone)

		clear(b)
		assert.True(t, sameHeader(again, clone), "%v changed with the bytes it was parsed from", clone)
		if len(h.TLVs) > 0 {
			assert.Zero(t, h.TLVs[0], "TLVs alias the bytes")
			assert.LessOrEqual(t, cap(h.TLVs), len(h.TLVs), "append to the TLVs would overwrite the payload")
		}
		if h.Unix != nil {
			assert.Equal(t, UnixAddrs{}, *h.Unix, "AF_UNIX addresses alias the bytes")
			grown, err := clone.TLVs.Append(TypeNoop, []byte("more"))
			require.NoError(t, err)
			assert.NotEmpty(t, grown)
			assert.Equal(t, again.Unix, clone.Unix, "append to a clone's TLVs changed its addresses")
		}
		assert.Len(t, wire, n)
	}
}

// What strangers sent mustn't reach a log as control codes.
func TestHeaderStringIsPrintable(t *testing.T) {
	unix, err := NewUnixAddrs("/run/\x1b[2J\nx", "@ä")
	require.NoError(t, err)
	h := Header{Version: V2, Command: Proxy, Protocol: UnixStream, Unix: unix}
	assert.Equal(t, `v2 PROXY UNIX_STREAM "/run/\x1b[2J\nx" -> "@\u00e4"`, h.String())
}
