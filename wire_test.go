package proxyproto

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// wireCase is one row of the table of wire bytes that feeds parsing, appending, the fuzz seeds and
// the listening socket.
type wireCase struct {
	name, section string // section of the specification
	wire          []byte // header, possibly followed by payload
	want          Header // when err is nil
	n             int    // bytes of header, when err is nil
	err           error  // nil, ErrNoHeader, ErrIncomplete or ErrMalformed
	offset        int    // when err is ErrMalformed: what the FormatError reports
	rule          string // when err is ErrMalformed: part of the FormatError's rule, if not empty
	canonical     bool   // want is written as wire[:n]
}

// wireCases is the whole table.
func wireCases() []wireCase {
	var t wireTable
	t.identification()
	t.v1Accepted()
	t.v1Unknown()
	t.v1Keywords()
	t.v1IPv4()
	t.v1IPv6()
	t.v1Ports()
	t.v1Lines()
	t.v2Commands()
	t.v2Families()
	t.v2Lengths()
	t.v2Incomplete()
	t.tlvTypes()
	t.tlvFraming()
	t.tlvCRC32C()
	t.tlvSSL()
	t.realLife()
	return t.rows
}

// wireTable collects rows of a section.
type wireTable struct {
	section string
	rows    []wireCase
}

func (t *wireTable) add(c wireCase) {
	c.section = t.section
	t.rows = append(t.rows, c)
}

// canonical adds a header that is accepted, and that AppendTo writes just so.
func (t *wireTable) canonical(name, header string, want Header) {
	t.add(wireCase{name: name, wire: []byte(header), want: want, n: len(header), canonical: true})
}

// accept adds a header that is accepted though AppendTo writes another for it.
func (t *wireTable) accept(name, header string, want Header) {
	t.add(wireCase{name: name, wire: []byte(header), want: want, n: len(header)})
}

// canonicalBefore and acceptBefore add one that something else follows.
func (t *wireTable) canonicalBefore(payload, name, header string, want Header) {
	t.add(wireCase{name: name, wire: []byte(header + payload), want: want, n: len(header), canonical: true})
}

func (t *wireTable) acceptBefore(payload, name, header string, want Header) {
	t.add(wireCase{name: name, wire: []byte(header + payload), want: want, n: len(header)})
}

// line adds a v1 line that is refused at the byte after the mark.
func (t *wireTable) line(name, line string, rule ...string) {
	before, after, found := strings.Cut(line, "¦")
	if !found {
		panic("no mark in " + line)
	}
	t.malformed(name, before+after, len(before), rule...)
}

func (t *wireTable) malformed(name, wire string, offset int, rule ...string) {
	t.add(wireCase{name: name, wire: []byte(wire), err: ErrMalformed, offset: offset, rule: strings.Join(rule, "")})
}

func (t *wireTable) noHeader(name, wire string) {
	t.add(wireCase{name: name, wire: []byte(wire), err: ErrNoHeader})
}

func (t *wireTable) incomplete(name, wire string) {
	t.add(wireCase{name: name, wire: []byte(wire), err: ErrIncomplete})
}

// wireInet is the header of a connection over IP.
func wireInet(v Version, p Protocol, source, destination string, tlvs ...string) Header {
	h := Header{
		Version: v, Command: Proxy, Protocol: p,
		Source:      netip.MustParseAddrPort(source),
		Destination: netip.MustParseAddrPort(destination),
	}
	if len(tlvs) > 0 {
		h.TLVs = TLVs(strings.Join(tlvs, ""))
	}
	return h
}

// The bytes of a v2 header, in the order of section 2.2:
//
//	signature (12) | version, command (1) | family, protocol (1) | length (2) | addresses | TLVs
const (
	wireSig = "\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"

	// 192.168.0.1:56324 to 192.168.0.11:443
	wireInet4 = "\xc0\xa8\x00\x01" + "\xc0\xa8\x00\x0b" + "\xdc\x04" + "\x01\xbb"
	// [2001:db8::1]:56324 to [2001:db8::b]:443
	wireInet6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0b" + "\xdc\x04" + "\x01\xbb"

	wireTLVs4    = 16 + 12 // where the TLVs begin behind IPv4 addresses,
	wireTLVs6    = 16 + 36 // IPv6 ones,
	wireTLVsUnix = 16 + 216
)

// wireV2 is a whole v2 header with the length that the block has.
func wireV2(verCmd, fam byte, block ...string) string {
	b := strings.Join(block, "")
	return wireV2Len(verCmd, fam, len(b), b)
}

// wireV2Len is a v2 header that claims n bytes whatever the block has.
func wireV2Len(verCmd, fam byte, n int, block ...string) string {
	b := append([]byte(wireSig), verCmd, fam)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	return string(b) + strings.Join(block, "")
}

// wireUnix is the address block of AF_UNIX.
func wireUnix(source, destination string) string {
	pad := func(s string) string { return s + strings.Repeat("\x00", 108-len(s)) }
	return pad(source) + pad(destination)
}

func wireTLV(typ byte, value string) string { return wireTLVLen(typ, len(value), value) }

// wireTLVLen is a TLV that claims n bytes whatever the value has.
func wireTLVLen(typ byte, n int, value string) string {
	return string(binary.BigEndian.AppendUint16([]byte{typ}, uint16(n))) + value
}

func wireSSL(client byte, verify uint32, subs ...string) string {
	value := binary.BigEndian.AppendUint32([]byte{client}, verify)
	return wireTLV(0x20, string(value)+strings.Join(subs, ""))
}

// wireSum is the wire with the four bytes at offset replaced by the checksum of it all.
func wireSum(wire string, offset int) string {
	b := []byte(wire)
	copy(b[offset:], "\x00\x00\x00\x00")
	binary.BigEndian.PutUint32(b[offset:], oracleCRC32C(b))
	return string(b)
}

// wireCRC is a PROXY header over TCP and IPv4 with a right checksum between two runs of TLVs, and
// those TLVs.
func wireCRC(before, after string) (wire, tlvs string) {
	wire = wireV2(0x21, 0x11, wireInet4, before, wireTLV(0x03, "\x00\x00\x00\x00"), after)
	wire = wireSum(wire, wireTLVs4+len(before)+3)
	return wire, wire[wireTLVs4:]
}

func TestWireCases(t *testing.T) {
	cases := wireCases()
	assert.GreaterOrEqual(t, len(cases), 240, "rows")

	kinds := make(map[error]int)
	names := make(map[string]bool)
	wires := make(map[string]string)
	for _, c := range cases {
		name := c.section + "/" + c.name
		require.False(t, names[name], "two rows are called %s", name)
		require.Empty(t, wires[string(c.wire)], "%s repeats a row", name)
		names[name], wires[string(c.wire)] = true, name
		kinds[c.err]++

		require.LessOrEqual(t, c.n, len(c.wire), name)
		if c.err != nil {
			require.True(t, sameHeader(Header{}, c.want) && c.n == 0 && !c.canonical, name)
		}
		if c.err != ErrMalformed {
			require.True(t, c.offset == 0 && c.rule == "", name)
		}
	}
	for _, kind := range []error{nil, ErrNoHeader, ErrIncomplete, ErrMalformed} {
		assert.Greater(t, kinds[kind], 20, "rows of %v", kind)
	}
}

// sameHeader compares headers by value; no TLVs are no TLVs, nil or not.
func sameHeader(a, b Header) bool {
	if (a.Unix == nil) != (b.Unix == nil) || a.Unix != nil && *a.Unix != *b.Unix {
		return false
	}
	if !bytes.Equal(a.TLVs, b.TLVs) {
		return false
	}
	a.Unix, b.Unix, a.TLVs, b.TLVs = nil, nil, nil, nil
	return a.Version == b.Version && a.Command == b.Command && a.Protocol == b.Protocol &&
		a.Source == b.Source && a.Destination == b.Destination
}
