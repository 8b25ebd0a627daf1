package wiretest

import (
	"fmt"
	"strings"
)

var unixBlock = Unix("/run/client", "/run/server")

// The six protocol bytes that come with addresses, each with a block and the header it stands for.
var families = []struct {
	fam  byte
	name string
	addr string
	want Header
}{
	{0x11, "tcp4", Inet4, inet(2, tcp4, "192.168.0.1:56324", "192.168.0.11:443")},
	{0x12, "udp4", Inet4, inet(2, udp4, "192.168.0.1:56324", "192.168.0.11:443")},
	{0x21, "tcp6", Inet6, inet(2, tcp6, "[2001:db8::1]:56324", "[2001:db8::b]:443")},
	{0x22, "udp6", Inet6, inet(2, udp6, "[2001:db8::1]:56324", "[2001:db8::b]:443")},
	{0x31, "unix stream", unixBlock, unixHeader(unixStream, unixBlock)},
	{0x32, "unix datagram", unixBlock, unixHeader(unixDatagram, unixBlock)},
}

// The six protocol bytes whose family or protocol is unspecified.
var unspecified = []byte{0x00, 0x01, 0x02, 0x10, 0x20, 0x30}

func (t *table) v2Commands() {
	t.section = "2.2"
	local := Header{Version: 2, Command: Local}
	t.canonical("local", V2(0x20, 0x00), local)
	t.canonicalBefore("GET / HTTP/1.1\r\n\r\n", "local before payload", V2(0x20, 0x00), local)
	t.canonicalBefore(V2(0x21, 0x11, Inet4), "local before another header", V2(0x20, 0x00), local)
	for _, f := range families {
		t.accept("local with the addresses of "+f.name, V2(0x20, f.fam, f.addr), local)
		t.accept("local without the addresses of "+f.name, V2(0x20, f.fam), local)
	}
	t.acceptBefore("\x20\x11", "local with addresses before payload", V2(0x20, 0x11, Inet4), local)
	t.accept("local with addresses cut short", V2(0x20, 0x31, "/ru"), local)
	t.accept("local with an invalid family", V2(0x20, 0x41, Inet4), local)
	t.accept("local with an invalid protocol", V2(0x20, 0x13, Inet4), local)
	t.accept("local with the family byte 255", V2(0x20, 0xff, "\xff"), local)
	t.accept("local with unspecified bytes", V2(0x20, 0x00, "whatever they are"), local)
	t.accept("local with TLVs", V2(0x20, 0x00, TLV(0x04, "padding")), local)
	t.accept("local with a TLV cut off", V2(0x20, 0x11, Inet4, "\x04\x00"), local)
	t.accept("local with a TLV that overruns", V2(0x20, 0x11, Inet4, "\x04\xff\xff"), local)
	t.accept("local with a wrong checksum", V2(0x20, 0x11, Inet4, TLV(0x03, "oops")), local)
	t.accept("local of 65,535 bytes", V2(0x20, 0x00, strings.Repeat("\xaa", 65535)), local)

	// The next byte holds the version, which must be 2, and the command, which must be 0 or 1.
	for _, b := range []byte{0x00, 0x01, 0x10, 0x11, 0x30, 0x31, 0xa1, 0xf1} {
		t.malformed(fmt.Sprintf("version %d, command %d", b>>4, b&0xf), V2(b, 0x11, Inet4), 12)
	}
	for command := byte(2); command < 16; command++ {
		t.malformed(fmt.Sprintf("command %d", command), V2(0x20|command, 0x11, Inet4), 12)
	}
	t.malformed("version after the signature is text",
		Signature+"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", 12, "version must be 2")
}

func (t *table) v2Families() {
	t.section = "2.2"
	for _, f := range families {
		t.canonical(f.name, V2(0x21, f.fam, f.addr), f.want)
		t.canonicalBefore("\x00\x01payload", f.name+" before payload", V2(0x21, f.fam, f.addr),
			f.want)
	}
	t.canonicalBefore(TLV(0x01, "h2"), "tcp4 before a TLV that isn't the header's",
		V2(0x21, 0x11, Inet4), families[0].want)
	t.canonicalBefore(V2(0x21, 0x11, Inet4), "tcp4 before another header", V2(0x21, 0x11, Inet4),
		families[0].want)

	for _, fam := range unspecified {
		want := Header{Version: 2, Command: Proxy, Protocol: fam}
		name := fmt.Sprintf("unspecified %#02x", fam)
		t.canonical(name, V2(0x21, fam), want)
		t.accept(name+" with a block", V2(0x21, fam, Inet4, "\x04\xff"), want)
	}
	unspec := Header{Version: 2, Command: Proxy}
	t.canonicalBefore("payload", "unspecified before payload", V2(0x21, 0x00), unspec)
	t.accept("unspecified with a wrong checksum", V2(0x21, 0x00, TLV(0x03, "oops")), unspec)
	t.accept("unspecified with one byte", V2(0x21, 0x00, "\x00"), unspec)
	t.accept("unspecified of 65,535 bytes", V2(0x21, 0x00, strings.Repeat("\xff", 65535)), unspec)

	for _, fam := range []byte{
		0x03, 0x0f, 0x13, 0x14, 0x1f, 0x23, 0x2f, 0x33, 0x3f, // protocols
		0x40, 0x41, 0x42, 0x50, 0x80, 0x91, 0xf0, 0xf2, // families
		0x44, 0xff, // both
	} {
		name := fmt.Sprintf("family %d, protocol %d", fam>>4, fam&0xf)
		t.malformed(name, V2(0x21, fam, Inet4), 13)
	}

	zero4, ones4 := strings.Repeat("\x00", 12), strings.Repeat("\xff", 12)
	zero6, ones6 := strings.Repeat("\x00", 36), strings.Repeat("\xff", 36)
	const mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04"
	t.canonical("tcp4 all zero", V2(0x21, 0x11, zero4), inet(2, tcp4, "0.0.0.0:0", "0.0.0.0:0"))
	t.canonical("udp4 all ones", V2(0x21, 0x12, ones4),
		inet(2, udp4, "255.255.255.255:65535", "255.255.255.255:65535"))
	t.canonical("tcp4 order of the fields",
		V2(0x21, 0x11, "\x01\x02\x03\x04\x05\x06\x07\x08\x00\x09\x0a\x00"),
		inet(2, tcp4, "1.2.3.4:9", "5.6.7.8:2560"))
	t.canonical("tcp6 all zero", V2(0x21, 0x21, zero6), inet(2, tcp6, "[::]:0", "[::]:0"))
	t.canonical("udp6 all ones", V2(0x21, 0x22, ones6),
		inet(2, udp6, "["+longest6+"]:65535", "["+longest6+"]:65535"))
	t.canonical("tcp6 order of the fields",
		V2(0x21, 0x21, "\x00\x01\x00\x02\x00\x03\x00\x04\x00\x05\x00\x06\x00\x07\x00\x08"+
			"\x00\x09\x00\x0a\x00\x0b\x00\x0c\x00\x0d\x00\x0e\x00\x0f\x00\x10"+"\x00\x11\x12\x00"),
		inet(2, tcp6, "[1:2:3:4:5:6:7:8]:17", "[9:a:b:c:d:e:f:10]:4608"))
	t.canonical("tcp6 mapped", V2(0x21, 0x21, mapped, mapped, "\x00\x01\x00\x02"),
		inet(2, tcp6, "[::ffff:1.2.3.4]:1", "[::ffff:1.2.3.4]:2"))
	t.canonical("udp6 link-local",
		V2(0x21, 0x22, "\xfe\x80"+zero6[:13]+"\x01", zero6[:15]+"\x01", "\x00\x01\x00\x02"),
		inet(2, udp6, "[fe80::1]:1", "[::1]:2"))

	full := strings.Repeat("/path", 22)[:108]
	for _, u := range []struct{ name, source, destination string }{
		{"unix without names", "", ""},
		{"unix names of 108 bytes", full, full},
		{"unix names of 107 bytes", full[1:], full[:107]},
		{"unix abstract names", "\x00client", "\x00server\x00with\x00zeroes"},
		{"unix bytes after the name's zero", "/run/a\x00rest", "/run/b\x00\xff"},
		{"unix names that aren't UTF-8", "\xff\xfe", "\x80"},
	} {
		block := Unix(u.source, u.destination)
		t.canonical(u.name, V2(0x21, 0x31, block), unixHeader(unixStream, block))
	}
}

func (t *table) v2Lengths() {
	t.section = "2.2"
	// The length must cover the addresses.
	for _, f := range families {
		size := len(f.addr)
		t.malformed(f.name+" of length 0", V2(0x21, f.fam), 14)
		t.malformed(f.name+" of length 0 with addresses", V2Len(0x21, f.fam, 0, f.addr), 14)
		t.malformed(f.name+" short by one byte", V2Len(0x21, f.fam, size-1, f.addr), 14)
		// What is left for TLVs has no room for one.
		t.malformed(f.name+" with one byte too many", V2(0x21, f.fam, f.addr, "\x00"), 16+size)
		t.malformed(f.name+" with two bytes too many", V2(0x21, f.fam, f.addr, "\x00\x00"), 16+size)
	}
	t.malformed("tcp6 with IPv4 addresses", V2(0x21, 0x21, Inet4), 14,
		"too small for the addresses")
	t.malformed("tcp6 of length 12", V2Len(0x21, 0x21, 12, Inet6), 14)
	t.malformed("unix with IPv6 addresses", V2(0x21, 0x31, Inet6), 14)
	t.malformed("unix of length 108", V2(0x21, 0x32, strings.Repeat("/", 108)), 14)
	t.malformed("tcp4 of length 1", V2(0x21, 0x11, "\x7f"), 14)
	t.malformed("tcp4 length in the wrong byte order",
		V2Len(0x21, 0x11, 0x0c00, Inet4, strings.Repeat("\xff", 0xbf4)), TLVs4)

	most := TLV(0x04, strings.Repeat("\x00", 65535-12-3))
	want := families[0].want
	want.TLVs = []byte(most)
	t.canonical("tcp4 of 65,535 bytes", V2(0x21, 0x11, Inet4, most), want)
	t.canonicalBefore("\x04\x00\x00", "tcp4 of 65,535 bytes before payload",
		V2(0x21, 0x11, Inet4, most), want)

	many := strings.Repeat(TLV(0x04, ""), (65535-36)/3)
	want = families[2].want
	want.TLVs = []byte(many)
	t.canonical("tcp6 of 65,535 bytes, all empty TLVs", V2(0x21, 0x21, Inet6, many), want)
	t.canonical("udp4 of 256 bytes", V2(0x21, 0x12, Inet4, TLV(0x04, most[:241])),
		inet(2, udp4, "192.168.0.1:56324", "192.168.0.11:443", TLV(0x04, most[:241])))
}

func (t *table) v2Incomplete() {
	t.section = "2.2"
	whole := V2(0x21, 0x11, Inet4, TLV(0x01, "h2"))
	for _, c := range []struct {
		name string
		n    int
	}{
		{"the signature", 12}, {"up to the command", 13}, {"up to the family", 14},
		{"half a length", 15}, {"up to the length", 16}, {"one byte of addresses", 17},
		{"source address", 20}, {"both addresses", 24}, {"source port", 26}, {"half a port", 27},
		{"all addresses", 28}, {"a TLV's type", 29}, {"half a TLV's length", 30},
		{"a TLV's length", 31}, {"half a TLV's value", 32},
	} {
		t.incomplete("tcp4 "+c.name, whole[:c.n])
	}
	t.incomplete("local up to the length", V2Len(0x20, 0x00, 1))
	t.incomplete("local less one byte", V2Len(0x20, 0x11, 12, Inet4[:11]))
	t.incomplete("local of an invalid family less one byte", V2Len(0x20, 0xff, 2, "\xff"))
	t.incomplete("local up to an invalid family", Signature+"\x20\xff")
	t.incomplete("unspecified less one byte", V2Len(0x21, 0x00, 3, "\xff\xff"))
	t.incomplete("tcp6 less one byte", V2Len(0x21, 0x21, 36, Inet6[:35]))
	t.incomplete("unix less one byte", V2Len(0x21, 0x31, 216, strings.Repeat("/", 215)))
	t.incomplete("tcp4 of 65,535 bytes, addresses so far", V2Len(0x21, 0x11, 65535, Inet4))
	t.incomplete("local of 65,535 bytes, none so far", V2Len(0x20, 0x11, 65535))
}
