package wiretest

import "strings"

// longest6 is as long as an address may be: 39 characters.
const longest6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

var unknown = Header{Version: 1, Command: Proxy}

// identification has what section 2.2 says about telling the versions apart, and section 2's
// promise that neither can be confused with HTTP, TLS, FTP or SMTP.
func (t *table) identification() {
	t.section = "2"
	t.noHeader("http get", "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
	t.noHeader("http post, P is common", "POST / HTTP/1.1\r\n\r\n")
	t.noHeader("http put", "PUT / HTTP/1.1\r\n\r\n")
	t.noHeader("http patch", "PATCH / HTTP/1.1\r\n\r\n")
	t.noHeader("http propfind, PRO is common", "PROPFIND / HTTP/1.1\r\n\r\n")
	t.noHeader("http2 preface, PR is common", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	t.noHeader("http after an empty line", "\r\nGET / HTTP/1.1\r\n\r\n")
	t.noHeader("http after two empty lines", "\r\n\r\nGET / HTTP/1.1\r\n\r\n")
	t.noHeader("tls client hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
	t.noHeader("sslv2 client hello", "\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10")
	t.noHeader("ssh", "SSH-2.0-OpenSSH_9.6\r\n")
	t.noHeader("smtp", "EHLO client.example.com\r\n")
	t.noHeader("smtp quit, as the signature ends", "QUIT\r\n")
	t.noHeader("ftp", "USER anonymous\r\n")
	t.noHeader("imap", "a001 CAPABILITY\r\n")
	t.noHeader("ldap", "\x30\x0c\x02\x01\x01\x60\x07")
	t.noHeader("rdp", "\x03\x00\x00\x13\x0e\xe0\x00\x00")
	t.noHeader("postgres ssl request", "\x00\x00\x00\x08\x04\xd2\x16\x2f")
	t.noHeader("redis", "*1\r\n$4\r\nPING\r\n")
	t.noHeader("zero byte", "\x00")
	t.noHeader("high byte", "\xff")
	t.noHeader("byte order mark", "\xef\xbb\xbfPROXY UNKNOWN\r\n")
	t.noHeader("PROX and something else", "PROXx UNKNOWN\r\n")
	t.noHeader("lower case proxy", "proxy UNKNOWN\r\n")
	t.noHeader("mixed case proxy", "Proxy UNKNOWN\r\n")
	t.noHeader("space before PROXY", " PROXY UNKNOWN\r\n")
	t.noHeader("line feed before PROXY", "\nPROXY UNKNOWN\r\n")
	t.noHeader("empty line before PROXY", "\r\nPROXY UNKNOWN\r\n")

	for i, name := range strings.Fields("0 1 2 3 4 5 6 7 8 9 10 11") {
		wrong := []byte(V2(0x21, 0x11, Inet4))
		wrong[i] ^= 0x80
		t.noHeader("signature wrong at byte "+name, string(wrong))
	}

	t.incomplete("nothing yet", "")
	t.incomplete("P", "P")
	t.incomplete("PRO", "PRO")
	t.incomplete("PROXY", "PROXY")
	t.incomplete("first byte of the signature", Signature[:1])
	t.incomplete("signature up to its zero byte", Signature[:5])
	t.incomplete("signature less one byte", Signature[:11])
}

func (t *table) v1Accepted() {
	t.section = "2.1"
	tcp4 := func(source, destination string) Header { return inet(1, tcp4, source, destination) }
	tcp6 := func(source, destination string) Header { return inet(1, tcp6, source, destination) }

	const example = "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
	want := tcp4("192.168.0.1:56324", "192.168.0.11:443")
	t.canonical("example", example, want)
	t.canonicalBefore("GET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n", "example before http",
		example, want)
	t.canonicalBefore("x", "one byte of payload", example, want)
	t.canonicalBefore("\r\n", "payload is a line end", example, want)
	t.canonicalBefore("\n", "payload is a line feed", example, want)
	t.canonicalBefore("\x00\x00\x00", "payload is zeroes", example, want)
	t.canonicalBefore("PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", "payload is another v1 header",
		example, want)
	t.canonicalBefore(V2(0x21, 0x11, Inet4), "payload is a v2 header", example, want)
	t.canonicalBefore(strings.Repeat("x", 200), "payload beyond 107 bytes", example, want)

	t.canonical("tcp4 longest, 56 bytes",
		"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
		tcp4("255.255.255.255:65535", "255.255.255.255:65535"))
	t.canonical("tcp4 shortest", "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n",
		tcp4("0.0.0.0:0", "0.0.0.0:0"))
	t.canonical("tcp4 one, two and three digits",
		"PROXY TCP4 9.10.99.100 199.200.249.250 9 10000\r\n",
		tcp4("9.10.99.100:9", "199.200.249.250:10000"))
	t.canonical("tcp4 ports 0 and 65535", "PROXY TCP4 1.2.3.4 5.6.7.8 0 65535\r\n",
		tcp4("1.2.3.4:0", "5.6.7.8:65535"))
	t.canonical("tcp4 ports 65535 and 0", "PROXY TCP4 1.2.3.4 5.6.7.8 65535 0\r\n",
		tcp4("1.2.3.4:65535", "5.6.7.8:0"))
	t.canonical("tcp4 ports 99 and 999", "PROXY TCP4 1.2.3.4 5.6.7.8 99 999\r\n",
		tcp4("1.2.3.4:99", "5.6.7.8:999"))
	t.canonical("tcp4 loopback", "PROXY TCP4 127.0.0.1 127.0.0.1 8080 80\r\n",
		tcp4("127.0.0.1:8080", "127.0.0.1:80"))

	t.canonical("tcp6", "PROXY TCP6 2001:db8::1 2001:db8::b 56324 443\r\n",
		tcp6("[2001:db8::1]:56324", "[2001:db8::b]:443"))
	t.canonicalBefore("\r\nPROXY", "tcp6 before payload", "PROXY TCP6 ::1 ::2 1 2\r\n",
		tcp6("[::1]:1", "[::2]:2"))
	t.canonical("tcp6 shortest", "PROXY TCP6 :: :: 0 0\r\n", tcp6("[::]:0", "[::]:0"))
	t.canonical("tcp6 longest of the specification, 104 bytes",
		"PROXY TCP6 "+longest6+" "+longest6+" 65535 65535\r\n",
		tcp6("["+longest6+"]:65535", "["+longest6+"]:65535"))
	t.accept("tcp6 upper case", "PROXY TCP6 2001:DB8::ABCD FFFF::EF 1 2\r\n",
		tcp6("[2001:db8::abcd]:1", "[ffff::ef]:2"))
	t.accept("tcp6 both cases in one group", "PROXY TCP6 aBcD::1 ::FfFf 1 2\r\n",
		tcp6("[abcd::1]:1", "[::ffff]:2"))
	t.accept("tcp6 four digits in each group",
		"PROXY TCP6 0000:0000:0000:0000:0000:0000:0000:0000 "+
			"2001:0db8:0000:0000:0000:0000:0000:0001 1 2\r\n",
		tcp6("[::]:1", "[2001:db8::1]:2"))
	t.accept("tcp6 single zeroes", "PROXY TCP6 0:0:0:0:0:0:0:0 1:0:0:0:0:0:0:8 1 2\r\n",
		tcp6("[::]:1", "[1::8]:2"))
	t.canonical("tcp6 eight groups", "PROXY TCP6 1:2:3:4:5:6:7:8 8:7:6:5:4:3:2:1 1 2\r\n",
		tcp6("[1:2:3:4:5:6:7:8]:1", "[8:7:6:5:4:3:2:1]:2"))
	t.canonical("tcp6 double colon first and last", "PROXY TCP6 ::8 1:: 1 2\r\n",
		tcp6("[::8]:1", "[1::]:2"))
	t.canonical("tcp6 double colon for two groups", "PROXY TCP6 1:2:3::6:7:8 1::4:5:6:7:8 1 2\r\n",
		tcp6("[1:2:3::6:7:8]:1", "[1::4:5:6:7:8]:2"))
	t.accept("tcp6 double colon for one group, inside",
		"PROXY TCP6 1:2:3::5:6:7:8 1::3:4:5:6:7:8 1 2\r\n",
		tcp6("[1:2:3:0:5:6:7:8]:1", "[1:0:3:4:5:6:7:8]:2"))
	t.accept("tcp6 double colon for one group, outside",
		"PROXY TCP6 ::2:3:4:5:6:7:8 1:2:3:4:5:6:7:: 1 2\r\n",
		tcp6("[0:2:3:4:5:6:7:8]:1", "[1:2:3:4:5:6:7:0]:2"))
	t.accept("tcp6 double colon beside zeroes", "PROXY TCP6 0::0 1:0::0:8 1 2\r\n",
		tcp6("[::]:1", "[1::8]:2"))
	t.accept("tcp6 double colon for the shorter run",
		"PROXY TCP6 1::4:0:0:0:8 1:0:0:0:5::8 1 2\r\n", tcp6("[1:0:0:4::8]:1", "[1::5:0:0:8]:2"))

	t.canonical("tcp6 mapped", "PROXY TCP6 ::ffff:1.2.3.4 ::ffff:255.255.255.255 1 2\r\n",
		tcp6("[::ffff:1.2.3.4]:1", "[::ffff:255.255.255.255]:2"))
	t.accept("tcp6 mapped, upper case", "PROXY TCP6 ::FFFF:1.2.3.4 ::1 1 2\r\n",
		tcp6("[::ffff:1.2.3.4]:1", "[::1]:2"))
	t.accept("tcp6 mapped, hexadecimal", "PROXY TCP6 ::ffff:102:304 ::1 1 2\r\n",
		tcp6("[::ffff:1.2.3.4]:1", "[::1]:2"))
	t.accept("tcp6 mapped, all groups", "PROXY TCP6 0:0:0:0:0:ffff:1.2.3.4 ::1 1 2\r\n",
		tcp6("[::ffff:1.2.3.4]:1", "[::1]:2"))
	t.accept("tcp6 dotted quad without ffff", "PROXY TCP6 ::1.2.3.4 64:ff9b::192.0.2.33 1 2\r\n",
		tcp6("[::102:304]:1", "[64:ff9b::c000:221]:2"))
	t.accept("tcp6 dotted quad after six groups", "PROXY TCP6 1:2:3:4:5:6:7.8.9.10 ::1 1 2\r\n",
		tcp6("[1:2:3:4:5:6:708:90a]:1", "[::1]:2"))
	t.accept("tcp6 dotted quad, double colon for one group",
		"PROXY TCP6 1:2:3:4:5::7.8.9.10 ::2:3:4:5:6:7.8.9.10 1 2\r\n",
		tcp6("[1:2:3:4:5:0:708:90a]:1", "[0:2:3:4:5:6:708:90a]:2"))
	t.accept("tcp6 dotted quad of 39 characters",
		"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:255.1.2.3 "+
			"ffff:ffff:ffff:ffff::255.255.255.255 65535 65535\r\n",
		tcp6("[ffff:ffff:ffff:ffff:ffff:ffff:ff01:203]:65535",
			"[ffff:ffff:ffff:ffff::ffff:ffff]:65535"))
	t.accept("tcp6 dotted quad of 39 characters, last number longest",
		"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:1.2.3.255 ::1 1 2\r\n",
		tcp6("[ffff:ffff:ffff:ffff:ffff:ffff:102:3ff]:1", "[::1]:2"))
}

// v1Mixed has lines whose addresses don't match their keyword, or each other.
func (t *table) v1Mixed() {
	t.section = "2.1"
	tcp4 := func(source, destination string) Header { return inet(1, tcp4, source, destination) }
	tcp6 := func(source, destination string) Header { return inet(1, tcp6, source, destination) }

	// nginx writes the client's family and its own socket's address once its realip module has
	// replaced the client's address.
	t.origin = "nginx 1.22.1, stream, set_real_ip_from, proxy_protocol on"
	t.accept("ipv6 client on an ipv4 listener", "PROXY TCP6 2001:db8::1 127.0.0.1 51512 18081\r\n",
		tcp6("[2001:db8::1]:51512", "[::ffff:127.0.0.1]:18081"))
	t.accept("ipv4 client on an ipv6 listener", "PROXY TCP4 192.0.2.7 ::1 51512 18081\r\n",
		tcp6("[::ffff:192.0.2.7]:51512", "[::1]:18081"))
	const rule = "nginx writes it"
	t.line("ipv4 client on a unix listener",
		"PROXY TCP4 192.0.2.7 ¦unix:/run/nginx.sock 51512 0\r\n", rule)
	t.line("ipv6 client on a unix listener",
		"PROXY TCP6 2001:db8::1 ¦unix:/run/nginx.sock 51512 0\r\n", rule)
	t.line("unix listener, cut off", "PROXY TCP4 192.0.2.7 ¦u", rule)

	t.origin = ""
	t.accept("tcp4 with two ipv6 addresses", "PROXY TCP4 ::1 2001:db8::2 1 2\r\n",
		tcp6("[::1]:1", "[2001:db8::2]:2"))
	t.accept("tcp4 with a mapped source", "PROXY TCP4 ::ffff:1.2.3.4 5.6.7.8 1 2\r\n",
		tcp6("[::ffff:1.2.3.4]:1", "[::ffff:5.6.7.8]:2"))
	t.accept("tcp4 with the longest addresses",
		"PROXY TCP4 "+longest6+" "+longest6+" 65535 65535\r\n",
		tcp6("["+longest6+"]:65535", "["+longest6+"]:65535"))
	t.accept("tcp6 with two ipv4 addresses", "PROXY TCP6 1.2.3.4 255.255.255.255 1 2\r\n",
		tcp4("1.2.3.4:1", "255.255.255.255:2"))
	t.accept("tcp6 with an ipv4 source", "PROXY TCP6 1.2.3.4 ::5 1 2\r\n",
		tcp6("[::ffff:1.2.3.4]:1", "[::5]:2"))
	t.acceptBefore("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "mixed before another header",
		"PROXY TCP6 ::1 1.2.3.4 1 2\r\n", tcp6("[::1]:1", "[::ffff:1.2.3.4]:2"))

	t.line("tcp6 with an ipv4 source over 255", "PROXY TCP6 256¦.2.3.4 ::2 1 2\r\n", "over 255")
	t.line("tcp6 with a leading zero", "PROXY TCP6 ::2 01¦.2.3.4 1 2\r\n", "leading zero")
	t.line("tcp6 with five numbers", "PROXY TCP6 1.2.3.4¦.5 ::2 1 2\r\n", "single space")
	t.line("tcp4 with five digits", "PROXY TCP4 1:1234¦5::2 ::2 1 2\r\n", "four digits")
	t.line("tcp4 with a zone", "PROXY TCP4 fe80::1¦%eth0 1.2.3.4 1 2\r\n", "single space")
	t.incomplete("mixed, half a source", "PROXY TCP4 2001:db8")
	t.incomplete("mixed, half a destination", "PROXY TCP6 2001:db8::1 127.0.")
}

func (t *table) v1Unknown() {
	t.section = "2.1"
	t.canonical("unknown, short form", "PROXY UNKNOWN\r\n", unknown)
	t.canonicalBefore("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "unknown before another header",
		"PROXY UNKNOWN\r\n", unknown)
	t.canonicalBefore("\r\n\r\n", "unknown before line ends", "PROXY UNKNOWN\r\n", unknown)
	t.accept("unknown, worst case of 107 bytes",
		"PROXY UNKNOWN "+longest6+" "+longest6+" 65535 65535\r\n", unknown)
	t.accept("unknown with addresses", "PROXY UNKNOWN 1.2.3.4 5.6.7.8 1 2\r\n", unknown)
	t.accept("unknown with nothing after the space", "PROXY UNKNOWN \r\n", unknown)
	t.accept("unknown with words", "PROXY UNKNOWN whatever  it\tmay be\r\n", unknown)
	t.accept("unknown with a header in it", "PROXY UNKNOWN PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
		unknown)
	t.accept("unknown with every other kind of byte",
		"PROXY UNKNOWN \x00\x01\x7f\x80\xff\xc3\xa9\r\n", unknown)
	t.accept("unknown with a lone line feed", "PROXY UNKNOWN a\nb\r\n", unknown)
	t.accept("unknown with a lone carriage return", "PROXY UNKNOWN a\rb\r\n", unknown)
	t.accept("unknown with two carriage returns", "PROXY UNKNOWN \r\r\n", unknown)
	t.accept("unknown with the line end reversed", "PROXY UNKNOWN \n\r\r\n", unknown)
	t.acceptBefore("b\r\n", "unknown ends at the first line end", "PROXY UNKNOWN a\r\n", unknown)
	t.acceptBefore("\r\n", "unknown of 107 bytes before payload",
		"PROXY UNKNOWN "+strings.Repeat("x", 91)+"\r\n", unknown)
	t.accept("unknown of 106 bytes", "PROXY UNKNOWN "+strings.Repeat("x", 90)+"\r\n", unknown)
	t.accept("unknown of 107 bytes with two carriage returns",
		"PROXY UNKNOWN "+strings.Repeat("x", 90)+"\r\r\n", unknown)

	t.incomplete("unknown of 105 bytes so far", "PROXY UNKNOWN "+strings.Repeat("x", 91))
	t.incomplete("unknown of 106 bytes so far", "PROXY UNKNOWN "+strings.Repeat("x", 91)+"\r")
	t.incomplete("unknown", "PROXY UNKNOWN")
	t.incomplete("unknown and half a line end", "PROXY UNKNOWN\r")
	t.incomplete("unknown with half a line end", "PROXY UNKNOWN x\r")
	t.incomplete("unknown with a lone line feed so far", "PROXY UNKNOWN x\n")

	t.line("unknown of 108 bytes", "PROXY UNKNOWN "+strings.Repeat("x", 91)+"¦x\r\n",
		"within 107 bytes")
	t.line("unknown of 108 bytes, cut off", "PROXY UNKNOWN "+strings.Repeat("x", 91)+"¦x")
	t.line("unknown of 108 bytes with two carriage returns",
		"PROXY UNKNOWN "+strings.Repeat("x", 91)+"\r¦\r\n")
	t.line("unknown of 106 bytes ended by a line feed",
		"PROXY UNKNOWN "+strings.Repeat("x", 91)+"¦\n")
	t.line("unknown without end",
		"PROXY UNKNOWN "+strings.Repeat("x", 91)+"¦"+strings.Repeat("x", 4000), "within 107 bytes")
	t.line("unknown and a letter", "PROXY UNKNOWN¦X\r\n", "after UNKNOWN")
	t.line("unknown and a tab", "PROXY UNKNOWN¦\t1\r\n")
	t.line("unknown and a zero byte", "PROXY UNKNOWN¦\x00\r\n")
	t.line("unknown and a lone line feed", "PROXY UNKNOWN¦\n", "after UNKNOWN")
	t.line("unknown and a lone carriage return", "PROXY UNKNOWN\r¦GET", "CRLF")
	t.line("unknown and two carriage returns", "PROXY UNKNOWN\r¦\r\n")
}

func (t *table) v1Keywords() {
	t.section = "2.1"
	const rest = " 1.2.3.4 5.6.7.8 1 2\r\n"
	t.line("no space after PROXY", "PROXY¦TCP4"+rest, "single space")
	t.line("tab after PROXY", "PROXY¦\tTCP4"+rest)
	t.line("line end after PROXY", "PROXY¦\r\n")
	t.line("line feed after PROXY", "PROXY¦\n")
	t.line("zero byte after PROXY", "PROXY¦\x00")
	t.line("nothing but a line end", "PROXY ¦\r\n")
	t.line("two spaces after PROXY", "PROXY ¦ TCP4"+rest, "TCP4, TCP6 or UNKNOWN")
	t.line("lower case tcp4", "PROXY ¦tcp4"+rest, "TCP4, TCP6 or UNKNOWN")
	t.line("mixed case tcp4", "PROXY T¦cp4"+rest)
	t.line("lower case p", "PROXY TC¦p4"+rest)
	t.line("tcp without a number", "PROXY TCP¦"+rest)
	t.line("tcp5", "PROXY TCP¦5"+rest)
	t.line("tcp46", "PROXY TCP4¦6"+rest)
	t.line("tcp66", "PROXY TCP6¦6 ::1 ::2 1 2\r\n")
	t.line("udp4, which is not of version 1", "PROXY U¦DP4"+rest, "TCP4, TCP6 or UNKNOWN")
	t.line("udp6", "PROXY U¦DP6 ::1 ::2 1 2\r\n")
	t.line("unix", "PROXY UN¦IX\r\n")
	t.line("sctp", "PROXY ¦SCTP"+rest)
	t.line("a number", "PROXY ¦4"+rest)
	t.line("lower case unknown", "PROXY ¦unknown\r\n")
	t.line("mixed case unknown", "PROXY U¦nknown\r\n")
	t.line("unknowm", "PROXY UNKNOW¦M\r\n")
	t.line("unknown cut short", "PROXY UNKNOW¦\r\n")
	t.line("tab after tcp4", "PROXY TCP4¦\t1.2.3.4 5.6.7.8 1 2\r\n", "single space")
	t.line("line end after tcp4", "PROXY TCP4¦\r\n")
	t.line("line end after tcp6 and a space", "PROXY TCP6 ¦\r\n")
	t.line("two spaces after tcp4", "PROXY TCP4 ¦"+rest)

	t.incomplete("PROXY and a space", "PROXY ")
	t.incomplete("half a keyword", "PROXY TC")
	t.incomplete("half an unknown", "PROXY UNKN")
	t.incomplete("tcp4", "PROXY TCP4")
	t.incomplete("tcp6 and a space", "PROXY TCP6 ")
}
