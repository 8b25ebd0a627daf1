package wiretest

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// The bytes of a v2 header, in the order of section 2.2:
//
//	signature (12) | version, command (1) | family, protocol (1) | length (2) | addresses | TLVs
const (
	Signature = "\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"

	// 192.168.0.1:56324 to 192.168.0.11:443
	Inet4 = "\xc0\xa8\x00\x01" + "\xc0\xa8\x00\x0b" + "\xdc\x04" + "\x01\xbb"
	// [2001:db8::1]:56324 to [2001:db8::b]:443
	Inet6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0b" + "\xdc\x04" + "\x01\xbb"

	TLVs4    = 16 + 12 // where the TLVs begin after IPv4 addresses,
	TLVs6    = 16 + 36 // IPv6 ones,
	TLVsUnix = 16 + 216
)

// V2 is a whole v2 header with the length that the block has.
func V2(verCmd, fam byte, block ...string) string {
	b := strings.Join(block, "")
	return V2Len(verCmd, fam, len(b), b)
}

// V2Len is a v2 header that claims n bytes whatever the block has.
func V2Len(verCmd, fam byte, n int, block ...string) string {
	b := append([]byte(Signature), verCmd, fam)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	return string(b) + strings.Join(block, "")
}

// Unix is the address block of AF_UNIX.
func Unix(source, destination string) string {
	pad := func(s string) string { return s + strings.Repeat("\x00", 108-len(s)) }
	return pad(source) + pad(destination)
}

// TLV is a TLV.
func TLV(typ byte, value string) string { return TLVLen(typ, len(value), value) }

// TLVLen is a TLV that claims n bytes whatever the value has.
func TLVLen(typ byte, n int, value string) string {
	return string(binary.BigEndian.AppendUint16([]byte{typ}, uint16(n))) + value
}

// SSL is an SSL TLV with these TLVs inside.
func SSL(client byte, verify uint32, subs ...string) string {
	value := binary.BigEndian.AppendUint32([]byte{client}, verify)
	return TLV(0x20, string(value)+strings.Join(subs, ""))
}

// Sum is the wire with the four bytes at offset replaced by the checksum of it all.
func Sum(wire string, offset int) string {
	b := []byte(wire)
	copy(b[offset:], "\x00\x00\x00\x00")
	binary.BigEndian.PutUint32(b[offset:], crc32c(b))
	return string(b)
}

// CRC is a PROXY header over TCP and IPv4 with a right checksum between two runs of TLVs, and
// those TLVs.
func CRC(before, after string) (wire, tlvs string) {
	wire = V2(0x21, 0x11, Inet4, before, TLV(0x03, "\x00\x00\x00\x00"), after)
	wire = Sum(wire, TLVs4+len(before)+3)
	return wire, wire[TLVs4:]
}

// Hex is what a hexadecimal text stands for. Spaces in it don't count.
func Hex(s string) string {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return string(b)
}
