package wiretest

import "strings"

// suites has what the tests of other implementations send, where our own rows don't have it yet.
// They are facts about bytes. Where such a suite expects something else than the table the row's
// Choice says what the spec leaves open.
func (t *table) suites() {
	t.section = "3"
	t.haproxyRegTests()
	t.nginxTests()
	t.libproxyprotocol()
	t.netty()
	t.proftpd()
	t.undertowV1()
	t.undertowV2()
	t.origin = ""
}

func (t *table) haproxyRegTests() {
	t.origin = "HAProxy reg-tests/connection/proxy_protocol_tlv_validation.vtc"
	const local = "\x7f\x00\x00\x01\x7f\x00\x00\x01\x00\x2a\x05\x39" // 127.0.0.1:42 to port 1337
	want := func(tlvs ...string) Header {
		return named("127.0.0.1:42", "127.0.0.1:1337", tlvs...)
	}
	authority := TLV(0x02, "12345")
	t.canonical("an authority", V2(0x21, 0x11, local, authority), want(authority))
	t.canonicalBefore(TLV(0x02, "54321"), "an authority after the header",
		V2(0x21, 0x11, local, authority), want(authority))
	t.malformed("an authority longer than the header",
		V2Len(0x21, 0x11, 20, local, TLV(0x02, "1234512345")), TLVs4, "longer than")
	t.malformed("an authority that leaves a byte",
		V2Len(0x21, 0x11, 20, local, TLV(0x02, "1234"), "GET / HTTP/1.1\r\n"),
		TLVs4+7, "type and length")

	t.origin = "HAProxy reg-tests/connection/proxy_protocol_tlv_embedded_nul.vtc"
	three := func(value string) string {
		return TLV(0x02, value) + TLV(0x05, value) + TLV(0xe1, value)
	}
	plain, withNUL := three("public")+SSL(0, 0), three("public\x00x")
	t.canonical("three values and ssl", V2(0x21, 0x11, local, plain), want(plain))
	t.canonical("three values with a zero byte", V2(0x21, 0x11, local, withNUL), want(withNUL))
}

func (t *table) nginxTests() {
	t.origin = "nginx-tests proxy_protocol2.t"
	const addresses = "\xc0\x00\x02\x01\xc0\x00\x02\x02\x00\x7b\x16\x2e"
	want := named("192.0.2.1:123", "192.0.2.2:5678")
	t.canonical("tcp4 of the documentation's network", V2(0x21, 0x11, addresses), want)
	const prefix = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	t.canonical("tcp6 of the documentation's network",
		V2(0x21, 0x21, prefix+"\x01", prefix+"\x02", "\x00\x7b\x16\x2e"),
		inet(2, tcp6, "[2001:db8::1]:123", "[2001:db8::2]:5678"))
	want.TLVs = []byte(strings.Repeat("\x00", 9))
	t.canonical("nine zero bytes as TLVs", V2(0x21, 0x11, addresses, string(want.TLVs)), want)
	t.canonicalBefore("GET /t1 HTTP/1.0\r\nHost: localhost\r\n\r\n", "stream without a family",
		V2(0x21, 0x01), Header{Version: 2, Command: Proxy, Protocol: 0x01})
	t.malformed("a family of 4", V2(0x21, 0x41, "\x01\x02\x03\x04"), 13, "family")
}

func (t *table) libproxyprotocol() {
	t.origin = "libproxyprotocol tests/test.c"
	// The bytes are Amazon's own: aws/elastic-load-balancing-tools has them too.
	tlvs := TLV(0x03, "\xe8\xd6\x89\x2d") + TLV(0xea, "\x01vpce-08d2bf15fac5001c9") +
		TLV(0x04, strings.Repeat("\x00", 36))
	const addresses = "\xac\x1f\x07\x71\xac\x1f\x0a\x1f\xc8\xf2\x00\x50"
	t.canonical("aws vpc endpoint, as captured", V2(0x21, 0x11, addresses, tlvs),
		named("172.31.7.113:51442", "172.31.10.31:80", tlvs))
	block := Unix("/tmp/testsocket1.socket", "/tmp/testsocket2.socket")
	t.canonical("unix", V2(0x21, 0x31, block), unixHeader(unixStream, block))
}

func (t *table) netty() {
	t.origin = "Netty HAProxyMessageDecoderTest"
	const source = "2001:0db8:85a3:0000:0000:8a2e:0370:7334"
	const destination = "1050:0:0:0:5:600:300c:326b"
	t.accept("tcp6 with leading zeros",
		"PROXY TCP6 "+source+" "+destination+" 56324 443\r\n",
		inet(1, tcp6, "["+source+"]:56324", "["+destination+"]:443"))
	t.line("invalid ipv6",
		"PROXY TCP6 ¦r001:0db8:85a3:0000:0000:8a2e:0370:7334 "+destination+" 56324 443\r\n")
	t.line("invalid ipv4", "PROXY TCP4 299¦.168.0.1 192.168.0.11 56324 443\r\n")
	t.line("invalid protocol", "PROXY TCP¦7 192.168.0.1 192.168.0.11 56324 443\r\n")
	t.line("invalid port", "PROXY TCP4 192.168.0.1 192.168.0.11 8000¦0 443\r\n")
	t.line("missing params", "PROXY TCP4 192.168.0.1 192.168.0.11 56324¦\r\n")
	t.line("too many params", "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443¦ 123\r\n")
	t.noHeader("invalid command", "PING TCP4 192.168.0.1 192.168.0.11 56324 443\r\n")
	t.line("invalid end of line",
		"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443¦\nGET / HTTP/1.1\r\n")
	t.line("header too long", "PROXY TCP4 192.168.0.1 192.168.0.11 56324 0¦"+
		strings.Repeat("0", 64)+"443\r\n")
	t.incomplete("incomplete header", "PROXY TCP4 192.168.0.1 192.168.0.11 56324")
	block := Unix("/var/run/src.sock", "/var/run/dest.sock")
	t.canonical("unix", V2(0x21, 0x31, block), unixHeader(unixStream, block))
	t.canonical("unix with a TLV", V2(0x21, 0x31, block, TLV(0x01, "\x01")),
		unixHeader(unixStream, block, TLV(0x01, "\x01")))
	t.accept("local with addresses", V2(0x20, 0x00, Inet4), Header{Version: 2, Command: Local})
	t.accept("unknown with addresses", V2(0x21, 0x00, Inet4), Header{Version: 2, Command: Proxy})
	t.malformed("missing v2 params", V2(0x21, 0x11, Inet4[:10]), 14, "too small")
}

func (t *table) proftpd() {
	t.origin = "ProFTPD mod_proxy_protocol tests"
	t.line("bad proto", "PROXY ¦IPV4 1.1.1.1 2.2.2.2 111 222\r\n")
	t.line("bad src addr", "PROXY TCP4 f¦oo 2.2.2.2 111 222\r\n")
	t.line("bad dst addr", "PROXY TCP4 1.1.1.1 ba¦r 111 222\r\n")
	t.line("bad src port", "PROXY TCP4 1.1.1.1 2.2.2.2 ¦baz 222\r\n")
	t.line("bad dst port", "PROXY TCP4 1.1.1.1 2.2.2.2 111 ¦quxx\r\n")
	t.accept("tcp4 with ipv6 dst addr", "PROXY TCP4 1.1.1.1 ::2 111 222\r\n",
		inet(1, tcp6, "[::ffff:1.1.1.1]:111", "[::2]:222"))
	t.accept("tcp6 with ipv4 src addr", "PROXY TCP6 1.1.1.1 ::2 111 222\r\n",
		inet(1, tcp6, "[::ffff:1.1.1.1]:111", "[::2]:222"))
	t.accept("tcp6 with ipv4 dst addr", "PROXY TCP6 ::1 2.2.2.2 111 222\r\n",
		inet(1, tcp6, "[::1]:111", "[::ffff:2.2.2.2]:222"))
	t.canonical("matching src and dst", "PROXY TCP4 1.1.1.1 1.1.1.1 111 111\r\n",
		inet(1, tcp4, "1.1.1.1:111", "1.1.1.1:111"))
}

func (t *table) undertowV1() {
	t.origin = "Undertow ProxyProtocolTestCase"
	const get = "GET / HTTP/1.0\r\n\r\n"
	const six = "fe80::56ee:75ff:fe44:85bc fe80::5ec5:d4ff:fede:66d8"
	t.canonicalBefore(get, "tcp4", "PROXY TCP4 1.2.3.4 5.6.7.8 444 555\r\n",
		inet(1, tcp4, "1.2.3.4:444", "5.6.7.8:555"))
	t.canonicalBefore(get, "tcp6", "PROXY TCP6 "+six+" 0 65535\r\n",
		inet(1, tcp6, "[fe80::56ee:75ff:fe44:85bc]:0", "[fe80::5ec5:d4ff:fede:66d8]:65535"))
	t.line("two spaces, first", "PROXY ¦ TCP4 1.2.3.4 5.6.7.8 444 555\r\n"+get)
	t.line("two spaces, second", "PROXY TCP4 ¦ 1.2.3.4 5.6.7.8 444 555\r\n"+get)
	t.line("two spaces, third", "PROXY TCP4 1.2.3.4 ¦ 5.6.7.8 444 555\r\n"+get)
	t.line("two spaces, fourth", "PROXY TCP4 1.2.3.4 5.6.7.8 ¦ 444 555\r\n"+get)
	t.line("two spaces, fifth", "PROXY TCP4 1.2.3.4 5.6.7.8 444 ¦ 555\r\n"+get)
	t.line("no destination port", "PROXY TCP4 1.2.3.4 5.6.7.8 444¦\r\n"+get)
	t.line("no destination", "PROXY TCP4 1.2.3.4 444¦ 555\r\n"+get)
	t.line("no line feed", "PROXY TCP4 1.2.3.4 5.6.7.8 444 555\r¦"+get)
	t.line("no carriage return", "PROXY TCP4 1.2.3.4 5.6.7.8 444 555¦\n"+get)
	t.line("leading zeros", "PROXY TCP4 001¦.002.003.004 5.6.7.8 444 555\r\n"+get)
	t.line("leading zeros, destination",
		"PROXY TCP4 1.2.3.4 005¦.006.007.008 444 555\r\n"+get)
	t.line("a port of six digits", "PROXY TCP4 1.2.3.4 5.6.7.8 11144¦4 555\r\n"+get)
	t.line("a negative port", "PROXY TCP4 1.2.3.4 5.6.7.8 ¦-444 555\r\n"+get)
	t.line("a port with a leading zero", "PROXY TCP4 1.2.3.4 5.6.7.8 444 0¦555\r\n"+get)
	t.line("277", "PROXY TCP4 277¦.2.3.4 5.6.7.8 444 555\r\n"+get)
	t.line("a letter", "PROXY TCP4 1.2.3.4 5d¦.6.7.8 444 555\r\n"+get)
	t.line("a comma after PROXY", "PROXY¦, TCP4 1.2.3.4 5.6.7.8 444 555\r\n"+get)
	t.line("a letter that isn't hexadecimal", "PROXY TCP6 f¦z80::1 fe80::2 444 555\r\n"+get)
	t.acceptBefore(get, "two ipv6 addresses on tcp4", "PROXY TCP4 "+six+" 444 555\r\n",
		inet(1, tcp6, "[fe80::56ee:75ff:fe44:85bc]:444", "[fe80::5ec5:d4ff:fede:66d8]:555"))
	t.acceptBefore(get, "two ipv4 addresses on tcp6", "PROXY TCP6 1.2.3.4 5.6.7.8 444 555\r\n",
		inet(1, tcp4, "1.2.3.4:444", "5.6.7.8:555"))
	t.noHeader("nonsense", "NONSENSE TCP4 1.2.3.4 5.6.7.8 444 555\r\n"+get)
	t.line("PROXY alone", "PROXY¦\r\n"+get)
	t.line("PROXY and nonsense", "PROXY ¦NONSENSE 1.2.3.4 5.6.7.8 444 555\r\n"+get)
}

func (t *table) undertowV2() {
	t.origin = "Undertow ProxyProtocolV2TestCase"
	const addresses = "\x01\x02\x03\x04\x05\x06\x07\x08\x01\xbc\x02\x2b"
	zeros := strings.Repeat("\x00", 88)
	t.malformed("88 zero bytes after the addresses", V2(0x21, 0x11, addresses, zeros),
		TLVs4+87, "type and length")
	t.malformed("no destination port", V2(0x21, 0x11, addresses[:10]), 14)
	t.malformed("family of 4", V2(0x21, 0x42, addresses), 13)
	t.malformed("version 0", V2(0x00, 0x11, addresses), 12)
	t.noHeader("P and zeros", "P\x00\x00\x00")
	t.noHeader("a carriage return and zeros", "\r\x00\x00\x00")
	t.noHeader("zeros", "\x00\x00\x00\x00")
}
