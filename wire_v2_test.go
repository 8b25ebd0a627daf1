package proxyproto

import (
	"fmt"
	"strings"
)

// The six protocol bytes that come with addresses, each with a block and the header it stands for.
var wireFamilies = []struct {
	fam  byte
	name string
	addr string
	want Header
}{
	{0x11, "tcp4", wireInet4, wireInet(V2, TCP4, "192.168.0.1:56324", "192.168.0.11:443")},
	{0x12, "udp4", wireInet4, wireInet(V2, UDP4, "192.168.0.1:56324", "192.168.0.11:443")},
	{0x21, "tcp6", wireInet6, wireInet(V2, TCP6, "[2001:db8::1]:56324", "[2001:db8::b]:443")},
	{0x22, "udp6", wireInet6, wireInet(V2, UDP6, "[2001:db8::1]:56324", "[2001:db8::b]:443")},
	{0x31, "unix stream", wireUnix("/run/client", "/run/server"), wireUnixHeader(UnixStream, wireUnix("/run/client", "/run/server"))},
	{0x32, "unix datagram", wireUnix("/run/client", "/run/server"), wireUnixHeader(UnixDatagram, wireUnix("/run/client", "/run/server"))},
}

// The six protocol bytes whose family or protocol is unspecified.
var wireUnspecified = []byte{0x00, 0x01, 0x02, 0x10, 0x20, 0x30}

func wireUnixHeader(p Protocol, block string, tlvs ...string) Header {
	addrs := UnixAddrs([]byte(block))
	h := Header{Version: V2, Command: Proxy, Protocol: p, Unix: &addrs}
	if len(tlvs) > 0 {
		h.TLVs = TLVs(strings.Join(tlvs, ""))
	}
	return h
}

func (t *wireTable) v2Commands() {
	t.section = "2.2"
	local := Header{Version: V2, Command: Local}
	t.canonical("local", wireV2(0x20, 0x00), local)
	t.canonicalBefore("GET / HTTP/1.1\r\n\r\n", "local before payload", wireV2(0x20, 0x00), local)
	t.canonicalBefore(wireV2(0x21, 0x11, wireInet4), "local before another header", wireV2(0x20, 0x00), local)
	for _, f := range wireFamilies {
		t.accept("local with the addresses of "+f.name, wireV2(0x20, f.fam, f.addr), local)
		t.accept("local without the addresses of "+f.name, wireV2(0x20, f.fam), local)
	}
	t.acceptBefore("\x20\x11", "local with addresses before payload", wireV2(0x20, 0x11, wireInet4), local)
	t.accept("local with addresses cut short", wireV2(0x20, 0x31, "/ru"), local)
	t.accept("local with an invalid family", wireV2(0x20, 0x41, wireInet4), local)
	t.accept("local with an invalid protocol", wireV2(0x20, 0x13, wireInet4), local)
	t.accept("local with the family byte 255", wireV2(0x20, 0xff, "\xff"), local)
	t.accept("local with unspecified bytes", wireV2(0x20, 0x00, "whatever they are"), local)
	t.accept("local with TLVs", wireV2(0x20, 0x00, wireTLV(0x04, "padding")), local)
	t.accept("local with a TLV cut off", wireV2(0x20, 0x11, wireInet4, "\x04\x00"), local)
	t.accept("local with a TLV that overruns", wireV2(0x20, 0x11, wireInet4, "\x04\xff\xff"), local)
	t.accept("local with a wrong checksum", wireV2(0x20, 0x11, wireInet4, wireTLV(0x03, "oops")), local)
	t.accept("local of 65,535 bytes", wireV2(0x20, 0x00, strings.Repeat("\xaa", 65535)), local)

	// The next byte holds the version, which must be 2, and the command, which must be 0 or 1.
	for _, b := range []byte{0x00, 0x01, 0x10, 0x11, 0x30, 0x31, 0xa1, 0xf1} {
		t.malformed(fmt.Sprintf("version %d, command %d", b>>4, b&0xf), wireV2(b, 0x11, wireInet4), 12)
	}
	for command := byte(2); command < 16; command++ {
		t.malformed(fmt.Sprintf("command %d", command), wireV2(0x20|command, 0x11, wireInet4), 12)
	}
	t.malformed("version behind the signature is text", wireSig+"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", 12, "version must be 2")
}

func (t *wireTable) v2Families() {
	t.section = "2.2"
	for _, f := range wireFamilies {
		t.canonical(f.name, wireV2(0x21, f.fam, f.addr), f.want)
		t.canonicalBefore("\x00\x01payload", f.name+" before payload", wireV2(0x21, f.fam, f.addr), f.want)
	}
	t.canonicalBefore(wireTLV(0x01, "h2"), "tcp4 before a TLV that isn't the header's", wireV2(0x21, 0x11, wireInet4), wireFamilies[0].want)
	t.canonicalBefore(wireV2(0x21, 0x11, wireInet4), "tcp4 before another header", wireV2(0x21, 0x11, wireInet4), wireFamilies[0].want)

	for _, fam := range wireUnspecified {
		want := Header{Version: V2, Command: Proxy, Protocol: Protocol(fam)}
		name := fmt.Sprintf("unspecified %#02x", fam)
		t.canonical(name, wireV2(0x21, fam), want)
		t.accept(name+" with a block", wireV2(0x21, fam, wireInet4, "\x04\xff"), want)
	}
	unspec := Header{Version: V2, Command: Proxy}
	t.canonicalBefore("payload", "unspecified before payload", wireV2(0x21, 0x00), unspec)
	t.accept("unspecified with a wrong checksum", wireV2(0x21, 0x00, wireTLV(0x03, "oops")), unspec)
	t.accept("unspecified with one byte", wireV2(0x21, 0x00, "\x00"), unspec)
	t.accept("unspecified of 65,535 bytes", wireV2(0x21, 0x00, strings.Repeat("\xff", 65535)), unspec)

	for _, fam := range []byte{
		0x03, 0x0f, 0x13, 0x14, 0x1f, 0x23, 0x2f, 0x33, 0x3f, // protocols
		0x40, 0x41, 0x42, 0x50, 0x80, 0x91, 0xf0, 0xf2, // families
		0x44, 0xff, // both
	} {
		t.malformed(fmt.Sprintf("family %d, protocol %d", fam>>4, fam&0xf), wireV2(0x21, fam, wireInet4), 13)
	}

	zero4, ones4 := strings.Repeat("\x00", 12), strings.Repeat("\xff", 12)
	zero6, ones6 := strings.Repeat("\x00", 36), strings.Repeat("\xff", 36)
	const mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04"
	t.canonical("tcp4 all zero", wireV2(0x21, 0x11, zero4), wireInet(V2, TCP4, "0.0.0.0:0", "0.0.0.0:0"))
	t.canonical("udp4 all ones", wireV2(0x21, 0x12, ones4), wireInet(V2, UDP4, "255.255.255.255:65535", "255.255.255.255:65535"))
	t.canonical("tcp4 order of the fields", wireV2(0x21, 0x11, "\x01\x02\x03\x04\x05\x06\x07\x08\x00\x09\x0a\x00"), wireInet(V2, TCP4, "1.2.3.4:9", "5.6.7.8:2560"))
	t.canonical("tcp6 all zero", wireV2(0x21, 0x21, zero6), wireInet(V2, TCP6, "[::]:0", "[::]:0"))
	t.canonical("udp6 all ones", wireV2(0x21, 0x22, ones6), wireInet(V2, UDP6, "["+wireLongest6+"]:65535", "["+wireLongest6+"]:65535"))
	t.canonical("tcp6 order of the fields", wireV2(0x21, 0x21, "\x00\x01\x00\x02\x00\x03\x00\x04\x00\x05\x00\x06\x00\x07\x00\x08\x00\x09\x00\x0a\x00\x0b\x00\x0c\x00\x0d\x00\x0e\x00\x0f\x00\x10\x00\x11\x12\x00"),
		wireInet(V2, TCP6, "[1:2:3:4:5:6:7:8]:17", "[9:a:b:c:d:e:f:10]:4608"))
	t.canonical("tcp6 mapped", wireV2(0x21, 0x21, mapped, mapped, "\x00\x01\x00\x02"), wireInet(V2, TCP6, "[::ffff:1.2.3.4]:1", "[::ffff:1.2.3.4]:2"))
	t.canonical("udp6 link-local", wireV2(0x21, 0x22, "\xfe\x80"+zero6[:13]+"\x01", zero6[:15]+"\x01", "\x00\x01\x00\x02"), wireInet(V2, UDP6, "[fe80::1]:1", "[::1]:2"))

	full := strings.Repeat("/path", 22)[:108]
	for _, u := range []struct{ name, source, destination string }{
		{"unix without names", "", ""},
		{"unix names of 108 bytes", full, full},
		{"unix names of 107 bytes", full[1:], full[:107]},
		{"unix abstract names", "\x00client", "\x00server\x00with\x00zeroes"},
		{"unix bytes behind the name's zero", "/run/a\x00rest", "/run/b\x00\xff"},
		{"unix names that aren't UTF-8", "\xff\xfe", "\x80"},
	} {
		block := wireUnix(u.source, u.destination)
		t.canonical(u.name, wireV2(0x21, 0x31, block), wireUnixHeader(UnixStream, block))
	}
}

func (t *wireTable) v2Lengths() {
	t.section = "2.2"
	// The length must cover the addresses.
	for _, f := range wireFamilies {
		size := len(f.addr)
		t.malformed(f.name+" of length 0", wireV2(0x21, f.fam), 14)
		t.malformed(f.name+" of length 0 with addresses", wireV2Len(0x21, f.fam, 0, f.addr), 14)
		t.malformed(f.name+" short by one byte", wireV2Len(0x21, f.fam, size-1, f.addr), 14)
		// What is left for TLVs has no room for one.
		t.malformed(f.name+" with one byte too many", wireV2(0x21, f.fam, f.addr, "\x00"), 16+size)
		t.malformed(f.name+" with two bytes too many", wireV2(0x21, f.fam, f.addr, "\x00\x00"), 16+size)
	}
	t.malformed("tcp6 with IPv4 addresses", wireV2(0x21, 0x21, wireInet4), 14, "too small for the addresses")
	t.malformed("tcp6 of length 12", wireV2Len(0x21, 0x21, 12, wireInet6), 14)
	t.malformed("unix with IPv6 addresses", wireV2(0x21, 0x31, wireInet6), 14)
	t.malformed("unix of length 108", wireV2(0x21, 0x32, strings.Repeat("/", 108)), 14)
	t.malformed("tcp4 of length 1", wireV2(0x21, 0x11, "\x7f"), 14)
	t.malformed("tcp4 length in the wrong byte order", wireV2Len(0x21, 0x11, 0x0c00, wireInet4, strings.Repeat("\xff", 0xbf4)), wireTLVs4)

	most := wireTLV(0x04, strings.Repeat("\x00", 65535-12-3))
	want := wireFamilies[0].want
	want.TLVs = TLVs(most)
	t.canonical("tcp4 of 65,535 bytes", wireV2(0x21, 0x11, wireInet4, most), want)
	t.canonicalBefore("\x04\x00\x00", "tcp4 of 65,535 bytes before payload", wireV2(0x21, 0x11, wireInet4, most), want)

	many := strings.Repeat(wireTLV(0x04, ""), (65535-36)/3)
	want = wireFamilies[2].want
	want.TLVs = TLVs(many)
	t.canonical("tcp6 of 65,535 bytes, all empty TLVs", wireV2(0x21, 0x21, wireInet6, many), want)
	t.canonical("udp4 of 256 bytes", wireV2(0x21, 0x12, wireInet4, wireTLV(0x04, most[:241])), wireInet(V2, UDP4, "192.168.0.1:56324", "192.168.0.11:443", wireTLV(0x04, most[:241])))
}

func (t *wireTable) v2Incomplete() {
	t.section = "2.2"
	whole := wireV2(0x21, 0x11, wireInet4, wireTLV(0x01, "h2"))
	for _, c := range []struct {
		name string
		n    int
	}{
		{"the signature", 12}, {"up to the command", 13}, {"up to the family", 14}, {"half a length", 15}, {"up to the length", 16},
		{"one byte of addresses", 17}, {"source address", 20}, {"both addresses", 24}, {"source port", 26}, {"half a port", 27},
		{"all addresses", 28}, {"a TLV's type", 29}, {"half a TLV's length", 30}, {"a TLV's length", 31}, {"half a TLV's value", 32},
	} {
		t.incomplete("tcp4 "+c.name, whole[:c.n])
	}
	t.incomplete("local up to the length", wireV2Len(0x20, 0x00, 1))
	t.incomplete("local less one byte", wireV2Len(0x20, 0x11, 12, wireInet4[:11]))
	t.incomplete("local of an invalid family less one byte", wireV2Len(0x20, 0xff, 2, "\xff"))
	t.incomplete("local up to an invalid family", wireSig+"\x20\xff")
	t.incomplete("unspecified less one byte", wireV2Len(0x21, 0x00, 3, "\xff\xff"))
	t.incomplete("tcp6 less one byte", wireV2Len(0x21, 0x21, 36, wireInet6[:35]))
	t.incomplete("unix less one byte", wireV2Len(0x21, 0x31, 216, strings.Repeat("/", 215)))
	t.incomplete("tcp4 of 65,535 bytes, addresses so far", wireV2Len(0x21, 0x11, 65535, wireInet4))
	t.incomplete("local of 65,535 bytes, none so far", wireV2Len(0x20, 0x11, 65535))
}
