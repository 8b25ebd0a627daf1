package proxyproto

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/testenv"
	"github.com/seed2e8fe8ee/proxyproto/internal/wiretest"
)

// eachRow runs f for each row of the table of wire bytes.
func eachRow(t *testing.T, f func(t *testing.T, row wiretest.Row)) {
	t.Helper()
	for _, row := range wiretest.Rows() {
		t.Run(row.Section+"/"+row.Origin+"/"+row.Name, func(t *testing.T) { f(t, row) })
	}
}

// eachGoodRow runs f for those whose header is accepted.
func eachGoodRow(t *testing.T, f func(t *testing.T, row wiretest.Row)) {
	t.Helper()
	eachRow(t, func(t *testing.T, row wiretest.Row) {
		if row.Err == nil {
			f(t, row)
		}
	})
}

// headerOf is the library's form of the table's header, with memory of its own, and plainOf is the
// way back.
func headerOf(w wiretest.Header) *Header {
	h := &Header{
		Version: Version(w.Version), Command: Command(w.Command), Protocol: Protocol(w.Protocol),
		Source: w.Source, Destination: w.Destination,
		TLVs: bytes.Clone(w.TLVs),
	}
	if w.Unix != nil {
		h.Unix = new(UnixAddrs(*w.Unix))
	}
	return h
}

func plainOf(h *Header) wiretest.Header {
	return wiretest.Header{
		Version: uint8(h.Version), Command: uint8(h.Command), Protocol: uint8(h.Protocol),
		Source: h.Source, Destination: h.Destination,
		TLVs: h.TLVs, Unix: (*[216]byte)(h.Unix),
	}
}

// requireHeader checks that h is what the table or the oracle wants.
func requireHeader(t testing.TB, want wiretest.Header, h *Header) {
	t.Helper()
	require.True(t, want.Equal(plainOf(h)), "got %v, want %v", h, headerOf(want))
}

// errOf is the library's sentinel for the table's.
func errOf(err error) error {
	switch err {
	case wiretest.ErrNoHeader:
		return ErrNoHeader
	case wiretest.ErrIncomplete:
		return ErrIncomplete
	case wiretest.ErrMalformed:
		return ErrMalformed
	}
	return err
}

// requireRefused checks what Parse gives along with an error.
func requireRefused(t testing.TB, h Header, n int, err, kind error) *FormatError {
	t.Helper()
	require.ErrorIs(t, err, kind)
	require.Equal(t, Header{}, h, "a header along with an error")
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

// requireAgreement checks that Parse and the oracle say the same of b.
func requireAgreement(t testing.TB, b []byte) {
	t.Helper()
	want, wantN, kind := wiretest.Parse(b)
	h, n, err := Parse(b)
	if kind != nil {
		requireRefused(t, h, n, err, errOf(kind))
		return
	}
	require.NoError(t, err, "%q", b)
	require.Equal(t, wantN, n, "%q", b)
	requireHeader(t, want, &h)
}

// cuts are the lengths at which wire is cut: all of them, or those near the ends and some between
// if it is very long.
func cuts(wire []byte) (lengths []int) {
	for n := range len(wire) {
		if n < 400 || n > len(wire)-40 || len(wire) < 3000 || n%1009 == 0 {
			lengths = append(lengths, n)
		}
	}
	return lengths
}

func TestParse(t *testing.T) {
	eachRow(t, func(t *testing.T, row wiretest.Row) {
		b := bytes.Clone(row.Wire)
		h, n, err := Parse(b)
		assert.Equal(t, row.Wire, b, "Parse changed its bytes")
		if row.Err == nil {
			require.NoError(t, err)
			assert.Equal(t, row.N, n)
			requireHeader(t, row.Want, &h)
			return
		}
		format := requireRefused(t, h, n, err, errOf(row.Err))
		if format == nil {
			return
		}
		version, section := V2, "section 2.2"
		if row.Wire[0] == 'P' {
			version, section = V1, "section 2.1"
		}
		assert.Equal(t, version, format.Version)
		assert.Equal(t, row.Offset, format.Offset, "%v", err)
		assert.Contains(t, format.Rule, row.Rule)
		assert.Contains(t, format.Rule, section)
		assert.Contains(t, err.Error(), fmt.Sprintf("%v header at byte %d", version, row.Offset))
		assert.Contains(t, err.Error(), format.Rule)
		assert.Less(t, len(err.Error()), 200, "an error quotes no strangers at length")
	})
}

// A header that grows byte by byte is incomplete until it is whole, and then what follows doesn't
// matter.
func TestParseGrowing(t *testing.T) {
	v2 := wiretest.V2(0x21, 0x11, wiretest.Inet4)
	eachGoodRow(t, func(t *testing.T, row wiretest.Row) {
		for _, length := range cuts(row.Wire[:row.N]) {
			h, n, err := Parse(row.Wire[:length])
			requireRefused(t, h, n, err, ErrIncomplete)
		}
		for _, payload := range []string{
			"", "\n", "\r\n", "\x00\x00\x00\x00", "PROXY UNKNOWN\r\n", v2,
		} {
			h, n, err := Parse(append(bytes.Clone(row.Wire[:row.N]), payload...))
			require.NoError(t, err)
			require.Equal(t, row.N, n)
			requireHeader(t, row.Want, &h)
		}
	})
}

// What is refused is refused at the first byte that settles it, and from there on in the same way.
func TestParseEarliest(t *testing.T) {
	eachRow(t, func(t *testing.T, row wiretest.Row) {
		if row.Err == nil {
			return
		}
		var refused error
		for _, length := range append(cuts(row.Wire), len(row.Wire)) {
			h, n, err := Parse(row.Wire[:length])
			_, _, want := wiretest.Parse(row.Wire[:length])
			requireRefused(t, h, n, err, errOf(want))
			if refused != nil {
				require.EqualError(t, err, refused.Error(), "another refusal at %d bytes", length)
			} else if !errors.Is(err, ErrIncomplete) {
				refused = err
				var format *FormatError
				if errors.As(err, &format) && format.Version == V1 {
					require.Equal(t, length-1, format.Offset,
						"the last byte of %q is the first that is wrong", row.Wire[:length])
				}
			}
		}
	})
}

// Version 2 says early how much is to come, so that some refusals need less than what is wrong.
func TestParseEarliestV2(t *testing.T) {
	alpn := wiretest.TLV(0x01, "h2")
	crc := wiretest.TLV(0x03, "\x00\x00\x00\x00")
	header := func(block ...string) string {
		return wiretest.V2(0x21, 0x11, wiretest.Inet4, strings.Join(block, ""))
	}
	tlv, tlvLen, ssl := wiretest.TLV, wiretest.TLVLen, wiretest.SSL
	for _, c := range []struct {
		name, wire string
		at, offset int // bytes that settle it, and the offset that is reported
	}{
		{"version", wiretest.V2(0x31, 0x11, wiretest.Inet4), 13, 12},
		{"command", wiretest.V2(0x22, 0x11, wiretest.Inet4), 13, 12},
		{"family", wiretest.V2(0x21, 0x41, wiretest.Inet4), 14, 13},
		{"transport", wiretest.V2(0x21, 0x13, wiretest.Inet4), 14, 13},
		{"length below the addresses", wiretest.V2Len(0x21, 0x11, 11, wiretest.Inet4), 16, 14},
		{"length one above the addresses", header("\x00"), 16, 28},
		{"length two above the addresses", header("\x00\x00"), 16, 28},
		{"TLV leaves one byte", header(tlvLen(0x01, 2, "h2\x00")), 31, 33},
		{"TLV leaves two bytes", header(tlvLen(0x01, 1, "h2\x00")), 31, 32},
		{"TLV overruns by the low byte of its length", header(tlvLen(0x01, 3, "h2")), 31, 28},
		{"TLV overruns by the high byte of its length", header(tlvLen(0x01, 0x100, "h2")), 30, 28},
		{"second TLV overruns", header(alpn, tlvLen(0x02, 3, "h2")), 36, 33},
		{"checksum's length", header(tlv(0x03, "\x00\x00\x00\x00\x00\x00\x00")), 31, 28},
		{"checksum's length by its high byte", header(tlv(0x03, strings.Repeat("x", 256))), 30, 28},
		{"checksum without room", header(tlv(0x03, "\x00\x00\x00")), 29, 28},
		{"checksum without room for another TLV",
			header(tlv(0x03, "\x00\x00\x00\x00\x00")), 29, 28},
		{"second checksum", header(crc, crc), 36, 35},
		{"checksum wrong", header(crc, alpn), 40, 28},
		{"unique id's length", header(tlv(0x05, strings.Repeat("u", 129))), 31, 28},
		{"unique id's length by its high byte",
			header(tlv(0x05, strings.Repeat("x", 256))), 30, 28},
		{"ssl's length", header(tlv(0x20, "\x01\x00\x00\x00"), alpn), 31, 28},
		{"ssl without room", header(tlv(0x20, "\x01\x00\x00\x00")), 29, 28},
		{"TLV after ssl leaves one byte", header(ssl(0x01, 0), alpn, "\x00"), 39, 41},
		{"ssl with a byte too many", header(ssl(0x01, 0, "\x21")), 29, 36},
		{"ssl leaves one byte, seen before its value", header(ssl(0x01, 0, alpn), "\x00"), 31, 41},
		{"ssl leaves one byte, and its sub overruns",
			header(ssl(0x01, 0, tlvLen(0x21, 1, "")), "\x00"), 31, 39},
		{"ssl without room, and overruns", header(tlvLen(0x20, 256, "\x01\x00\x00\x00")), 29, 28},
		{"checksum without room, and overruns", header(tlvLen(0x03, 256, "\x00")), 29, 28},
		{"checksum too long, and overruns",
			header(tlvLen(0x03, 511, strings.Repeat("x", 300))), 30, 28},
		{"ssl has room for less than a TLV", header(ssl(0x01, 0, "\x21"), alpn), 31, 36},
		{"ssl sub overruns by the low byte of its length",
			header(ssl(0x01, 0, tlvLen(0x21, 1, "")), alpn), 39, 36},
		{"ssl sub overruns by the high byte of its length",
			header(ssl(0x01, 0, tlvLen(0x21, 0x100, "")), alpn), 38, 36},
		{"ssl sub leaves one byte", header(ssl(0x01, 0, tlvLen(0x21, 1, "Tx")), alpn), 39, 40},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, whole := Parse([]byte(c.wire))
			for length := range len(c.wire) + 1 {
				want := ErrIncomplete
				if length >= c.at {
					want = ErrMalformed
				}
				_, _, oracle := wiretest.Parse([]byte(c.wire[:length]))
				require.Equal(t, want, errOf(oracle), "oracle at %d bytes", length)
				h, n, err := Parse([]byte(c.wire[:length]))
				if format := requireRefused(t, h, n, err, want); format != nil {
					require.Equal(t, c.offset, format.Offset, "at %d bytes: %v", length, err)
					require.EqualError(t, err, whole.Error(), "another refusal at %d bytes", length)
				}
			}
		})
	}
}

func TestParseAgreesWithOracle(t *testing.T) {
	eachRow(t, func(t *testing.T, row wiretest.Row) {
		for _, length := range append(cuts(row.Wire), len(row.Wire)) {
			requireAgreement(t, row.Wire[:length])
		}
	})
}

// Each byte of each header is replaced by others, which finds off-by-one errors that rows miss.
func TestParseReplaced(t *testing.T) {
	eachGoodRow(t, func(t *testing.T, row wiretest.Row) {
		if len(row.Wire) > 300 {
			return
		}
		b := bytes.Clone(row.Wire)
		for i := range row.N {
			was := row.Wire[i]
			for _, other := range []byte{
				was + 1, was - 1, was ^ 0x20, 0, ' ', '0', ':', '.', 'a', '\r', 0xff,
			} {
				b[i] = other
				requireAgreement(t, b)
			}
			b[i] = was
		}
	})
}

// What the reader of a connection asks of the first bytes, beside Parse.
func TestBegunAndDeclaredSize(t *testing.T) {
	eachRow(t, func(t *testing.T, row wiretest.Row) {
		for n := range min(len(row.Wire), 40) + 1 {
			b := row.Wire[:n]
			v2 := bytes.HasPrefix(b, []byte(wiretest.Signature))
			assert.Equal(t, v2 || bytes.HasPrefix(b, []byte("PROXY")), begun(b), "%q", b)
			if row.Err == nil {
				size, ok := declaredSize(b)
				assert.Equal(t, v2 && n >= 16, ok, "%q", b)
				assert.True(t, !ok || size == row.N, "%q says %d", b, size)
			}
		}
	})
}

func TestParseAllocs(t *testing.T) {
	if testenv.Race {
		t.Skip("the race detector allocates")
	}
	for _, row := range wiretest.Rows() {
		most := 0.0
		if row.Err == wiretest.ErrMalformed {
			most = 1 // the FormatError
		}
		allocs := testing.AllocsPerRun(5, func() { _, _, _ = Parse(row.Wire) })
		assert.Equal(t, most, allocs, "%s/%s", row.Section, row.Name)
	}
}

func TestAppendTo(t *testing.T) {
	eachGoodRow(t, func(t *testing.T, row wiretest.Row) {
		for _, before := range []string{"", "what was there before"} {
			h := headerOf(row.Want)
			b, err := h.AppendTo([]byte(before))
			require.NoError(t, err)
			require.True(t, bytes.HasPrefix(b, []byte(before)))
			requireHeader(t, row.Want, h)
			wire := b[len(before):]
			assert.Equal(t, row.Canonical, bytes.Equal(row.Wire[:row.N], wire), "%q", wire)
			again, n, err := Parse(append(wire, "payload"...))
			require.NoError(t, err)
			assert.Equal(t, len(wire), n)
			requireHeader(t, row.Want, &again)
		}
	})
}

// HAProxy's and nginx' order of TLVs is theirs, but the checksum's value is AppendTo's.
func TestAppendToChecksum(t *testing.T) {
	for _, tlvs := range [][2]string{
		{"", ""},
		{wiretest.TLV(0x01, "h2"), wiretest.TLV(0x02, "example.com")},
		{
			wiretest.TLV(0x04, "\x03\x00\x04...."),
			wiretest.SSL(0x01, 0, wiretest.TLV(0x03, "oops")),
		},
	} {
		wire, right := wiretest.CRC(tlvs[0], tlvs[1])
		at := len(tlvs[0]) + 3
		for _, value := range []string{"\x00\x00\x00\x00", "\xff\xff\xff\xff", right[at : at+4]} {
			given := tlvs[0] + wiretest.TLV(0x03, value) + tlvs[1]
			h, _, err := Parse([]byte(wire))
			require.NoError(t, err)
			h.TLVs = TLVs(given)
			b, err := h.AppendTo(nil)
			require.NoError(t, err)
			assert.Equal(t, wire, string(b))
			assert.Equal(t, given, string(h.TLVs), "AppendTo changed the header")
		}
	}
}

func TestAppendToAllocs(t *testing.T) {
	if testenv.Race {
		t.Skip("the race detector allocates")
	}
	room := make([]byte, 0, maxHeader)
	for _, row := range wiretest.Rows() {
		if row.Err == nil {
			h := headerOf(row.Want)
			allocs := testing.AllocsPerRun(5, func() { _, _ = h.AppendTo(room) })
			assert.Zero(t, allocs, "%s/%s", row.Section, row.Name)
		}
	}
}

func TestCloneAllocs(t *testing.T) {
	if testenv.Race {
		t.Skip("the race detector allocates")
	}
	var into Header
	for _, row := range wiretest.Rows() {
		h, _, err := Parse(row.Wire)
		most := 0.0
		if err == nil && (h.Unix != nil || len(h.TLVs) > 0) {
			most = 1
		}
		assert.Equal(t, most, testing.AllocsPerRun(2, func() {
			into = h
			into.detach()
		}), row.Name)
	}
}
