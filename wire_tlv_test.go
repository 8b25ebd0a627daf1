package proxyproto

import (
	"fmt"
	"strings"
)

// tlvs adds a canonical header over TCP and IPv4 with these TLVs.
func (t *wireTable) tlvs(name string, tlvs ...string) {
	t.canonical(name, wireV2(0x21, 0x11, append([]string{wireInet4}, tlvs...)...),
		wireInet(V2, TCP4, "192.168.0.1:56324", "192.168.0.11:443", tlvs...))
}

// badTLVs adds a header over TCP and IPv4 with these TLVs that is refused for a rule at the offset
// behind the addresses.
func (t *wireTable) badTLVs(name, rule string, offset int, tlvs ...string) {
	t.malformed(name, wireV2(0x21, 0x11, append([]string{wireInet4}, tlvs...)...), wireTLVs4+offset, rule)
}

// checksum adds a canonical header with a right checksum between these TLVs.
func (t *wireTable) checksum(name, before, after string) {
	wire, tlvs := wireCRC(before, after)
	t.canonical(name, wire, wireInet(V2, TCP4, "192.168.0.1:56324", "192.168.0.11:443", tlvs))
}

func (t *wireTable) tlvTypes() {
	t.section = "2.2.1"
	t.tlvs("alpn h2", wireTLV(0x01, "h2"))
	t.tlvs("alpn http/1.1", wireTLV(0x01, "http/1.1"))
	t.tlvs("alpn of zeroes", wireTLV(0x01, "\x00\x00"))
	t.tlvs("alpn empty", wireTLV(0x01, ""))
	t.section = "2.2.2"
	t.tlvs("authority", wireTLV(0x02, "example.com"))
	t.tlvs("authority in UTF-8", wireTLV(0x02, "bücher.example"))
	t.tlvs("authority that isn't UTF-8", wireTLV(0x02, "\xff\xfe"))
	t.tlvs("authority empty", wireTLV(0x02, ""))
	t.tlvs("authority twice", wireTLV(0x02, "a.example"), wireTLV(0x02, "b.example"))
	t.section = "2.2.4"
	t.tlvs("noop", wireTLV(0x04, "\x00"))
	t.tlvs("noop of three bytes in all", wireTLV(0x04, ""))
	t.tlvs("noop of any bytes", wireTLV(0x04, "\x04\xff\xff\xff"))
	t.tlvs("noop around others", wireTLV(0x04, "\x00\x00"), wireTLV(0x01, "h2"), wireTLV(0x04, ""))
	t.section = "2.2.5"
	t.tlvs("unique id", wireTLV(0x05, "\x01\x02\x03\x04\x05\x06\x07\x08"))
	t.tlvs("unique id empty", wireTLV(0x05, ""))
	t.tlvs("unique id of 128 bytes", wireTLV(0x05, strings.Repeat("u", 128)))
	t.badTLVs("unique id of 129 bytes", "128 bytes", 0, wireTLV(0x05, strings.Repeat("u", 129)))
	t.badTLVs("unique id of 256 bytes", "128 bytes", 0, wireTLV(0x05, strings.Repeat("u", 256)))
	t.badTLVs("unique id of 129 bytes behind another TLV", "128 bytes", 5, wireTLV(0x01, "h2"), wireTLV(0x05, strings.Repeat("u", 129)))
	t.section = "2.2.7"
	t.tlvs("network namespace", wireTLV(0x30, "blue"))
	t.tlvs("network namespace empty", wireTLV(0x30, ""))
	t.section = "2.2.8"
	for _, typ := range []byte{0xe0, 0xef, 0xf0, 0xf7, 0xf8, 0xff} {
		t.tlvs(fmt.Sprintf("reserved type %#x", typ), wireTLV(typ, "value"))
	}
	t.section = "2.2"
	for _, typ := range []byte{0x00, 0x06, 0x1f, 0x21, 0x28, 0x29, 0x31, 0x7f, 0x80, 0xdf} {
		t.tlvs(fmt.Sprintf("type %#02x", typ), wireTLV(typ, "\x00\x05"))
	}
	t.tlvs("type 0x00, empty", wireTLV(0x00, ""))
	t.tlvs("all at once", wireTLV(0x30, "ns"), wireTLV(0x05, "id"), wireTLV(0xff, ""), wireTLV(0x02, "example.com"), wireTLV(0x01, "h2"), wireTLV(0x04, "\x00"))
	t.tlvs("value of 255 bytes", wireTLV(0xe1, strings.Repeat("v", 255)))
	t.tlvs("value of 256 bytes", wireTLV(0xe1, strings.Repeat("v", 256)))
	for _, f := range wireFamilies {
		want := f.want
		want.TLVs = TLVs(wireTLV(0x01, "h2") + wireTLV(0xe0, ""))
		t.canonical("TLVs behind "+f.name, wireV2(0x21, f.fam, f.addr, string(want.TLVs)), want)
		t.canonicalBefore("\x01\x00\x02h2", "TLVs and payload behind "+f.name, wireV2(0x21, f.fam, f.addr, string(want.TLVs)), want)
	}
}

func (t *wireTable) tlvFraming() {
	t.section = "2.2"
	alpn := wireTLV(0x01, "h2")
	t.badTLVs("no length", "three bytes", 0, "\x01")
	t.badTLVs("half a length", "three bytes", 0, "\x01\x00")
	t.badTLVs("no length behind a TLV", "three bytes", 5, alpn, "\x04")
	t.badTLVs("half a length behind a TLV", "three bytes", 5, alpn, "\x04\x00")
	t.badTLVs("no length behind two TLVs", "three bytes", 10, alpn, alpn, "\xff")
	t.badTLVs("value short by one byte", "longer than", 0, wireTLVLen(0x01, 3, "h2"))
	t.badTLVs("value short by 256 bytes", "longer than", 0, wireTLVLen(0x01, 258, "h2"))
	t.badTLVs("no value", "longer than", 0, wireTLVLen(0xe0, 1, ""))
	t.badTLVs("length 65,535", "longer than", 0, wireTLVLen(0x04, 65535, "\x00"))
	t.badTLVs("second value short", "longer than", 5, alpn, wireTLVLen(0x02, 12, "example.com"))
	t.badTLVs("third value short", "longer than", 8, alpn, wireTLV(0x04, ""), wireTLVLen(0x05, 1, ""))
	t.badTLVs("value leaves one byte", "three bytes", 5, wireTLVLen(0x01, 2, "h2\x00"))
	t.badTLVs("value leaves two bytes", "three bytes", 4, wireTLVLen(0x01, 1, "h2\x00"))
	t.badTLVs("length in the wrong byte order", "longer than", 0, "\x01\x02\x00h2")
	// Bytes that follow the block are payload, even where a TLV could use them.
	t.malformed("value goes on behind the block", wireV2Len(0x21, 0x11, 12+4, wireInet4, alpn), wireTLVs4)
	t.malformed("length goes on behind the block", wireV2Len(0x21, 0x11, 12+2, wireInet4, alpn), wireTLVs4)
	t.malformed("tcp6 value short", wireV2(0x21, 0x21, wireInet6, wireTLVLen(0x01, 3, "h2")), wireTLVs6)
	t.malformed("unix value short", wireV2(0x21, 0x31, wireUnix("a", "b"), wireTLVLen(0x01, 3, "h2")), wireTLVsUnix)
}

func (t *wireTable) tlvCRC32C() {
	t.section = "2.2.3"
	alpn, authority := wireTLV(0x01, "h2"), wireTLV(0x02, "example.com")
	t.checksum("checksum alone", "", "")
	t.checksum("checksum first", "", alpn)
	t.checksum("checksum in the middle", authority, alpn)
	t.checksum("checksum last", authority+alpn, "")
	t.checksum("checksum before padding", alpn, wireTLV(0x04, strings.Repeat("\x00", 64)))

	for _, f := range wireFamilies {
		wire := wireSum(wireV2(0x21, f.fam, f.addr, wireTLV(0x03, "\x00\x00\x00\x00")), 16+len(f.addr)+3)
		want := f.want
		want.TLVs = TLVs(wire[16+len(f.addr):])
		t.canonicalBefore("payload isn't summed", "checksum of "+f.name+" before payload", wire, want)
	}

	right, _ := wireCRC(alpn, authority)
	at := wireTLVs4 + len(alpn)
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
	t.malformed("checksum of another value behind", flipped(len(right)-1), at)
	t.malformed("checksum of another family", strings.Replace(right, "\x21\x11", "\x21\x12", 1), at)
	t.malformed("checksum zero", wireV2(0x21, 0x11, wireInet4, wireTLV(0x03, "\x00\x00\x00\x00")), wireTLVs4, "CRC32C is wrong")
	alone, _ := wireCRC("", "")
	t.malformed("checksum in the wrong byte order", alone[:31]+string([]byte{alone[34], alone[33], alone[32], alone[31]}), wireTLVs4)
	t.malformed("checksum includes the payload", wireSum(alone+"payload", wireTLVs4+3), wireTLVs4)
	t.malformed("checksum wrong before payload", alone[:34]+string([]byte{^alone[34]})+"payload", wireTLVs4)

	t.badTLVs("checksum empty", "four bytes", 0, wireTLV(0x03, ""))
	t.badTLVs("checksum of three bytes", "four bytes", 0, wireTLV(0x03, "\x00\x00\x00"))
	t.badTLVs("checksum of five bytes", "four bytes", 0, wireTLV(0x03, "\x00\x00\x00\x00\x00"))
	t.badTLVs("checksum of 260 bytes", "four bytes", 5, alpn, wireTLV(0x03, strings.Repeat("\x00", 260)))
	t.badTLVs("checksum twice", "only one", 7, wireTLV(0x03, "\x00\x00\x00\x00"), wireTLV(0x03, "\x00\x00\x00\x00"))
	t.badTLVs("checksum twice, apart", "only one", 12, wireTLV(0x03, "\x00\x00\x00\x00"), alpn, wireTLV(0x03, "\x00\x00\x00\x00"))
}

func (t *wireTable) tlvSSL() {
	t.section = "2.2.6"
	alpn := wireTLV(0x01, "h2")
	version, cn := wireTLV(0x21, "TLSv1.3"), wireTLV(0x22, "example.com")
	certificate := wireTLV(0x28, "\x30\x82\x07\xfc"+strings.Repeat("\x5a", 2044))
	t.tlvs("ssl without anything", wireSSL(0, 0))
	t.tlvs("ssl with version", wireSSL(0x01, 0, version))
	t.tlvs("ssl without certificate", wireSSL(0x01, 1, version, wireTLV(0x23, "TLS_AES_128_GCM_SHA256")))
	t.tlvs("ssl with a certificate of the connection", wireSSL(0x03, 0, version, cn))
	t.tlvs("ssl with a certificate of the session", wireSSL(0x05, 0, version, cn))
	t.tlvs("ssl with a certificate that failed", wireSSL(0x07, 0xffffffff, version, cn))
	t.tlvs("ssl with all client bits", wireSSL(0xff, 0, version))
	t.tlvs("ssl with every subtype", wireSSL(0x07, 0, version, cn, wireTLV(0x23, "ECDHE-RSA-AES128-GCM-SHA256"), wireTLV(0x24, "RSA-SHA256"),
		wireTLV(0x25, "RSA2048"), wireTLV(0x26, "secp256r1"), wireTLV(0x27, "rsa_pss_rsae_sha256"), wireTLV(0x28, "\x30\x03\x02\x01\x01")))
	t.tlvs("ssl with a certificate of 2 KB", wireSSL(0x07, 0, version, cn, certificate))
	t.tlvs("ssl with a certificate of 2 KB between others", alpn, wireSSL(0x07, 0, certificate), wireTLV(0x02, "example.com"))
	t.tlvs("ssl with an empty common name", wireSSL(0x03, 0, wireTLV(0x22, "")))
	t.tlvs("ssl with the version twice", wireSSL(0x01, 0, version, version))
	t.tlvs("ssl with unknown subtypes", wireSSL(0x01, 0, wireTLV(0x29, "?"), wireTLV(0xff, ""), wireTLV(0x00, "\x00")))
	t.tlvs("ssl twice", wireSSL(0x01, 0, version), wireSSL(0x03, 0, cn))
	// What a type means at the top it doesn't mean one level below.
	t.tlvs("ssl in ssl isn't looked into", wireSSL(0x01, 0, wireTLV(0x20, ""), wireTLV(0x20, "\x01\x00\x00\x00\x00\x21\xff")))
	t.tlvs("ssl with a checksum's type below", wireSSL(0x01, 0, wireTLV(0x03, ""), wireTLV(0x03, "\x00\x00\x00\x00")))
	t.tlvs("ssl with a unique id's type below", wireSSL(0x01, 0, wireTLV(0x05, strings.Repeat("u", 129))))
	t.checksum("ssl and checksum", alpn, wireSSL(0x03, 0, version, cn))
	want := wireFamilies[3].want
	want.TLVs = TLVs(wireSSL(0x01, 0, version))
	t.canonical("ssl behind udp6", wireV2(0x21, 0x22, wireInet6, string(want.TLVs)), want)

	t.badTLVs("ssl empty", "five bytes", 0, wireTLV(0x20, ""))
	t.badTLVs("ssl of one byte", "five bytes", 0, wireTLV(0x20, "\x01"))
	t.badTLVs("ssl of four bytes", "five bytes", 0, wireTLV(0x20, "\x01\x00\x00\x00"))
	t.badTLVs("ssl of four bytes behind another", "five bytes", 5, alpn, wireTLV(0x20, "\x01\x00\x00\x00"))
	t.badTLVs("ssl sub without length", "inside the SSL", 8, wireSSL(0x01, 0, "\x21"))
	t.badTLVs("ssl sub with half a length", "inside the SSL", 8, wireSSL(0x01, 0, "\x21\x00"))
	t.badTLVs("ssl sub short by one byte", "inside the SSL", 8, wireSSL(0x01, 0, wireTLVLen(0x21, 8, "TLSv1.3")))
	t.badTLVs("ssl sub of length 65,535", "inside the SSL", 8, wireSSL(0x01, 0, wireTLVLen(0x21, 65535, "TLSv1.3")))
	t.badTLVs("ssl second sub short", "inside the SSL", 18, wireSSL(0x01, 0, version, wireTLVLen(0x22, 1, "")))
	t.badTLVs("ssl sub without length behind a sub", "inside the SSL", 18, wireSSL(0x01, 0, version, "\x22"))
	t.badTLVs("ssl sub goes on behind ssl", "inside the SSL", 8, wireSSL(0x01, 0, wireTLVLen(0x21, 7, "TLS")), wireTLV(0x04, "v1.3"))
	t.badTLVs("ssl sub short behind another", "inside the SSL", 26+8, wireTLV(0xe0, strings.Repeat("x", 23)), wireSSL(0x01, 0, wireTLVLen(0x21, 1, "")))
	t.badTLVs("ssl too long for the block", "longer than", 0, wireTLVLen(0x20, 16, "\x01\x00\x00\x00\x00"+version))
}

// realLife has headers as load balancers and proxies are known to send them.
func (t *wireTable) realLife() {
	t.section = "3"
	local := Header{Version: V2, Command: Local}
	tcp4 := func(source, destination string, tlvs ...string) Header {
		return wireInet(V2, TCP4, source, destination, tlvs...)
	}

	// An AWS network load balancer's health check says IPv4 and has TLVs where the addresses would be.
	aws := wireV2(0x20, 0x11, wireTLV(0x03, "\xbc\xe5\x95\x1f"), wireTLV(0x04, strings.Repeat("\x00", 0x4a)))
	t.accept("aws health check", aws, local)
	t.acceptBefore("GET /healthz HTTP/1.1\r\n\r\n", "aws health check before http", aws, local)
	// Only the command tells that: its bytes would make addresses and empty TLVs of type 0.
	t.canonical("aws health check as a proxied connection", strings.Replace(aws, "\x20\x11", "\x21\x11", 1),
		tcp4("3.0.4.188:74", "229.149.31.4:0", strings.Repeat(wireTLV(0x00, ""), 24)))

	const endpoints = "\x0a\x00\x01\x0a" + "\x0a\x00\x02\x14" + "\xc3\x50" + "\x01\xbb" // 10.0.1.10:50000 to 10.0.2.20:443
	summed := func(name, tlvs string, at int) {
		wire := wireSum(wireV2(0x21, 0x11, endpoints, tlvs), wireTLVs4+at+3)
		t.canonical(name, wire, tcp4("10.0.1.10:50000", "10.0.2.20:443", wire[wireTLVs4:]))
	}
	crc := wireTLV(0x03, "\x00\x00\x00\x00")
	summed("aws network load balancer", crc+wireTLV(0x04, strings.Repeat("\x00", 0x3e)), 0)
	summed("aws vpc endpoint", crc+wireTLV(0xea, "\x01vpce-0123456789abcdef0")+wireTLV(0x04, strings.Repeat("\x00", 37)), 0)

	azure := wireTLV(0xee, "\x01\x11\x22\x33\x44") // subtype, then the link identifier in little-endian order
	t.canonical("azure private link", wireV2(0x21, 0x11, endpoints, azure), tcp4("10.0.1.10:50000", "10.0.2.20:443", azure))
	google := wireTLV(0xe0, "\x00\x12\x34\x56\x78\x9a\xbc\xde") // connection identifier in big-endian order
	t.canonical("google private service connect", wireV2(0x21, 0x11, endpoints, google), tcp4("10.0.1.10:50000", "10.0.2.20:443", google))

	ssl := wireSSL(0x07, 0, wireTLV(0x21, "TLSv1.3"), wireTLV(0x22, "client.example.com"), wireTLV(0x25, "RSA2048"), wireTLV(0x24, "RSA-SHA256"), wireTLV(0x23, "TLS_AES_256_GCM_SHA384"))
	summed("haproxy with everything", crc+wireTLV(0x01, "h2")+wireTLV(0x02, "www.example.com")+wireTLV(0x05, "0A00010A:C350_0A000214:01BB_5F3E:0001")+ssl+wireTLV(0x30, "blue"), 0)
	// As HAProxy 2.6 has sent it, its own checksum included.
	const captured = "\x77\x39\x13\x2c"
	tls := wireTLV(0x03, captured) + wireTLV(0x01, "h2") + wireTLV(0x02, "www.example") + wireTLV(0x05, "7F000001:B390") +
		wireSSL(0x01, 0, wireTLV(0x21, "TLSv1.3"), wireTLV(0x25, "RSA2048"), wireTLV(0x24, "RSA-SHA256"), wireTLV(0x23, "TLS_AES_256_GCM_SHA384"))
	t.canonical("haproxy tls frontend", wireV2(0x21, 0x11, "\x7f\x00\x00\x01\x7f\x00\x00\x01\xb3\x90\x47\x19", tls), tcp4("127.0.0.1:45968", "127.0.0.1:18201", tls))
	t.accept("haproxy health check with checksum", wireV2(0x20, 0x00, wireTLV(0x03, "\xa9\xb8\x7e\x8f")), local)
	selfSigned := wireSSL(0x07, 18, wireTLV(0x21, "TLSv1.3"), wireTLV(0x22, "client\u00e9.example"))
	t.canonical("haproxy client certificate that isn't trusted", wireV2(0x21, 0x11, endpoints, selfSigned), tcp4("10.0.1.10:50000", "10.0.2.20:443", selfSigned))
	cleartext := wireSSL(0x00, 0)
	t.canonical("haproxy send-proxy-v2-ssl without tls", wireV2(0x21, 0x11, endpoints, cleartext), tcp4("10.0.1.10:50000", "10.0.2.20:443", cleartext))
	const mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff"
	t.canonical("haproxy on a dual-stack socket", wireV2(0x21, 0x21, mapped+"\x7f\x00\x00\x01"+mapped+"\x7f\x00\x00\x01"+"\xa3\x2c\x47\x1f"), wireInet(V2, TCP6, "[::ffff:127.0.0.1]:41772", "[::ffff:127.0.0.1]:18207"))
	alibaba := wireTLV(0xe1, "\x01vpc-0123456789abcdefghijk") + wireTLV(0xe1, "\x02ep-0123456789abcdefghij") + wireTLV(0xe1, "\x03epsrv-0123456789abcdefg")
	t.canonical("alibaba cloud, a type thrice", wireV2(0x21, 0x11, endpoints, alibaba), tcp4("10.0.1.10:50000", "10.0.2.20:443", alibaba))

	t.canonical("haproxy send-proxy-v2", wireV2(0x21, 0x11, endpoints), tcp4("10.0.1.10:50000", "10.0.2.20:443"))
	t.canonical("haproxy send-proxy", "PROXY TCP4 10.0.1.10 10.0.2.20 50000 443\r\n", wireInet(V1, TCP4, "10.0.1.10:50000", "10.0.2.20:443"))
	t.canonical("nginx on a dual-stack socket", "PROXY TCP6 ::ffff:10.0.1.10 ::ffff:10.0.2.20 50000 443\r\n", wireInet(V1, TCP6, "[::ffff:10.0.1.10]:50000", "[::ffff:10.0.2.20]:443"))
	t.canonicalBefore("\x16\x03\x01", "nginx stream unix client", "PROXY UNKNOWN\r\n", wireUnknown)
	t.canonicalBefore("SSH-2.0-OpenSSH_9.6\r\n", "ssh client behind a proxy", "PROXY TCP4 10.0.1.10 10.0.2.20 50000 22\r\n", wireInet(V1, TCP4, "10.0.1.10:50000", "10.0.2.20:22"))
}
