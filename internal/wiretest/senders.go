package wiretest

import (
	"encoding/binary"
	"fmt"
	"strings"
)

const endpoints = "\x0a\x00\x01\x0a" + "\x0a\x00\x02\x14" + "\xc3\x50" + "\x01\xbb"

// named is the header of a TCP connection over IPv4, and between is one of those endpoints.
func named(source, destination string, tlvs ...string) Header {
	return inet(2, tcp4, source, destination, tlvs...)
}

func between(tlvs ...string) Header { return named("10.0.1.10:50000", "10.0.2.20:443", tlvs...) }

// senders has headers as load balancers and proxies are known to send them.
func (t *table) senders() {
	t.section = "3"
	t.clouds()
	t.haproxy()
	t.nginx()
	t.goProxies()
	t.origin = "an SSH client behind a proxy"
	t.canonicalBefore("SSH-2.0-OpenSSH_9.6\r\n", "ssh client after a proxy",
		"PROXY TCP4 10.0.1.10 10.0.2.20 50000 22\r\n",
		inet(1, tcp4, "10.0.1.10:50000", "10.0.2.20:22"))
	t.origin = ""
}

// summed adds a header with a right checksum, whose TLV is the first.
func (t *table) summed(name, tlvs string) {
	wire := Sum(V2(0x21, 0x11, endpoints, TLV(0x03, "\x00\x00\x00\x00"), tlvs), TLVs4+3)
	t.canonical(name, wire, between(wire[TLVs4:]))
}

func (t *table) clouds() {
	local := Header{Version: 2, Command: Local}

	// The health check says IPv4 and has TLVs where the addresses would be.
	t.origin = "AWS network load balancer"
	aws := V2(0x20, 0x11, TLV(0x03, "\xbc\xe5\x95\x1f"), TLV(0x04, strings.Repeat("\x00", 0x4a)))
	t.accept("aws health check", aws, local)
	t.acceptBefore("GET /healthz HTTP/1.1\r\n\r\n", "aws health check before http", aws, local)
	// Only the command tells that: its bytes would make addresses and empty TLVs of type 0.
	t.canonical("aws health check as a proxied connection",
		strings.Replace(aws, "\x20\x11", "\x21\x11", 1),
		named("3.0.4.188:74", "229.149.31.4:0", strings.Repeat(TLV(0x00, ""), 24)))
	t.summed("aws network load balancer", TLV(0x04, strings.Repeat("\x00", 0x3e)))
	t.summed("aws vpc endpoint",
		TLV(0xea, "\x01vpce-0123456789abcdef0")+TLV(0x04, strings.Repeat("\x00", 37)))

	t.origin = "Azure Private Link" // a subtype, then the link identifier in little-endian order
	azure := TLV(0xee, "\x01\x11\x22\x33\x44")
	t.canonical("azure private link", V2(0x21, 0x11, endpoints, azure), between(azure))

	t.origin = "Google Private Service Connect" // a connection identifier in big-endian order
	google := TLV(0xe0, "\x00\x12\x34\x56\x78\x9a\xbc\xde")
	t.canonical("google private service connect", V2(0x21, 0x11, endpoints, google),
		between(google))

	t.origin = "Alibaba Cloud"
	alibaba := TLV(0xe1, "\x01vpc-0123456789abcdefghijk") +
		TLV(0xe1, "\x02ep-0123456789abcdefghij") + TLV(0xe1, "\x03epsrv-0123456789abcdefg")
	t.canonical("alibaba cloud, a type thrice", V2(0x21, 0x11, endpoints, alibaba),
		between(alibaba))
}

func (t *table) haproxy() {
	t.origin = "HAProxy"
	version, key, sig := TLV(0x21, "TLSv1.3"), TLV(0x25, "RSA2048"), TLV(0x24, "RSA-SHA256")
	cipher := TLV(0x23, "TLS_AES_256_GCM_SHA384")
	t.summed("haproxy with everything", TLV(0x01, "h2")+TLV(0x02, "www.example.com")+
		TLV(0x05, "0A00010A:C350_0A000214:01BB_5F3E:0001")+
		SSL(0x07, 0, version, TLV(0x22, "client.example.com"), key, sig, cipher)+
		TLV(0x30, "blue"))
	selfSigned := SSL(0x07, 18, version, TLV(0x22, "client\u00e9.example"))
	t.canonical("haproxy client certificate that isn't trusted",
		V2(0x21, 0x11, endpoints, selfSigned), between(selfSigned))
	cleartext := SSL(0x00, 0)
	t.canonical("haproxy send-proxy-v2-ssl without tls", V2(0x21, 0x11, endpoints, cleartext),
		between(cleartext))
	t.canonical("haproxy send-proxy-v2", V2(0x21, 0x11, endpoints), between())
	t.canonical("haproxy send-proxy", "PROXY TCP4 10.0.1.10 10.0.2.20 50000 443\r\n",
		inet(1, tcp4, "10.0.1.10:50000", "10.0.2.20:443"))

	// As it has sent them, its own checksum included.
	t.origin = "HAProxy 2.6.12"
	tls := TLV(0x03, "\x77\x39\x13\x2c") + TLV(0x01, "h2") + TLV(0x02, "www.example") +
		TLV(0x05, "7F000001:B390") + SSL(0x01, 0, version, key, sig, cipher)
	t.canonical("haproxy tls frontend",
		V2(0x21, 0x11, "\x7f\x00\x00\x01\x7f\x00\x00\x01\xb3\x90\x47\x19", tls),
		named("127.0.0.1:45968", "127.0.0.1:18201", tls))
	t.accept("haproxy health check with checksum", V2(0x20, 0x00, TLV(0x03, "\xa9\xb8\x7e\x8f")),
		Header{Version: 2, Command: Local})
	const mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff"
	t.canonical("haproxy on a dual-stack socket",
		V2(0x21, 0x21, mapped+"\x7f\x00\x00\x01"+mapped+"\x7f\x00\x00\x01"+"\xa3\x2c\x47\x1f"),
		inet(2, tcp6, "[::ffff:127.0.0.1]:41772", "[::ffff:127.0.0.1]:18207"))
}

func (t *table) nginx() {
	t.origin = "nginx"
	t.canonical("nginx on a dual-stack socket",
		"PROXY TCP6 ::ffff:10.0.1.10 ::ffff:10.0.2.20 50000 443\r\n",
		inet(1, tcp6, "[::ffff:10.0.1.10]:50000", "[::ffff:10.0.2.20]:443"))
	t.canonicalBefore("\x16\x03\x01", "nginx stream unix client", "PROXY UNKNOWN\r\n", unknown)

	t.nginxV2()
	t.nginxV2TLS()
}

// nginxV2 has what nginx sends with "proxy_protocol v2", as it has sent it, checksums included.
func (t *table) nginxV2() {
	const (
		mapped    = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff"
		loopback6 = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
		own       = "\x7f\x49\xfa\x37" // 127.73.250.55
	)
	client6 := "\x20\x01\x0d\xb8" + loopback6[4:]
	crc := func(value string) string { return TLV(0x03, value) }

	t.origin = "nginx 1.31.4, captured"
	sum := crc("\x31\x73\x8e\x49")
	t.canonical("nginx v2, ipv4", V2(0x21, 0x11, "\x7f\x00\x00\x01", own, "\xee\x3e\x9d\xcf", sum),
		named("127.0.0.1:60990", "127.73.250.55:40399", sum))
	sum = crc("\xd1\x54\x54\xc4")
	t.canonical("nginx v2, ipv6", V2(0x21, 0x21, loopback6, loopback6, "\xdf\x0a\xa1\x63", sum),
		inet(2, tcp6, "[::1]:57098", "[::1]:41315", sum))
	sum = crc("\x7f\xe2\x1e\x58") // version 1 has IPv4-mapped addresses there
	t.canonical("nginx v2, ipv4 on a dual-stack socket",
		V2(0x21, 0x11, "\x7f\x00\x00\x01", own, "\xa0\x2e\xa0\x07", sum),
		named("127.0.0.1:41006", "127.73.250.55:40967", sum))
	sum = crc("\x9c\xc8\x40\x45")
	t.canonical("nginx v2, realip, ipv6 client on an ipv4 listener",
		V2(0x21, 0x21, client6, mapped, own, "\xc9\x38\x8c\x0b", sum),
		inet(2, tcp6, "[2001:db8::1]:51512", "[::ffff:127.73.250.55]:35851", sum))
	sum = crc("\x89\x22\x51\x72")
	t.canonical("nginx v2, realip, ipv4 client on an ipv6 listener",
		V2(0x21, 0x21, mapped, "\xc0\x00\x02\x07", loopback6, "\xc9\x38\x93\x1f", sum),
		inet(2, tcp6, "[::ffff:192.0.2.7]:51512", "[::1]:37663", sum))
	// The client's address isn't in it, even where realip has told nginx.
	t.accept("nginx v2, unix listener", V2(0x20, 0x00, crc("\xa9\xb8\x7e\x8f")),
		Header{Version: 2, Command: Local})
	sum = crc("\x0e\x81\xe0\xac")
	t.canonicalBefore("one", "nginx v2, a client's first datagram",
		V2(0x21, 0x12, "\x7f\x00\x00\x01", own, "\xe6\x35\x82\xc3", sum),
		inet(2, udp4, "127.0.0.1:58933", "127.73.250.55:33475", sum))
}

// nginxV2TLS has what it says of TLS: the algorithms are those of its own certificate.
func (t *table) nginxV2TLS() {
	say := func(name string, ports [2]uint16, sum string, tlvs ...string) {
		tlvs = append(tlvs, TLV(0x03, sum))
		b := []byte("\x7f\x00\x00\x01\x7f\x49\xfa\x37")
		b = binary.BigEndian.AppendUint16(b, ports[0])
		b = binary.BigEndian.AppendUint16(b, ports[1])
		t.canonical(name, V2(0x21, 0x11, string(b), strings.Join(tlvs, "")),
			named(fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.73.250.55:%d", ports[1]),
				tlvs...))
	}
	authority, alpn := TLV(0x02, "server.interop.test"), TLV(0x01, "h2")
	v12, v13 := TLV(0x21, "TLSv1.2"), TLV(0x21, "TLSv1.3")
	rsa := TLV(0x23, "ECDHE-RSA-AES128-GCM-SHA256") + TLV(0x24, "RSA-SHA256") + TLV(0x25, "RSA2048")
	cipher := TLV(0x23, "TLS_AES_128_GCM_SHA256")
	ec := cipher + TLV(0x24, "ecdsa-with-SHA256") + TLV(0x25, "EC256")

	t.origin = "nginx 1.31.4, captured"
	say("nginx v2, tls 1.2, no client certificate: verify is 1", [2]uint16{0x9028, 0xb635},
		"\x9b\x25\x14\xb3", authority, alpn, SSL(0x01, 1, v12, rsa))
	say("nginx v2, tls 1.3, neither a name nor a protocol", [2]uint16{0x8428, 0x8b5b},
		"\x9c\xbc\xc2\x8d", SSL(0x01, 1, v13, ec))
	say("nginx v2, a client certificate", [2]uint16{0x93f8, 0x9559},
		"\x85\x31\x0d\x45", authority, alpn, SSL(0x07, 0, v13, TLV(0x22, "alice"), ec))
	say("nginx v2, a client certificate without a name", [2]uint16{0x832e, 0xa911},
		"\x76\xf9\xc2\x6e", authority, alpn, SSL(0x07, 0, v13, ec))
	say("nginx v2, a client certificate that isn't trusted", [2]uint16{0xa9b2, 0x87ed},
		"\xe6\x47\xc4\x8d", authority, alpn, SSL(0x07, 21, v12, TLV(0x22, "mallory"), rsa))
	say("nginx v2, a client's name that was a BMPString", [2]uint16{0xcb16, 0xabcf},
		"\x52\x82\x97\xeb", authority, alpn, SSL(0x07, 0, v13, TLV(0x22, "牯潴"), ec))
	say("nginx v2, a resumed session", [2]uint16{0xc93c, 0xacc9},
		"\xd9\x8b\xd0\xb2", authority, SSL(0x05, 0, v13, TLV(0x22, "alice"), ec))
	say("nginx v2, with an ed25519 key", [2]uint16{0xadca, 0xa78f},
		"\xcd\x19\x9f\x5d", authority, alpn, SSL(0x01, 1, v13, cipher, TLV(0x24, "ED25519")))
}

// goProxies has headers of proxies that are written in Go: Caddy says neither the ports nor the
// destination.
func (t *table) goProxies() {
	const zeros = "\x00\x00\x00\x00"
	loopback6 := strings.Repeat("\x00", 15) + "\x01"
	t.origin = "Caddy 2.11.9"
	t.canonical("caddy v1", "PROXY TCP4 127.0.0.1 0.0.0.0 0 0\r\n",
		inet(1, tcp4, "127.0.0.1:0", "0.0.0.0:0"))
	t.canonical("caddy v1, ipv6", "PROXY TCP6 ::1 :: 0 0\r\n", inet(1, tcp6, "[::1]:0", "[::]:0"))
	t.canonical("caddy v2", V2(0x21, 0x11, "\x7f\x00\x00\x01", zeros, zeros),
		named("127.0.0.1:0", "0.0.0.0:0"))
	t.canonical("caddy v2, ipv6",
		V2(0x21, 0x21, loopback6, strings.Repeat("\x00", 16), zeros),
		inet(2, tcp6, "[::1]:0", "[::]:0"))
	t.origin = "Traefik 3.7.13"
	t.canonical("traefik v1", "PROXY TCP4 127.0.0.1 127.0.0.1 53816 8082\r\n",
		inet(1, tcp4, "127.0.0.1:53816", "127.0.0.1:8082"))
}
