package wiretest

import (
	"fmt"
	"strings"
)

// tlvs adds a canonical header over TCP and IPv4 with these TLVs.
func (t *table) tlvs(name string, tlvs ...string) {
	t.canonical(name, V2(0x21, 0x11, append([]string{Inet4}, tlvs...)...),
		inet(2, tcp4, "192.168.0.1:56324", "192.168.0.11:443", tlvs...))
}

// badTLVs adds a header over TCP and IPv4 with these TLVs that is refused for a rule at the offset
// after the addresses.
func (t *table) badTLVs(name, rule string, offset int, tlvs ...string) {
	t.malformed(name, V2(0x21, 0x11, append([]string{Inet4}, tlvs...)...), TLVs4+offset, rule)
}

// checksum adds a canonical header with a right checksum between these TLVs.
func (t *table) checksum(name, before, after string) {
	wire, tlvs := CRC(before, after)
	t.canonical(name, wire, inet(2, tcp4, "192.168.0.1:56324", "192.168.0.11:443", tlvs))
}

func (t *table) tlvTypes() {
	t.section = "2.2.1"
	t.tlvs("alpn h2", TLV(0x01, "h2"))
	t.tlvs("alpn http/1.1", TLV(0x01, "http/1.1"))
	t.tlvs("alpn of zeroes", TLV(0x01, "\x00\x00"))
	t.tlvs("alpn empty", TLV(0x01, ""))
	t.section = "2.2.2"
	t.tlvs("authority", TLV(0x02, "example.com"))
	t.tlvs("authority in UTF-8", TLV(0x02, "bücher.example"))
	t.tlvs("authority that isn't UTF-8", TLV(0x02, "\xff\xfe"))
	t.tlvs("authority empty", TLV(0x02, ""))
	t.tlvs("authority twice", TLV(0x02, "a.example"), TLV(0x02, "b.example"))
	t.section = "2.2.4"
	t.tlvs("noop", TLV(0x04, "\x00"))
	t.tlvs("noop of three bytes in all", TLV(0x04, ""))
	t.tlvs("noop of any bytes", TLV(0x04, "\x04\xff\xff\xff"))
	t.tlvs("noop around others", TLV(0x04, "\x00\x00"), TLV(0x01, "h2"), TLV(0x04, ""))
	t.section = "2.2.5"
	t.tlvs("unique id", TLV(0x05, "\x01\x02\x03\x04\x05\x06\x07\x08"))
	t.tlvs("unique id empty", TLV(0x05, ""))
	t.tlvs("unique id of 128 bytes", TLV(0x05, strings.Repeat("u", 128)))
	t.badTLVs("unique id of 129 bytes", "128 bytes", 0, TLV(0x05, strings.Repeat("u", 129)))
	t.badTLVs("unique id of 256 bytes", "128 bytes", 0, TLV(0x05, strings.Repeat("u", 256)))
	t.badTLVs("unique id of 129 bytes after another TLV", "128 bytes", 5, TLV(0x01, "h2"),
		TLV(0x05, strings.Repeat("u", 129)))
	t.section = "2.2.7"
	t.tlvs("network namespace", TLV(0x30, "blue"))
	t.tlvs("network namespace empty", TLV(0x30, ""))
	t.section = "2.2.8"
	for _, typ := range []byte{0xe0, 0xef, 0xf0, 0xf7, 0xf8, 0xff} {
		t.tlvs(fmt.Sprintf("reserved type %#x", typ), TLV(typ, "value"))
	}
	t.section = "2.2"
	for _, typ := range []byte{0x00, 0x06, 0x1f, 0x21, 0x28, 0x29, 0x31, 0x7f, 0x80, 0xdf} {
		t.tlvs(fmt.Sprintf("type %#02x", typ), TLV(typ, "\x00\x05"))
	}
	t.tlvs("type 0x00, empty", TLV(0x00, ""))
	t.tlvs("all at once", TLV(0x30, "ns"), TLV(0x05, "id"), TLV(0xff, ""), TLV(0x02, "example.com"),
		TLV(0x01, "h2"), TLV(0x04, "\x00"))
	t.tlvs("value of 255 bytes", TLV(0xe1, strings.Repeat("v", 255)))
	t.tlvs("value of 256 bytes", TLV(0xe1, strings.Repeat("v", 256)))
	for _, f := range families {
		want := f.want
		want.TLVs = []byte(TLV(0x01, "h2") + TLV(0xe0, ""))
		t.canonical("TLVs after "+f.name, V2(0x21, f.fam, f.addr, string(want.TLVs)), want)
		t.canonicalBefore("\x01\x00\x02h2", "TLVs and payload after "+f.name,
			V2(0x21, f.fam, f.addr, string(want.TLVs)), want)
	}
}

func (t *table) tlvFraming() {
	t.section = "2.2"
	alpn := TLV(0x01, "h2")
	t.badTLVs("no length", "type and length", 0, "\x01")
	t.badTLVs("half a length", "type and length", 0, "\x01\x00")
	t.badTLVs("no length after a TLV", "type and length", 5, alpn, "\x04")
	t.badTLVs("half a length after a TLV", "type and length", 5, alpn, "\x04\x00")
	t.badTLVs("no length after two TLVs", "type and length", 10, alpn, alpn, "\xff")
	t.badTLVs("value short by one byte", "longer than", 0, TLVLen(0x01, 3, "h2"))
	t.badTLVs("value short by 256 bytes", "longer than", 0, TLVLen(0x01, 258, "h2"))
	t.badTLVs("no value", "longer than", 0, TLVLen(0xe0, 1, ""))
	t.badTLVs("length 65,535", "longer than", 0, TLVLen(0x04, 65535, "\x00"))
	t.badTLVs("second value short", "longer than", 5, alpn, TLVLen(0x02, 12, "example.com"))
	t.badTLVs("third value short", "longer than", 8, alpn, TLV(0x04, ""), TLVLen(0x05, 1, ""))
	t.badTLVs("value leaves one byte", "type and length", 5, TLVLen(0x01, 2, "h2\x00"))
	t.badTLVs("value leaves two bytes", "type and length", 4, TLVLen(0x01, 1, "h2\x00"))
	t.badTLVs("length in the wrong byte order", "longer than", 0, "\x01\x02\x00h2")
	// Bytes that follow the block are payload, even where a TLV could use them.
	t.malformed("value goes on after the block", V2Len(0x21, 0x11, 12+4, Inet4, alpn), TLVs4)
	t.malformed("length goes on after the block", V2Len(0x21, 0x11, 12+2, Inet4, alpn), TLVs4)
	t.malformed("tcp6 value short", V2(0x21, 0x21, Inet6, TLVLen(0x01, 3, "h2")), TLVs6)
	t.malformed("unix value short", V2(0x21, 0x31, Unix("a", "b"), TLVLen(0x01, 3, "h2")), TLVsUnix)
}

func (t *table) tlvCRC32C() {
	t.section = "2.2.3"
	alpn, authority := TLV(0x01, "h2"), TLV(0x02, "example.com")
	t.checksum("checksum alone", "", "")
	t.checksum("checksum first", "", alpn)
	t.checksum("checksum in the middle", authority, alpn)
	t.checksum("checksum last", authority+alpn, "")
	t.checksum("checksum before padding", alpn, TLV(0x04, strings.Repeat("\x00", 64)))

	for _, f := range families {
		wire := Sum(V2(0x21, f.fam, f.addr, TLV(0x03, "\x00\x00\x00\x00")), 16+len(f.addr)+3)
		want := f.want
		want.TLVs = []byte(wire[16+len(f.addr):])
		t.canonicalBefore("payload isn't summed", "checksum of "+f.name+" before payload", wire,
			want)
	}

	right, _ := CRC(alpn, authority)
	at := TLVs4 + len(alpn)
	flipped := func(i int) string {
		b := []byte(right)
		b[i] ^= 1
		return string(b)
	}
	t.malformed("checksum wrong in its first byte", flipped(at+3), at)
	t.malformed("checksum wrong in its last byte", flipped(at+6), at)
	t.malformed("checksum of another source", flipped(16), at)
	t.malformed("checksum of another port", flipped(27), at)
	t.malformed("checksum of another value before", flipped(at-1), at)
	t.malformed("checksum of another value after", flipped(len(right)-1), at)
	t.malformed("checksum of another family", strings.Replace(right, "\x21\x11", "\x21\x12", 1), at)
	t.malformed("checksum zero", V2(0x21, 0x11, Inet4, TLV(0x03, "\x00\x00\x00\x00")), TLVs4,
		"CRC32C is wrong")
	alone, _ := CRC("", "")
	t.malformed("checksum in the wrong byte order",
		alone[:31]+string([]byte{alone[34], alone[33], alone[32], alone[31]}), TLVs4)
	t.malformed("checksum includes the payload", Sum(alone+"payload", TLVs4+3), TLVs4)
	t.malformed("checksum wrong before payload", alone[:34]+string([]byte{^alone[34]})+"payload",
		TLVs4)

	t.badTLVs("checksum empty", "four bytes", 0, TLV(0x03, ""))
	t.badTLVs("checksum of three bytes", "four bytes", 0, TLV(0x03, "\x00\x00\x00"))
	t.badTLVs("checksum of five bytes", "four bytes", 0, TLV(0x03, "\x00\x00\x00\x00\x00"))
	t.badTLVs("checksum of 260 bytes", "four bytes", 5, alpn,
		TLV(0x03, strings.Repeat("\x00", 260)))
	t.badTLVs("checksum twice", "only one", 7, TLV(0x03, "\x00\x00\x00\x00"),
		TLV(0x03, "\x00\x00\x00\x00"))
	t.badTLVs("checksum twice, apart", "only one", 12, TLV(0x03, "\x00\x00\x00\x00"), alpn,
		TLV(0x03, "\x00\x00\x00\x00"))
}

func (t *table) tlvSSL() {
	t.section = "2.2.6"
	alpn := TLV(0x01, "h2")
	version, cn := TLV(0x21, "TLSv1.3"), TLV(0x22, "example.com")
	certificate := TLV(0x28, "\x30\x82\x07\xfc"+strings.Repeat("\x5a", 2044))
	t.tlvs("ssl without anything", SSL(0, 0))
	t.tlvs("ssl with version", SSL(0x01, 0, version))
	t.tlvs("ssl without certificate", SSL(0x01, 1, version, TLV(0x23, "TLS_AES_128_GCM_SHA256")))
	t.tlvs("ssl with a certificate of the connection", SSL(0x03, 0, version, cn))
	t.tlvs("ssl with a certificate of the session", SSL(0x05, 0, version, cn))
	t.tlvs("ssl with a certificate that failed", SSL(0x07, 0xffffffff, version, cn))
	t.tlvs("ssl with all client bits", SSL(0xff, 0, version))
	t.tlvs("ssl with every subtype", SSL(0x07, 0, version, cn,
		TLV(0x23, "ECDHE-RSA-AES128-GCM-SHA256"), TLV(0x24, "RSA-SHA256"), TLV(0x25, "RSA2048"),
		TLV(0x26, "secp256r1"), TLV(0x27, "rsa_pss_rsae_sha256"),
		TLV(0x28, "\x30\x03\x02\x01\x01")))
	t.tlvs("ssl with a certificate of 2 KB", SSL(0x07, 0, version, cn, certificate))
	t.tlvs("ssl with a certificate of 2 KB between others", alpn, SSL(0x07, 0, certificate),
		TLV(0x02, "example.com"))
	t.tlvs("ssl with an empty common name", SSL(0x03, 0, TLV(0x22, "")))
	t.tlvs("ssl with the version twice", SSL(0x01, 0, version, version))
	t.tlvs("ssl with unknown subtypes",
		SSL(0x01, 0, TLV(0x29, "?"), TLV(0xff, ""), TLV(0x00, "\x00")))
	t.tlvs("ssl twice", SSL(0x01, 0, version), SSL(0x03, 0, cn))
	// What a type means at the top it doesn't mean one level below.
	t.tlvs("ssl in ssl isn't looked into",
		SSL(0x01, 0, TLV(0x20, ""), TLV(0x20, "\x01\x00\x00\x00\x00\x21\xff")))
	t.tlvs("ssl with a checksum's type below",
		SSL(0x01, 0, TLV(0x03, ""), TLV(0x03, "\x00\x00\x00\x00")))
	t.tlvs("ssl with a unique id's type below", SSL(0x01, 0, TLV(0x05, strings.Repeat("u", 129))))
	t.checksum("ssl and checksum", alpn, SSL(0x03, 0, version, cn))
	want := families[3].want
	want.TLVs = []byte(SSL(0x01, 0, version))
	t.canonical("ssl after udp6", V2(0x21, 0x22, Inet6, string(want.TLVs)), want)

	t.badTLVs("ssl empty", "five bytes", 0, TLV(0x20, ""))
	t.badTLVs("ssl of one byte", "five bytes", 0, TLV(0x20, "\x01"))
	t.badTLVs("ssl of four bytes", "five bytes", 0, TLV(0x20, "\x01\x00\x00\x00"))
	t.badTLVs("ssl of four bytes after another", "five bytes", 5, alpn,
		TLV(0x20, "\x01\x00\x00\x00"))
	t.badTLVs("ssl sub without length", "inside the SSL", 8, SSL(0x01, 0, "\x21"))
	t.badTLVs("ssl sub with half a length", "inside the SSL", 8, SSL(0x01, 0, "\x21\x00"))
	t.badTLVs("ssl sub short by one byte", "inside the SSL", 8,
		SSL(0x01, 0, TLVLen(0x21, 8, "TLSv1.3")))
	t.badTLVs("ssl sub of length 65,535", "inside the SSL", 8,
		SSL(0x01, 0, TLVLen(0x21, 65535, "TLSv1.3")))
	t.badTLVs("ssl second sub short", "inside the SSL", 18,
		SSL(0x01, 0, version, TLVLen(0x22, 1, "")))
	t.badTLVs("ssl sub without length after a sub", "inside the SSL", 18,
		SSL(0x01, 0, version, "\x22"))
	t.badTLVs("ssl sub goes on after ssl", "inside the SSL", 8,
		SSL(0x01, 0, TLVLen(0x21, 7, "TLS")), TLV(0x04, "v1.3"))
	t.badTLVs("ssl sub short after another", "inside the SSL", 26+8,
		TLV(0xe0, strings.Repeat("x", 23)), SSL(0x01, 0, TLVLen(0x21, 1, "")))
	t.badTLVs("ssl too long for the block", "longer than", 0,
		TLVLen(0x20, 16, "\x01\x00\x00\x00\x00"+version))
}
