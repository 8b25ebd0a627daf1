package main

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"strings"
)

// The addresses that most headers here have.
var (
	source4      = netip.MustParseAddrPort("203.0.113.189:56324")
	destination4 = netip.MustParseAddrPort("198.51.100.217:443")
	source6      = netip.MustParseAddrPort("[2001:db8:4137:9e76:1cc2:3fa2:8d4b:5e01]:56324")
	dest6        = netip.MustParseAddrPort("[2001:db8:85a3:1b6e:7c3f:8a2e:4370:7334]:443")
	source6short = netip.MustParseAddrPort("[2001:db8::5e01]:56324")
	dest6short   = netip.MustParseAddrPort("[2001:db8:0:1::7334]:443")
)

const signature = "\r\n\r\n\x00\r\nQUIT\n"

// lineV1 writes a version 1 header.
func lineV1(protocol string, source, destination netip.AddrPort) []byte {
	b := []byte("PROXY " + protocol + " ")
	b = append(source.Addr().AppendTo(b), ' ')
	b = append(destination.Addr().AppendTo(b), ' ')
	for i, port := range []uint16{source.Port(), destination.Port()} {
		ap := netip.AddrPortFrom(netip.IPv4Unspecified(), port).String()
		b = append(b, ap[strings.IndexByte(ap, ':')+1:]...)
		b = append(b, " \r"[i])
	}
	return append(b, '\n')
}

// headerV2 writes a version 2 header: verCmd and family are its 13th and 14th bytes.
func headerV2(verCmd, family byte, block ...[]byte) []byte {
	b := append([]byte(signature), verCmd, family, 0, 0)
	for _, part := range block {
		b = append(b, part...)
	}
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-16))
	return b
}

// ips writes the addresses and ports of an INET or INET6 block.
func ips(source, destination netip.AddrPort) []byte {
	b := append(source.Addr().AsSlice(), destination.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, source.Port())
	return binary.BigEndian.AppendUint16(b, destination.Port())
}

func tlv(typ byte, value string) []byte {
	b := binary.BigEndian.AppendUint16([]byte{typ}, uint16(len(value)))
	return append(b, value...)
}

// withCRC puts the right checksum into a header whose last TLV is a CRC32C.
func withCRC(header []byte) []byte {
	sum := header[len(header)-4:]
	clear(sum)
	binary.BigEndian.PutUint32(sum, crc32.Checksum(header, crc32.MakeTable(crc32.Castagnoli)))
	return header
}

func sslTLV() []byte {
	return tlv(0x20, "\x05\x00\x00\x00\x00"+
		string(tlv(0x21, "TLSv1.3"))+string(tlv(0x22, "client.example.com"))+
		string(tlv(0x23, "TLS_AES_256_GCM_SHA384"))+string(tlv(0x25, "RSA2048")))
}

var fourTLVs = [][]byte{
	ips(source4, destination4),
	tlv(0x01, "h2"),
	tlv(0x02, "www.example.com"),
	tlv(0x05, "0123456789abcdef"),
	tlv(0xEA, "\x01vpce-08d2bf15fac5001c9"),
}

func unixBlock() []byte {
	b := make([]byte, 216)
	copy(b, "/run/haproxy/frontend.sock")
	copy(b[108:], "/run/app/backend.sock")
	return b
}

// The headers that are parsed and written, and what is refused.
var wires = struct {
	v1TCP4, v1TCP6, v1TCP6Short, v1Unknown                   []byte
	v2TCP4, v2TCP6, v2Unix, v2TLVs, v2SSL, v2Local           []byte
	v2CRC, v2NoCRC                                           []byte // of 100 bytes each
	httpRequest, v2WrongCRC, v1Endless, v1LongUnknown, v1Bad []byte
}{
	v1TCP4:      lineV1("TCP4", source4, destination4),
	v1TCP6:      lineV1("TCP6", source6, dest6),
	v1TCP6Short: lineV1("TCP6", source6short, dest6short),
	v1Unknown:   []byte("PROXY UNKNOWN\r\n"),
	v2TCP4:      headerV2(0x21, 0x11, ips(source4, destination4)),
	v2TCP6:      headerV2(0x21, 0x21, ips(source6, dest6)),
	v2Unix:      headerV2(0x21, 0x31, unixBlock()),
	v2TLVs:      headerV2(0x21, 0x11, fourTLVs...),
	v2SSL:       headerV2(0x21, 0x11, ips(source4, destination4), sslTLV()),
	v2Local:     headerV2(0x20, 0x00),
	v2CRC:       withCRC(headerV2(0x21, 0x11, ips(source4, destination4), tlv(0x02, strings.Repeat("a", 62)), tlv(0x03, "....")))[:100],
	v2NoCRC:     headerV2(0x21, 0x11, ips(source4, destination4), tlv(0x02, strings.Repeat("a", 62)), tlv(0xE0, "....")),
	httpRequest: []byte("GET /index.html HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n\r\n"),
	v2WrongCRC: func() []byte {
		b := withCRC(headerV2(0x21, 0x11, ips(source4, destination4), tlv(0x02, strings.Repeat("a", 62)), tlv(0x03, "....")))
		b[len(b)-1] ^= 1
		return b
	}(),
	v1Endless:     []byte("PROXY UNKNOWN " + strings.Repeat("f", 107-14)),
	v1LongUnknown: []byte("PROXY UNKNOWN " + strings.Repeat("f", 107-16) + "\r\n"),
}
