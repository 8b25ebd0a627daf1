package proxyproto

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAppendTo(t *testing.T) {
	eachWireCase(t, func(t *testing.T, c wireCase) {
		if c.err != nil {
			return
		}
		for _, before := range []string{"", "what was there before"} {
			h := c.want.Clone()
			b, err := h.AppendTo([]byte(before))
			require.NoError(t, err)
			require.True(t, bytes.HasPrefix(b, []byte(before)))
			require.True(t, sameHeader(c.want, h), "AppendTo changed the header")
			wire := b[len(before):]
			if c.canonical {
				assert.Equal(t, c.wire[:c.n], wire)
			} else {
				assert.NotEqual(t, c.wire[:c.n], wire, "the row is canonical")
			}
			again, n, err := Parse(append(wire, "payload"...))
			require.NoError(t, err)
			assert.Equal(t, len(wire), n)
			assert.True(t, sameHeader(c.want, again), "%q gives %v back, not %v", wire, again, c.want)
		}
	})
}

// The value of a checksum is AppendTo's, whatever it was.
func TestAppendToChecksum(t *testing.T) {
	for _, tlvs := range [][2]string{
		{"", ""},
		{wireTLV(0x01, "h2"), wireTLV(0x02, "example.com")},
		{wireTLV(0x04, "\x03\x00\x04...."), wireSSL(0x01, 0, wireTLV(0x03, "oops"))},
	} {
		wire, right := wireCRC(tlvs[0], tlvs[1])
		for _, value := range []string{"\x00\x00\x00\x00", "\xff\xff\xff\xff", right[len(tlvs[0])+3 : len(tlvs[0])+7]} {
			given := tlvs[0] + wireTLV(0x03, value) + tlvs[1]
			h := wireInet(V2, TCP4, "192.168.0.1:56324", "192.168.0.11:443", given)
			b, err := h.AppendTo(nil)
			require.NoError(t, err)
			assert.Equal(t, wire, string(b))
			assert.Equal(t, given, string(h.TLVs), "AppendTo changed the header")
		}
	}
}

// oracleAppendable tells whether Parse can return h, but for the checksum's value.
func oracleAppendable(h Header) bool {
	source, destination := h.Source.Addr(), h.Destination.Addr()
	withoutIP := h.Source == netip.AddrPort{} && h.Destination == netip.AddrPort{}
	withZone := source.Zone() != "" || destination.Zone() != ""
	var addresses bool
	switch h.Protocol {
	case TCP4, UDP4:
		addresses = source.Is4() && destination.Is4() && h.Unix == nil
	case TCP6, UDP6:
		addresses = source.Is6() && destination.Is6() && !withZone && h.Unix == nil
	case UnixStream, UnixDatagram:
		addresses = withoutIP && h.Unix != nil
	case 0x00, 0x01, 0x02, 0x10, 0x20, 0x30:
		addresses = withoutIP && h.Unix == nil && len(h.TLVs) == 0
	}
	switch {
	case h.Version == V1 && h.Command == Proxy:
		known := h.Protocol == TCP4 || h.Protocol == TCP6 || h.Protocol == Unspec
		return known && addresses && len(h.TLVs) == 0
	case h.Version == V2 && h.Command == Local:
		return h.Protocol == Unspec && addresses
	case h.Version == V2 && h.Command == Proxy:
		return addresses && oracleTLVs(h.TLVs, len(h.TLVs), true, false) && oracleSizes[h.Protocol]+len(h.TLVs) <= 0xffff
	}
	return false
}

func TestAppendToRefuses(t *testing.T) {
	tcp4 := wireInet(V2, TCP4, "192.168.0.1:1", "192.168.0.11:2")
	tcp6 := wireInet(V2, TCP6, "[2001:db8::1]:1", "[2001:db8::b]:2")
	unix := wireUnixHeader(UnixStream, wireUnix("/run/client", "/run/server"))
	local := Header{Version: V2, Command: Local}
	unspec := Header{Version: V2, Command: Proxy}
	v1 := func(h Header) Header { h.Version = V1; return h }
	zone := netip.MustParseAddrPort("[fe80::1%eth0]:1")
	mapped := netip.MustParseAddrPort("[::ffff:1.2.3.4]:1")
	port := netip.AddrPortFrom(netip.Addr{}, 80)

	for _, c := range []struct {
		name   string
		h      Header
		change func(h *Header)
	}{
		{"nothing", Header{}, nil},
		{"version 0", tcp4, func(h *Header) { h.Version = 0 }},
		{"version 3", tcp4, func(h *Header) { h.Version = 3 }},
		{"command 2", tcp4, func(h *Header) { h.Command = 2 }},
		{"command 0x11", tcp4, func(h *Header) { h.Command = 0x11 }},
		{"protocol 0x13", tcp4, func(h *Header) { h.Protocol = 0x13 }},
		{"protocol 0x41", tcp4, func(h *Header) { h.Protocol = 0x41 }},
		{"protocol 0x40", unspec, func(h *Header) { h.Protocol = 0x40 }},
		{"protocol 0x03", unspec, func(h *Header) { h.Protocol = 0x03 }},

		{"v1 LOCAL", v1(local), nil},
		{"v1 command 2", v1(tcp4), func(h *Header) { h.Command = 2 }},
		{"v1 UDP4", v1(tcp4), func(h *Header) { h.Protocol = UDP4 }},
		{"v1 UDP6", v1(tcp6), func(h *Header) { h.Protocol = UDP6 }},
		{"v1 unix", v1(unix), nil},
		{"v1 unspecified 0x10", v1(unspec), func(h *Header) { h.Protocol = 0x10 }},
		{"v1 TLVs", v1(tcp4), func(h *Header) { h.TLVs = TLVs(wireTLV(0x01, "h2")) }},
		{"v1 unknown with TLVs", v1(unspec), func(h *Header) { h.TLVs = TLVs(wireTLV(0x04, "")) }},
		{"v1 unknown with addresses", v1(tcp4), func(h *Header) { h.Protocol = Unspec }},
		{"v1 TCP4 with IPv6", v1(tcp6), func(h *Header) { h.Protocol = TCP4 }},
		{"v1 TCP6 with IPv4", v1(tcp4), func(h *Header) { h.Protocol = TCP6 }},
		{"v1 TCP6 with a zone", v1(tcp6), func(h *Header) { h.Source = zone }},
		{"v1 TCP4 with unix", v1(tcp4), func(h *Header) { h.Unix = unix.Unix }},
		{"v1 TCP4 without addresses", Header{Version: V1, Command: Proxy, Protocol: TCP4}, nil},

		{"LOCAL TCP4", local, func(h *Header) { h.Protocol = TCP4 }},
		{"LOCAL TCP4 with addresses", tcp4, func(h *Header) { h.Command = Local }},
		{"LOCAL with a source", local, func(h *Header) { h.Source = tcp4.Source }},
		{"LOCAL with a destination", local, func(h *Header) { h.Destination = tcp6.Source }},
		{"LOCAL with unix", local, func(h *Header) { h.Unix = unix.Unix }},
		{"LOCAL with TLVs", local, func(h *Header) { h.TLVs = TLVs(wireTLV(0x04, "")) }},
		{"unspecified with a source", unspec, func(h *Header) { h.Source = tcp4.Source }},
		{"unspecified with a port", unspec, func(h *Header) { h.Destination = port }},
		{"unspecified with unix", unspec, func(h *Header) { h.Unix = unix.Unix }},
		{"unspecified with TLVs", unspec, func(h *Header) { h.TLVs = TLVs(wireTLV(0x04, "")) }},
		{"unspecified 0x20 with addresses", tcp6, func(h *Header) { h.Protocol = 0x20 }},
		{"unspecified 0x01 with TLVs", unspec, func(h *Header) { h.Protocol, h.TLVs = 0x01, TLVs(wireTLV(0x04, "")) }},

		{"TCP4 without source", tcp4, func(h *Header) { h.Source = netip.AddrPort{} }},
		{"TCP4 without destination", tcp4, func(h *Header) { h.Destination = netip.AddrPort{} }},
		{"TCP4 with an IPv6 source", tcp4, func(h *Header) { h.Source = tcp6.Source }},
		{"TCP4 with a mapped source", tcp4, func(h *Header) { h.Source = mapped }},
		{"UDP4 with an IPv6 destination", tcp4, func(h *Header) { h.Protocol, h.Destination = UDP4, tcp6.Source }},
		{"TCP6 with an IPv4 source", tcp6, func(h *Header) { h.Source = tcp4.Source }},
		{"UDP6 with an IPv4 destination", tcp6, func(h *Header) { h.Protocol, h.Destination = UDP6, tcp4.Source }},
		{"TCP6 with a zone", tcp6, func(h *Header) { h.Source = zone }},
		{"UDP6 with a zone", tcp6, func(h *Header) { h.Protocol, h.Destination = UDP6, zone }},
		{"TCP6 without addresses", tcp6, func(h *Header) { h.Source, h.Destination = netip.AddrPort{}, netip.AddrPort{} }},
		{"TCP4 with unix", tcp4, func(h *Header) { h.Unix = unix.Unix }},
		{"unix without names", unix, func(h *Header) { h.Unix = nil }},
		{"unix datagram without names", unix, func(h *Header) { h.Protocol, h.Unix = UnixDatagram, nil }},
		{"unix with a source", unix, func(h *Header) { h.Source = tcp4.Source }},
		{"unix with a port", unix, func(h *Header) { h.Destination = port }},

		{"a TLV cut off", tcp4, func(h *Header) { h.TLVs = TLVs("\x04\x00") }},
		{"a TLV that overruns", tcp4, func(h *Header) { h.TLVs = TLVs(wireTLVLen(0x01, 3, "h2")) }},
		{"a checksum of three bytes", tcp4, func(h *Header) { h.TLVs = TLVs(wireTLV(0x03, "\x00\x00\x00")) }},
		{"a checksum twice", tcp4, func(h *Header) { h.TLVs = TLVs(strings.Repeat(wireTLV(0x03, "\x00\x00\x00\x00"), 2)) }},
		{"a unique id of 129 bytes", tcp4, func(h *Header) { h.TLVs = TLVs(wireTLV(0x05, strings.Repeat("u", 129))) }},
		{"ssl of four bytes", tcp4, func(h *Header) { h.TLVs = TLVs(wireTLV(0x20, "\x01\x00\x00\x00")) }},
		{"ssl with a sub that overruns", tcp4, func(h *Header) { h.TLVs = TLVs(wireSSL(0x01, 0, "\x21\x00\x01")) }},
		{"TCP4 of 65,536 bytes", tcp4, func(h *Header) { h.TLVs = TLVs(wireTLV(0x04, strings.Repeat("x", 65536-12-3))) }},
		{"TCP6 of 65,536 bytes", tcp6, func(h *Header) { h.TLVs = TLVs(wireTLV(0x04, strings.Repeat("x", 65536-36-3))) }},
		{"unix of 65,536 bytes", unix, func(h *Header) { h.TLVs = TLVs(wireTLV(0x04, strings.Repeat("x", 65536-216-3))) }},
		{"TCP4 of more than two bytes can say", tcp4, func(h *Header) { h.TLVs = make(TLVs, 3<<16) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := c.h.Clone()
			if c.change != nil {
				c.change(&h)
			}
			require.False(t, oracleAppendable(h), "the row is fine")
			before := append(make([]byte, 0, 512), "what was there before"...)
			b, err := h.AppendTo(before)
			assert.Error(t, err)
			assert.Equal(t, "what was there before", string(b))

			var w shortWriter
			n, err := h.WriteTo(&w)
			assert.Error(t, err)
			assert.Zero(t, n)
			assert.Zero(t, w.calls)
		})
	}
}

func TestAppendToAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	room := make([]byte, 0, maxHeader)
	for _, c := range wireCases() {
		if c.err == nil {
			h := &c.want
			allocs := testing.AllocsPerRun(5, func() { _, _ = h.AppendTo(room) })
			assert.Zero(t, allocs, "%s/%s", c.section, c.name)
		}
	}
}

// shortWriter notes what it gets, and answers as it is told.
type shortWriter struct {
	calls int
	got   []byte
	short int // bytes less than it got
	err   error
}

func (w *shortWriter) Write(b []byte) (int, error) {
	w.calls++
	w.got = append(w.got, b...)
	return len(b) - w.short, w.err
}

func TestWriteTo(t *testing.T) {
	eachWireCase(t, func(t *testing.T, c wireCase) {
		if c.err != nil {
			return
		}
		want, err := c.want.AppendTo(nil)
		require.NoError(t, err)
		var w shortWriter
		n, err := c.want.WriteTo(&w)
		require.NoError(t, err)
		assert.EqualValues(t, len(want), n)
		assert.Equal(t, 1, w.calls, "writes")
		assert.Equal(t, want, w.got)
	})

	h := wireInet(V2, TCP4, "192.168.0.1:56324", "192.168.0.11:443")
	failed := errors.New("the writer's own")
	for _, c := range []struct {
		w    shortWriter
		n    int64
		want error
	}{
		{shortWriter{short: 28, err: failed}, 0, failed},
		{shortWriter{short: 20, err: failed}, 8, failed},
		{shortWriter{short: 0, err: failed}, 28, failed},
		{shortWriter{short: 20}, 8, io.ErrShortWrite},
	} {
		n, err := h.WriteTo(&c.w)
		assert.Equal(t, c.want, err)
		assert.Equal(t, c.n, n)
		assert.Equal(t, 1, c.w.calls, "writes")
	}
	var _ io.WriterTo = &h
}

func TestAddrs(t *testing.T) {
	tcp := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	udp := func(s string) net.Addr { return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	unix := func(network, name string) net.Addr { return &net.UnixAddr{Net: network, Name: name} }
	names := func(p Protocol, source, destination string) Header {
		return wireUnixHeader(p, wireUnix(source, destination))
	}
	full := strings.Repeat("/path", 22)[:108]
	for _, c := range []struct {
		h                   Header
		source, destination net.Addr
	}{
		{wireInet(V1, TCP4, "1.2.3.4:5", "6.7.8.9:10"), tcp("1.2.3.4:5"), tcp("6.7.8.9:10")},
		{wireInet(V1, TCP6, "[::1]:5", "[2001:db8::2]:10"), tcp("[::1]:5"), tcp("[2001:db8::2]:10")},
		{wireInet(V1, TCP6, "[::ffff:1.2.3.4]:5", "[::ffff:6.7.8.9]:10"), tcp("1.2.3.4:5"), tcp("6.7.8.9:10")},
		{wireInet(V2, TCP4, "1.2.3.4:0", "0.0.0.0:65535"), tcp("1.2.3.4:0"), tcp("0.0.0.0:65535")},
		{wireInet(V2, UDP4, "1.2.3.4:5", "6.7.8.9:10"), udp("1.2.3.4:5"), udp("6.7.8.9:10")},
		{wireInet(V2, TCP6, "[::]:0", "[::102:304]:10"), tcp("[::]:0"), tcp("[::102:304]:10")},
		{wireInet(V2, TCP6, "[::ffff:1.2.3.4]:5", "[::1]:10"), tcp("1.2.3.4:5"), tcp("[::1]:10")},
		{wireInet(V2, UDP6, "[::1]:5", "[::ffff:6.7.8.9]:10"), udp("[::1]:5"), udp("6.7.8.9:10")},
		{names(UnixStream, "/run/client", "/run/server"), unix("unix", "/run/client"), unix("unix", "/run/server")},
		{names(UnixDatagram, "", full), unix("unixgram", ""), unix("unixgram", full)},
		{names(UnixStream, "\x00client", "/a\x00b"), unix("unix", "@client"), unix("unix", "/a")},
		{Header{Version: V1, Command: Proxy}, nil, nil},
		{Header{Version: V2, Command: Local}, nil, nil},
		{Header{Version: V2, Command: Proxy, Protocol: 0x20}, nil, nil},
		{Header{}, nil, nil},
	} {
		source, destination := c.h.SourceAddr(), c.h.DestinationAddr()
		assert.True(t, source == nil && c.source == nil || c.source != nil && source != nil, "a nil pointer isn't nil: %v", c.h)
		assert.Equal(t, fmt.Sprintf("%T %[1]v", c.source), fmt.Sprintf("%T %[1]v", source))
		assert.Equal(t, fmt.Sprintf("%T %[1]v", c.destination), fmt.Sprintf("%T %[1]v", destination))
		if c.source != nil {
			assert.Equal(t, c.source.Network(), source.Network())
			assert.Equal(t, c.destination.Network(), destination.Network())
		}
		if want, ok := c.source.(interface{ AddrPort() netip.AddrPort }); ok {
			got := source.(interface{ AddrPort() netip.AddrPort })
			assert.Equal(t, want.AddrPort(), got.AddrPort(), "mapped or not is what the string doesn't show")
		}
	}
}

func TestUnixAddrs(t *testing.T) {
	full := strings.Repeat("/path", 22)[:108]
	for _, c := range []struct{ source, destination, wireSource, wireDestination string }{
		{"", "", "", ""},
		{"/run/client", "/run/server", "/run/client", "/run/server"},
		{full, full[1:], full, full[1:]},
		{"@client", "@", "\x00client", "\x00"},
		{"\x00client", "a@b", "\x00client", "a@b"},
	} {
		u, err := NewUnixAddrs(c.source, c.destination)
		require.NoError(t, err)
		assert.Equal(t, wireUnix(c.wireSource, c.wireDestination), string(u[:]))
		assert.Equal(t, strings.TrimRight(c.wireSource, "\x00"), string(u.Source()))
		assert.Equal(t, strings.TrimRight(c.wireDestination, "\x00"), string(u.Destination()))
	}
	for _, c := range [][2]string{{full + "x", ""}, {"", full + "x"}, {strings.Repeat("x", 1000), "y"}} {
		u, err := NewUnixAddrs(c[0], c[1])
		assert.Error(t, err)
		assert.Nil(t, u)
	}
	u := UnixAddrs([]byte(wireUnix("/run/a\x00rest", "\x00abstract\x00name\x00")))
	assert.Equal(t, "/run/a", string(u.Source()), "a path ends at its first zero")
	assert.Equal(t, "\x00abstract\x00name", string(u.Destination()), "an abstract name loses its trailing zeroes")
}

func TestStrings(t *testing.T) {
	for _, c := range []struct {
		v    fmt.Stringer
		want string
	}{
		{V1, "v1"}, {V2, "v2"}, {Local, "LOCAL"}, {Proxy, "PROXY"}, {Command(9), "9"},
		{Unspec, "UNSPEC"}, {TCP4, "TCP4"}, {UDP4, "UDP4"}, {TCP6, "TCP6"}, {UDP6, "UDP6"},
		{UnixStream, "UNIX"}, {UnixDatagram, "UNIX"}, {Protocol(0x20), "20"}, {Protocol(0xff), "ff"},
		{TypeALPN, "ALPN"}, {SubtypeSSLClientCert, "SSL_CLIENT_CERT"}, {TLVType(0xea), "ea"},
	} {
		assert.Contains(t, c.v.String(), c.want)
	}
	assert.NotEqual(t, UnixStream.String(), UnixDatagram.String())

	h := wireInet(V2, TCP4, "192.0.2.7:56324", "192.0.2.1:443", wireTLV(0x01, "h2"))
	for _, part := range []string{"v2", "PROXY", "TCP4", "192.0.2.7:56324", "192.0.2.1:443", "5 bytes"} {
		assert.Contains(t, h.String(), part)
	}
	for _, c := range wireCases() {
		if c.err == nil {
			assert.NotEmpty(t, c.want.String())
		}
	}
}
