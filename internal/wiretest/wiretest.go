// Package wiretest is the table of wire bytes that the library is tested with: headers of both
// versions, good and bad, each with what a receiver makes of it. It also has an oracle, a second
// parser that is slow and plain, to judge the library's by.
//
// It depends on nothing of the library, so that every test of this repository can import it. Other
// languages read the same rows from testdata/wire.json; docs/vectors.md says how.
package wiretest

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
)

// A Row is some bytes that a connection begins with, and what becomes of them.
type Row struct {
	Section string // of the specification
	Name    string // unique within the section
	Origin  string // who sends such bytes, or whose tests have them; empty for our own
	Wire    []byte // the header, or what there is instead, and possibly payload

	// What a parser returns if Err is nil: the header, how many bytes of Wire it has, and whether a
	// sender writes it with just these bytes.
	Want      Header
	N         int
	Canonical bool

	Err    error  // nil, ErrNoHeader, ErrIncomplete or ErrMalformed
	Offset int    // of ErrMalformed: the byte that breaks the rule
	Rule   string // of ErrMalformed: part of the rule, if not empty
}

// Header is what a header says, in plain types.
type Header struct {
	Version             uint8 // 1 or 2
	Command             uint8 // Local or Proxy
	Protocol            uint8 // version 2's 14th byte; 0 for UNKNOWN
	Source, Destination netip.AddrPort
	TLVs                []byte
	Unix                *[216]byte
}

// The numbers that version 2 has for a command and a protocol.
const (
	Local = 0
	Proxy = 1

	tcp4         = 0x11
	udp4         = 0x12
	tcp6         = 0x21
	udp6         = 0x22
	unixStream   = 0x31
	unixDatagram = 0x32
)

// What may be wrong with a row.
var (
	ErrNoHeader   = errors.New("no header")
	ErrIncomplete = errors.New("incomplete")
	ErrMalformed  = errors.New("malformed")
)

// Equal compares headers by value; no TLVs are no TLVs, nil or not.
func (h Header) Equal(other Header) bool {
	if (h.Unix == nil) != (other.Unix == nil) || h.Unix != nil && *h.Unix != *other.Unix {
		return false
	}
	return h.Version == other.Version && h.Command == other.Command &&
		h.Protocol == other.Protocol && h.Source == other.Source &&
		h.Destination == other.Destination && bytes.Equal(h.TLVs, other.TLVs)
}

// Rows is the whole table.
func Rows() []Row {
	var t table
	t.identification()
	t.v1Accepted()
	t.v1Mixed()
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
	t.senders()
	t.suites()
	return t.rows
}

// table collects rows of a section, and of an origin.
type table struct {
	section, origin string
	rows            []Row
}

func (t *table) add(r Row) {
	r.Section, r.Origin = t.section, t.origin
	t.rows = append(t.rows, r)
}

// canonical adds a header that is accepted, and that a sender writes just so.
func (t *table) canonical(name, header string, want Header) {
	t.canonicalBefore("", name, header, want)
}

// accept adds a header that is accepted though a sender writes another for it.
func (t *table) accept(name, header string, want Header) {
	t.acceptBefore("", name, header, want)
}

// canonicalBefore and acceptBefore add one that something else follows.
func (t *table) canonicalBefore(payload, name, header string, want Header) {
	wire := []byte(header + payload)
	t.add(Row{Name: name, Wire: wire, Want: want, N: len(header), Canonical: true})
}

func (t *table) acceptBefore(payload, name, header string, want Header) {
	t.add(Row{Name: name, Wire: []byte(header + payload), Want: want, N: len(header)})
}

// line adds a v1 line that is refused at the byte after the mark.
func (t *table) line(name, line string, rule ...string) {
	before, after, found := strings.Cut(line, "¦")
	if !found {
		panic("no mark in " + line)
	}
	t.malformed(name, before+after, len(before), rule...)
}

func (t *table) malformed(name, wire string, offset int, rule ...string) {
	t.add(Row{
		Name: name, Wire: []byte(wire), Err: ErrMalformed,
		Offset: offset, Rule: strings.Join(rule, ""),
	})
}

func (t *table) noHeader(name, wire string) {
	t.add(Row{Name: name, Wire: []byte(wire), Err: ErrNoHeader})
}

func (t *table) incomplete(name, wire string) {
	t.add(Row{Name: name, Wire: []byte(wire), Err: ErrIncomplete})
}

// inet is the header of a connection over IP.
func inet(version, protocol uint8, source, destination string, tlvs ...string) Header {
	h := Header{
		Version: version, Command: Proxy, Protocol: protocol,
		Source:      netip.MustParseAddrPort(source),
		Destination: netip.MustParseAddrPort(destination),
	}
	if len(tlvs) > 0 {
		h.TLVs = []byte(strings.Join(tlvs, ""))
	}
	return h
}

// unixHeader is the header of a connection between Unix sockets.
func unixHeader(protocol uint8, block string, tlvs ...string) Header {
	addrs := [216]byte([]byte(block))
	h := Header{Version: 2, Command: Proxy, Protocol: protocol, Unix: &addrs}
	if len(tlvs) > 0 {
		h.TLVs = []byte(strings.Join(tlvs, ""))
	}
	return h
}
