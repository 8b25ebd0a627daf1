package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/wiretest"
)

// fuzzSeeds are the table's wires, without the few that are too long to be worth mutating.
func fuzzSeeds() (seeds [][]byte) {
	for _, row := range wiretest.Rows() {
		if len(row.Wire) < 4096 {
			seeds = append(seeds, row.Wire)
		}
	}
	return seeds
}

func FuzzParse(f *testing.F) {
	for _, seed := range fuzzSeeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		requireAgreement(t, b)
		require.Equal(t, before, b, "Parse changed its bytes")
		h, _, err := Parse(b)
		if err != nil {
			return
		}
		wire, err := h.AppendTo(nil)
		require.NoError(t, err, "%v", h)
		again, n, err := Parse(wire)
		require.NoError(t, err, "%q", wire)
		require.Equal(t, len(wire), n)
		requireHeader(t, plainOf(&h), &again)
	})
}

// FuzzFragments lets bytes arrive in fragments, whose lengths are those of cuts in turn: once Parse
// has decided, by whatever fragment, it decides the same ever after.
func FuzzFragments(f *testing.F) {
	for i, seed := range fuzzSeeds() {
		f.Add(seed, []byte{1})
		f.Add(append(bytes.Clone(seed), "payload"...), []byte{byte(i%7 + 1), 16, 0, byte(i)})
	}
	f.Fuzz(func(t *testing.T, b, cuts []byte) {
		whole, wholeN, wholeErr := Parse(b)
		decided := false
		for length, i := 0, 0; length < len(b); i++ {
			h, n, err := Parse(b[:length])
			switch {
			case errors.Is(err, ErrIncomplete):
				require.False(t, decided, "%d bytes of %q are too few again", length, b)
			case err != nil:
				decided = true
				require.EqualError(t, wholeErr, err.Error(), "%d bytes of %q", length, b)
			default:
				decided = true
				require.NoError(t, wholeErr, "%d bytes of %q", length, b)
				require.Equal(t, wholeN, n)
				require.LessOrEqual(t, n, length)
				requireHeader(t, plainOf(&whole), &h)
			}
			step := 1
			if i < len(cuts) {
				step = int(cuts[i])
			} else if len(b) > 500 {
				step = len(b)/500 + 1
			}
			length += step
		}
		if decided {
			require.NotErrorIs(t, wholeErr, ErrIncomplete, "%q", b)
		}
	})
}

func FuzzAppend(f *testing.F) {
	for _, row := range wiretest.Rows() {
		if row.Err != nil || len(row.Wire) >= 4096 {
			continue
		}
		h, unix := row.Want, []byte(nil)
		if h.Unix != nil {
			unix = h.Unix[:]
		}
		add := func(zone string, tlvs, before []byte) {
			f.Add(h.Version, h.Command, h.Protocol, h.Source.Addr().AsSlice(),
				h.Destination.Addr().AsSlice(), h.Source.Port(), h.Destination.Port(), zone, tlvs,
				unix, before)
		}
		add("", h.TLVs, []byte(row.Name))
		add("eth0", []byte(wiretest.TLV(0x03, "oops")), nil)
	}
	f.Fuzz(func(t *testing.T, version, command, protocol byte, source, destination []byte,
		sourcePort, destinationPort uint16, zone string, tlvs, unix, before []byte) {
		h := Header{
			Version: Version(version), Command: Command(command), Protocol: Protocol(protocol),
			Source:      fuzzAddrPort(source, sourcePort, zone),
			Destination: fuzzAddrPort(destination, destinationPort, ""),
			TLVs:        tlvs,
		}
		if len(unix) > 0 {
			h.Unix = new(UnixAddrs)
			copy(h.Unix[:], unix)
		}
		given, room := h.Clone(), bytes.Clone(before)
		b, err := h.AppendTo(room)
		requireHeader(t, plainOf(given), &h)
		require.True(t, bytes.HasPrefix(b, before), "AppendTo changed what was there")
		if !wiretest.Appendable(plainOf(&h)) {
			require.Error(t, err, "%v", h)
			require.Equal(t, len(before), len(b))
			return
		}
		require.NoError(t, err, "%v", h)
		wire := b[len(before):]
		requireAgreement(t, wire)
		again, n, err := Parse(wire)
		require.NoError(t, err, "%q", wire)
		require.Equal(t, len(wire), n)
		requireHeader(t, plainOf(fuzzUnsummed(&h)), fuzzUnsummed(&again))
	})
}

// fuzzAddrPort takes any 4 or 16 bytes for an address, and others for none.
func fuzzAddrPort(b []byte, port uint16, zone string) netip.AddrPort {
	addr, ok := netip.AddrFromSlice(b)
	if !ok && port == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr.WithZone(zone), port)
}

// fuzzUnsummed is a copy of h with a checksum of zero.
func fuzzUnsummed(h *Header) *Header {
	h = h.Clone()
	for at := 0; at < len(h.TLVs); at += 3 + int(binary.BigEndian.Uint16(h.TLVs[at+1:])) {
		if h.TLVs[at] == 0x03 {
			clear(h.TLVs[at+3 : at+7])
		}
	}
	return h
}

type fuzzTLV struct {
	Type  TLVType
	Value string
}

// fuzzWalk collects the TLVs that b begins with, and what is left after the last whole one.
func fuzzWalk(b []byte) (tlvs []fuzzTLV, rest []byte) {
	for len(b) >= 3 {
		n := int(b[1])*256 + int(b[2])
		if len(b)-3 < n {
			break
		}
		tlvs = append(tlvs, fuzzTLV{TLVType(b[0]), string(b[3 : 3+n])})
		b = b[3+n:]
	}
	return tlvs, b
}

func collectTLVs(t TLVs) (all []fuzzTLV) {
	for typ, value := range t.All() {
		all = append(all, fuzzTLV{typ, string(value)})
	}
	return all
}

func FuzzTLVs(f *testing.F) {
	for _, row := range wiretest.Rows() {
		if len(row.Wire) > wiretest.TLVs4 && len(row.Wire) < 4096 {
			f.Add(row.Wire[wiretest.TLVs4:], byte(0x04), []byte(row.Name))
		}
	}
	f.Add([]byte(nil), byte(0xff), []byte(nil))
	f.Add(make([]byte, 65535-6), byte(0x01), []byte("abc"))
	f.Add(make([]byte, 65535-6), byte(0x01), []byte("abcd"))
	f.Fuzz(func(t *testing.T, b []byte, typ byte, value []byte) {
		before := bytes.Clone(b)
		tlvs := TLVs(b)
		want, rest := fuzzWalk(b)
		require.Equal(t, want, collectTLVs(tlvs))

		first, found := "", false
		for _, tlv := range want {
			if tlv.Type == TLVType(typ) {
				first, found = tlv.Value, true
				break
			}
		}
		got, ok := tlvs.Lookup(TLVType(typ))
		require.Equal(t, found, ok)
		require.Equal(t, first, string(got))
		if found {
			require.LessOrEqual(t, cap(got), len(got), "append would overwrite the next TLV")
		}
		for range tlvs.All() {
			break // and doesn't call again
		}

		more, err := tlvs[:len(b):len(b)].Append(TLVType(typ), value)
		require.Equal(t, before, b, "the bytes have changed")
		if len(b)+3+len(value) > 65535 {
			require.Error(t, err)
			require.Equal(t, before, []byte(more))
			return
		}
		require.NoError(t, err)
		require.Equal(t, string(b)+wiretest.TLV(typ, string(value)), string(more))
		set, err := tlvs.Set(TLVType(typ), value)
		require.Equal(t, before, b, "the bytes have changed")
		if err == nil {
			var others []fuzzTLV
			for _, tlv := range want {
				if tlv.Type != TLVType(typ) {
					others = append(others, tlv)
				}
			}
			require.Equal(t, append(others, fuzzTLV{TLVType(typ), string(value)}), collectTLVs(set))
		}
		if len(rest) == 0 {
			require.Equal(t, append(want, fuzzTLV{TLVType(typ), string(value)}), collectTLVs(more))
		}
	})
}

// FuzzSSL: what Parse accepts as an SSL TLV is read and written back unchanged, and a client is
// verified exactly when the bytes say so.
func FuzzSSL(f *testing.F) {
	for _, c := range sslCases {
		f.Add([]byte(wiretest.Hex(c.value)))
	}
	f.Add([]byte(wiretest.Hex("07 000000")))
	f.Add([]byte(wiretest.Hex("07 00000000 21 0007 54")))
	f.Fuzz(func(t *testing.T, value []byte) {
		if len(value) > 4096 {
			return
		}
		tlvs, err := TLVs(nil).Append(TypeSSL, value)
		require.NoError(t, err)
		s, ok := tlvs.SSL()
		assert.Equal(t, len(value) >= 5, ok)
		if !ok {
			return
		}
		passed := string(value[1:5]) == "\x00\x00\x00\x00"
		assert.Equal(t, value[0]&1 != 0 && value[0]&6 != 0 && passed, s.Verified())
		if cn, ok := s.CommonName(); ok {
			assert.True(t, s.Verified())
			assert.Contains(t, string(value), string(cn))
			assert.NotContains(t, strconv.Quote(string(cn)), `\x`)
		}
		got, appendErr := s.AppendTo(nil)
		_, _, parseErr := Parse([]byte(wiretest.V2(0x21, 0x11, wiretest.Inet4, string(tlvs))))
		switch {
		case parseErr != nil:
			assert.Error(t, appendErr)
		case s.Verify == 0 && !s.Verified():
			assert.Error(t, appendErr)
		default:
			require.NoError(t, appendErr)
			assert.Equal(t, tlvs, got)
		}
	})
}
