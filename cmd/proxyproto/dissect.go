package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/seed2e8fe8ee/proxyproto"
)

// field is a part of a header. The fields of one follow each other and leave out nothing but the
// spaces of version 1.
type field struct {
	Offset int    `json:"offset"`
	Hex    string `json:"hex"`
	Name   string `json:"name"`
	Text   string `json:"text,omitempty"`
	Fault  string `json:"fault,omitempty"` // the rule that is broken here

	faultAt int  // the byte of the field that is at fault
	depth   int  // 1 inside an SSL TLV
	tlv     bool // the first three bytes are type and length
	plain   bool // of version 1
}

func (f *field) size() int { return len(f.Hex) / 2 }

// dissect takes as much of a header apart as its bytes allow, whether Parse accepts it or not:
// what is at fault is shown among the rest. It stops at the header's end, and earlier where
// nothing can be made of the bytes.
func dissect(b []byte) []field {
	d := dissection{b: b}
	switch {
	case len(b) > 0 && b[0] == 'P':
		d.v1()
	case len(b) > 0:
		d.v2()
	}
	return d.fields
}

type dissection struct {
	b      []byte
	at     int
	depth  int
	fields []field
}

// take makes the next n bytes a field, or as many as there are. It reports whether there are n.
func (d *dissection) take(n int, name, text string) bool {
	end := min(len(d.b), d.at+n)
	if end == d.at {
		return n == 0
	}
	whole := end == d.at+n
	if !whole {
		name, text = name+", cut off", ""
	}
	d.fields = append(d.fields, field{
		Offset: d.at, Hex: hex.EncodeToString(d.b[d.at:end]), Name: name, Text: text,
		depth: d.depth,
	})
	d.at = end
	return whole
}

func (d *dissection) last() *field { return &d.fields[len(d.fields)-1] }

// v1 splits a line at its spaces.
func (d *dissection) v1() {
	line := d.b[:min(len(d.b), 107)]
	end := bytes.Index(line, []byte("\r\n"))
	if end < 0 {
		end = len(line)
	}
	names := []string{"keyword", "protocol", "source address", "destination address", "source port",
		"destination port"}
	for i := 0; d.at < end; d.at++ { // over the space
		n := bytes.IndexByte(line[d.at:end], ' ')
		unknown := string(line[:d.at]) == "PROXY UNKNOWN "
		if n < 0 || unknown {
			n = end - d.at
		}
		if n == 0 {
			continue
		}
		name := "unexpected"
		switch {
		case unknown:
			name = "ignored"
		case i < len(names):
			name = names[i]
		}
		i++
		d.take(n, name, quote(line[d.at:d.at+n]))
		d.last().plain = true
	}
	d.at = end
	if end < len(line) {
		d.take(2, "end of the line", quote(line[end:end+2]))
		d.last().plain = true
	}
}

func (d *dissection) v2() {
	b := d.b
	if !d.take(12, "signature", "") || len(b) <= d.at {
		return
	}
	command := proxyproto.Command(b[12] & 0x0F)
	d.take(1, "version and command", fmt.Sprintf("%d, %v", b[12]>>4, command))
	if b[12]>>4 != 2 || command > proxyproto.Proxy || len(b) <= d.at {
		return
	}
	protocol := proxyproto.Protocol(b[13])
	d.take(1, "family and transport", protocolText(protocol))
	if command == proxyproto.Proxy && (protocol>>4 > 3 || protocol&0x0F > 2) || len(b) < 16 {
		d.take(2, "length", "")
		return
	}
	block := int(binary.BigEndian.Uint16(b[14:]))
	d.take(2, "length", fmt.Sprintf("%d bytes follow", block))
	d.b = b[:min(len(b), d.at+block)]
	end := d.at + block
	if command == proxyproto.Local || protocol>>4 == 0 || protocol&0x0F == 0 {
		d.take(block, "ignored", "")
		return
	}
	switch protocol >> 4 {
	case 1:
		d.addresses(4, 2)
	case 2:
		d.addresses(16, 2)
	case 3:
		d.addresses(108, 0)
	}
	d.tlvs(end)
}

// addresses takes two addresses of a size, and their ports.
func (d *dissection) addresses(size, port int) {
	for _, name := range []string{"source address", "destination address"} {
		text := ""
		if d.at+size <= len(d.b) {
			text = addressText(d.b[d.at : d.at+size])
		}
		d.take(size, name, text)
	}
	if port == 0 {
		return
	}
	for _, name := range []string{"source port", "destination port"} {
		text := ""
		if d.at+2 <= len(d.b) {
			text = strconv.Itoa(int(binary.BigEndian.Uint16(d.b[d.at:])))
		}
		d.take(2, name, text)
	}
}

// tlvs takes what is left before end, one TLV after the other.
func (d *dissection) tlvs(end int) {
	for d.at < end && d.at < len(d.b) {
		rest := d.b[d.at:min(len(d.b), end)]
		typ, size, text := proxyproto.TLVType(rest[0]), end-d.at, ""
		if len(rest) >= 3 {
			size = 3 + int(binary.BigEndian.Uint16(rest[1:]))
		}
		switch {
		case size > end-d.at:
			text = fmt.Sprintf("of %d bytes, where %d are left", size-3, end-d.at-3)
			size = end - d.at
		case typ == proxyproto.TypeSSL && d.depth == 0 && size >= 3+5 && len(rest) >= 3+5:
			d.ssl(rest[3:min(size, len(rest))], d.at+size)
			continue
		case len(rest) < max(size, 3):
		default:
			value := describe(typ, rest[3:size])
			text = value.words()
			if typ == proxyproto.TypeCRC32C && size == 3+4 &&
				len(d.b) >= 16+int(binary.BigEndian.Uint16(d.b[14:])) {
				text += checksumText(d.b, d.at+3)
			}
		}
		d.take(size, "TLV "+typeName(typ), text)
		d.last().tlv = true
	}
}

// ssl takes an SSL TLV up to end, with those inside. Its value may be cut off behind the verify
// result.
func (d *dissection) ssl(value []byte, end int) {
	s, _ := asSSL(proxyproto.TypeSSL, value)
	d.take(3, "TLV "+typeName(proxyproto.TypeSSL), "")
	d.last().tlv = true
	d.depth++
	d.take(1, "client", clientText(s))
	d.take(4, "verify", verifyText(s))
	d.tlvs(end)
	d.depth--
}

// checksumText compares the CRC32C at byte at of a header with what it should be (section 2.2.3).
func checksumText(header []byte, at int) string {
	zeroed := bytes.Clone(header)
	clear(zeroed[at : at+4])
	sum := crc32.Checksum(zeroed, crc32.MakeTable(crc32.Castagnoli))
	if sum == binary.BigEndian.Uint32(header[at:]) {
		return ", correct"
	}
	return fmt.Sprintf(", where 0x%08x is right", sum)
}

func protocolText(p proxyproto.Protocol) string {
	if s := p.String(); !strings.HasPrefix(s, "Protocol(") {
		return s
	}
	name := func(names []string, i proxyproto.Protocol) string {
		if int(i) < len(names) {
			return names[i]
		}
		return fmt.Sprintf("0x%X", uint8(i))
	}
	return name([]string{"UNSPEC", "INET", "INET6", "UNIX"}, p>>4) + " and " +
		name([]string{"UNSPEC", "STREAM", "DGRAM"}, p&0x0F)
}

func addressText(b []byte) string {
	if addr, ok := netip.AddrFromSlice(b); ok {
		return addr.String()
	}
	name := bytes.TrimRight(b, "\x00")
	switch {
	case len(name) == 0:
		return "none"
	case name[0] == 0:
		return "abstract, " + quote(name[1:])
	}
	name, _, _ = bytes.Cut(name, []byte{0})
	return quote(name)
}

func quote(b []byte) string { return strconv.QuoteToASCII(string(b)) }

// mark notes at the byte at offset that rule is broken there, in the field that has the byte or
// in one of its own.
func mark(fields []field, b []byte, offset int, rule string) []field {
	at := len(fields)
	for i := range fields {
		f := &fields[i]
		if offset < f.Offset {
			at = i
			break
		}
		if offset < f.Offset+f.size() {
			f.Fault, f.faultAt = rule, offset-f.Offset
			return fields
		}
	}
	fault := field{Offset: offset, Name: "unexpected", Fault: rule}
	switch {
	case offset < len(b):
		fault.Hex = hex.EncodeToString(b[offset : offset+1])
	default:
		fault.Name = "missing"
	}
	return slices.Insert(fields, at, fault)
}
