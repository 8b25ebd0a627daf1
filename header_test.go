package proxyproto

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/wiretest"
)

// inetHeader is the header of a connection over IP, and unixHeader of one between Unix sockets.
func inetHeader(v Version, p Protocol, source, destination string) Header {
	return Header{
		Version: v, Command: Proxy, Protocol: p,
		Source: netip.MustParseAddrPort(source), Destination: netip.MustParseAddrPort(destination),
	}
}

func unixHeader(p Protocol, block string) Header {
	return Header{Version: V2, Command: Proxy, Protocol: p, Unix: new(UnixAddrs([]byte(block)))}
}

func TestAppendToRefuses(t *testing.T) {
	tcp4 := inetHeader(V2, TCP4, "192.168.0.1:1", "192.168.0.11:2")
	tcp6 := inetHeader(V2, TCP6, "[2001:db8::1]:1", "[2001:db8::b]:2")
	unix := unixHeader(UnixStream, wiretest.Unix("/run/client", "/run/server"))
	local := Header{Version: V2, Command: Local}
	unspec := Header{Version: V2, Command: Proxy}
	v1 := func(h Header) Header { h.Version = V1; return h }
	zone := netip.MustParseAddrPort("[fe80::1%eth0]:1")
	mapped := netip.MustParseAddrPort("[::ffff:1.2.3.4]:1")
	port := netip.AddrPortFrom(netip.Addr{}, 80)
	tlvs := func(s string) func(h *Header) { return func(h *Header) { h.TLVs = TLVs(s) } }
	most := func(addresses int) func(h *Header) {
		return tlvs(wiretest.TLV(0x04, strings.Repeat("x", 65536-addresses-3)))
	}

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
		{"v1 TLVs", v1(tcp4), tlvs(wiretest.TLV(0x01, "h2"))},
		{"v1 a byte of TLVs", v1(tcp4), tlvs("\x04")},
		{"LOCAL with a byte of TLVs", local, tlvs("\x04")},
		{"v1 unknown with TLVs", v1(unspec), tlvs(wiretest.TLV(0x04, ""))},
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
		{"LOCAL with TLVs", local, tlvs(wiretest.TLV(0x04, ""))},
		{"unspecified with a source", unspec, func(h *Header) { h.Source = tcp4.Source }},
		{"unspecified with a port", unspec, func(h *Header) { h.Destination = port }},
		{"unspecified with unix", unspec, func(h *Header) { h.Unix = unix.Unix }},
		{"unspecified with TLVs", unspec, tlvs(wiretest.TLV(0x04, ""))},
		{"unspecified 0x20 with addresses", tcp6, func(h *Header) { h.Protocol = 0x20 }},
		{"unspecified 0x01 with TLVs", unspec, func(h *Header) {
			h.Protocol, h.TLVs = 0x01, TLVs(wiretest.TLV(0x04, ""))
		}},

		{"TCP4 without source", tcp4, func(h *Header) { h.Source = netip.AddrPort{} }},
		{"TCP4 without destination", tcp4, func(h *Header) { h.Destination = netip.AddrPort{} }},
		{"TCP4 with an IPv6 source", tcp4, func(h *Header) { h.Source = tcp6.Source }},
		{"TCP4 with a mapped source", tcp4, func(h *Header) { h.Source = mapped }},
		{"UDP4 with an IPv6 destination", tcp4, func(h *Header) {
			h.Protocol, h.Destination = UDP4, tcp6.Source
		}},
		{"TCP6 with an IPv4 source", tcp6, func(h *Header) { h.Source = tcp4.Source }},
		{"UDP6 with an IPv4 destination", tcp6, func(h *Header) {
			h.Protocol, h.Destination = UDP6, tcp4.Source
		}},
		{"TCP6 with a zone", tcp6, func(h *Header) { h.Source = zone }},
		{"UDP6 with a zone", tcp6, func(h *Header) { h.Protocol, h.Destination = UDP6, zone }},
		{"TCP6 without addresses", tcp6, func(h *Header) {
			h.Source, h.Destination = netip.AddrPort{}, netip.AddrPort{}
		}},
		{"TCP4 with unix", tcp4, func(h *Header) { h.Unix = unix.Unix }},
		{"unix without names", unix, func(h *Header) { h.Unix = nil }},
		{"unix datagram without names", unix, func(h *Header) {
			h.Protocol, h.Unix = UnixDatagram, nil
		}},
		{"unix with a source", unix, func(h *Header) { h.Source = tcp4.Source }},
		{"unix with a port", unix, func(h *Header) { h.Destination = port }},

		{"a TLV cut off", tcp4, tlvs("\x04\x00")},
		{"a TLV that overruns", tcp4, tlvs(wiretest.TLVLen(0x01, 3, "h2"))},
		{"a checksum of three bytes", tcp4, tlvs(wiretest.TLV(0x03, "\x00\x00\x00"))},
		{"a checksum twice", tcp4, tlvs(strings.Repeat(wiretest.TLV(0x03, "\x00\x00\x00\x00"), 2))},
		{"a unique id of 129 bytes", tcp4, tlvs(wiretest.TLV(0x05, strings.Repeat("u", 129)))},
		{"ssl of four bytes", tcp4, tlvs(wiretest.TLV(0x20, "\x01\x00\x00\x00"))},
		{"ssl with a sub that overruns", tcp4, tlvs(wiretest.SSL(0x01, 0, "\x21\x00\x01"))},
		{"TCP4 of 65,536 bytes", tcp4, most(12)},
		{"TCP6 of 65,536 bytes", tcp6, most(36)},
		{"unix of 65,536 bytes", unix, most(216)},
		{"TCP4 of more than two bytes can say", tcp4, tlvs(strings.Repeat("\x00", 3<<16))},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := c.h.Clone()
			if c.change != nil {
				c.change(h)
			}
			require.False(t, wiretest.Appendable(plainOf(h)), "the row is fine")
			before := append(make([]byte, 0, 512), "what was there before"...)
			b, err := h.AppendTo(before)
			assert.Error(t, err)
			assert.NotErrorIs(t, err, ErrMalformed, "the caller's fault, not a peer's")
			assert.Equal(t, "what was there before", string(b))

			var w shortWriter
			n, err := h.WriteTo(&w)
			assert.Error(t, err)
			assert.Zero(t, n)
			assert.Zero(t, w.calls)
		})
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
	eachGoodRow(t, func(t *testing.T, row wiretest.Row) {
		h := headerOf(row.Want)
		want, err := h.AppendTo(nil)
		require.NoError(t, err)
		var w shortWriter
		n, err := h.WriteTo(&w)
		require.NoError(t, err)
		assert.EqualValues(t, len(want), n)
		assert.Equal(t, 1, w.calls, "writes")
		assert.Equal(t, want, w.got)
	})

	h := inetHeader(V2, TCP4, "192.168.0.1:56324", "192.168.0.11:443")
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
		return unixHeader(p, wiretest.Unix(source, destination))
	}
	full := strings.Repeat("/path", 22)[:108]
	for _, c := range []struct {
		h                   Header
		source, destination net.Addr
	}{
		{inetHeader(V1, TCP4, "1.2.3.4:5", "6.7.8.9:10"), tcp("1.2.3.4:5"), tcp("6.7.8.9:10")},
		{inetHeader(V1, TCP6, "[::1]:5", "[2001::2]:10"), tcp("[::1]:5"), tcp("[2001::2]:10")},
		{
			inetHeader(V1, TCP6, "[::ffff:1.2.3.4]:5", "[::ffff:6.7.8.9]:10"),
			tcp("1.2.3.4:5"), tcp("6.7.8.9:10"),
		},
		{inetHeader(V2, TCP4, "1.2.3.4:0", "0.0.0.0:65"), tcp("1.2.3.4:0"), tcp("0.0.0.0:65")},
		{inetHeader(V2, UDP4, "1.2.3.4:5", "6.7.8.9:10"), udp("1.2.3.4:5"), udp("6.7.8.9:10")},
		{inetHeader(V2, TCP6, "[::]:0", "[::102:304]:10"), tcp("[::]:0"), tcp("[::102:304]:10")},
		{inetHeader(V2, TCP6, "[::ffff:1.2.3.4]:5", "[::1]:10"), tcp("1.2.3.4:5"), tcp("[::1]:10")},
		{inetHeader(V2, UDP6, "[::1]:5", "[::ffff:6.7.8.9]:10"), udp("[::1]:5"), udp("6.7.8.9:10")},
		{
			names(UnixStream, "/run/client", "/run/server"),
			unix("unix", "/run/client"), unix("unix", "/run/server"),
		},
		{names(UnixDatagram, "", full), unix("unixgram", ""), unix("unixgram", full)},
		{names(UnixStream, "\x00client", "/a\x00b"), unix("unix", "@client"), unix("unix", "/a")},
		{Header{Version: V1, Command: Proxy}, nil, nil},
		{Header{Version: V2, Command: Local}, nil, nil},
		{Header{Version: V2, Command: Proxy, Protocol: 0x20}, nil, nil},
		{Header{}, nil, nil},
	} {
		source, destination := c.h.SourceAddr(), c.h.DestinationAddr()
		assert.Equal(t, c.source == nil, source == nil, "a nil pointer isn't nil: %v", c.h)
		assert.Equal(t, c.source != nil, c.h.HasAddrs())
		const typed = "%T %[1]v"
		assert.Equal(t, fmt.Sprintf(typed, c.source), fmt.Sprintf(typed, source))
		assert.Equal(t, fmt.Sprintf(typed, c.destination), fmt.Sprintf(typed, destination))
		if c.source != nil {
			assert.Equal(t, c.source.Network(), source.Network())
			assert.Equal(t, c.destination.Network(), destination.Network())
		}
		if want, ok := c.source.(interface{ AddrPort() netip.AddrPort }); ok {
			got := source.(interface{ AddrPort() netip.AddrPort })
			assert.Equal(t, want.AddrPort(), got.AddrPort(), "mapped, which the string hides")
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
		assert.Equal(t, wiretest.Unix(c.wireSource, c.wireDestination), string(u[:]))
		assert.Equal(t, strings.TrimRight(c.wireSource, "\x00"), string(u.Source()))
		assert.Equal(t, strings.TrimRight(c.wireDestination, "\x00"), string(u.Destination()))
	}
	for _, c := range [][2]string{{full + "x", ""}, {"", full + "x"}, {full + full, "y"}} {
		u, err := NewUnixAddrs(c[0], c[1])
		assert.Error(t, err)
		assert.Nil(t, u)
	}
	u := UnixAddrs([]byte(wiretest.Unix("/run/a\x00rest", "\x00abstract\x00name\x00")))
	assert.Equal(t, "/run/a", string(u.Source()), "a path ends at its first zero")
	assert.Equal(t, "\x00abstract\x00name", string(u.Destination()), "without trailing zeros")
}

func TestStrings(t *testing.T) {
	for _, c := range []struct {
		v    fmt.Stringer
		want string
	}{
		{V1, "v1"}, {V2, "v2"}, {Version(7), "v7"},
		{Local, "LOCAL"}, {Proxy, "PROXY"}, {Command(9), "Command(9)"},
		{Unspec, "UNSPEC"}, {TCP4, "TCP4"}, {UDP4, "UDP4"}, {TCP6, "TCP6"}, {UDP6, "UDP6"},
		{UnixStream, "UNIX_STREAM"}, {UnixDatagram, "UNIX_DGRAM"},
		{Protocol(0x20), "Protocol(0x20)"}, {Protocol(0xff), "Protocol(0xff)"},
		{
			inetHeader(V2, TCP4, "192.0.2.7:56324", "192.0.2.1:443"),
			"v2 PROXY TCP4 192.0.2.7:56324 -> 192.0.2.1:443",
		},
		{
			*headerOf(wiretest.Header{Version: 2, Command: 1, Protocol: 0x20}),
			"v2 PROXY Protocol(0x20)",
		},
		{Header{Version: V2}, "v2 LOCAL UNSPEC"},
	} {
		assert.Equal(t, c.want, c.v.String())
	}
	h := inetHeader(V2, UDP6, "[2001:db8::1]:5", "[::ffff:192.0.2.1]:443")
	h.TLVs = TLVs(wiretest.TLV(0x01, "h2"))
	assert.Equal(t, "v2 PROXY UDP6 [2001:db8::1]:5 -> 192.0.2.1:443, 5 bytes of TLVs", h.String())

	// What strangers sent mustn't reach a log as control codes.
	unix, err := NewUnixAddrs("/run/\x1b[2J\nx", "@ä")
	require.NoError(t, err)
	h = Header{Version: V2, Command: Proxy, Protocol: UnixStream, Unix: unix}
	assert.Equal(t, `v2 PROXY UNIX_STREAM "/run/\x1b[2J\nx" -> "@\u00e4"`, h.String())
}

func TestVersionText(t *testing.T) {
	for _, v := range []Version{V1, V2} {
		text, err := v.MarshalText()
		require.NoError(t, err)
		var again Version
		require.NoError(t, again.UnmarshalText(text))
		assert.Equal(t, v, again)
	}
	for _, v := range []Version{0, 3} {
		text, err := v.MarshalText()
		assert.ErrorContains(t, err, "there is no version")
		assert.Nil(t, text)
	}
	v := V2
	for _, text := range []string{"", "v", "v0", "v3", "1", "V1", "v1 "} {
		assert.ErrorContains(t, v.UnmarshalText([]byte(text)), "expected v1 or v2", text)
		assert.Equal(t, V2, v, text)
	}
}

// What Parse returns is its caller's bytes; Clone's isn't.
func TestClone(t *testing.T) {
	eachGoodRow(t, func(t *testing.T, row wiretest.Row) {
		b := append([]byte(nil), row.Wire...)
		h, _, err := Parse(b)
		require.NoError(t, err)
		clone := h.Clone()
		requireHeader(t, row.Want, clone)

		clear(b)
		requireHeader(t, row.Want, clone)
		assert.Equal(t, len(clone.TLVs) == 0, clone.TLVs == nil, "a header without has none")
		if len(h.TLVs) > 0 {
			assert.Equal(t, make(TLVs, len(h.TLVs)), h.TLVs, "TLVs alias the bytes")
			assert.Equal(t, len(h.TLVs), cap(h.TLVs), "append would overwrite the payload")
		}
		if h.Unix != nil {
			assert.Equal(t, UnixAddrs{}, *h.Unix, "AF_UNIX addresses alias the bytes")
			_, err := clone.TLVs.Append(TypeNoop, []byte("more"))
			require.NoError(t, err)
			requireHeader(t, row.Want, clone)
		}
	})
	assert.Nil(t, (*Header)(nil).Clone())
}

// A header can be written over the bytes that it was parsed from, whatever has changed in it.
func TestAppendToInPlace(t *testing.T) {
	tlvs := wiretest.TLV(0x01, "h2") + wiretest.TLV(0x02, "a.example")
	for _, c := range []struct {
		name, wire string
		change     func(h *Header)
	}{
		{"nothing", wiretest.V2(0x20, 0x00), func(h *Header) {}},
		{"addresses grow", wiretest.V2(0x21, 0x11, wiretest.Inet4, tlvs),
			func(h *Header) {
				h.Protocol, h.Source = TCP6, netip.MustParseAddrPort("[2001:db8::1]:1")
				h.Destination = netip.MustParseAddrPort("[2001:db8::2]:2")
			}},
		{"addresses shrink", wiretest.V2(0x21, 0x22, wiretest.Inet6, tlvs),
			func(h *Header) {
				h.Protocol, h.Source = UDP4, netip.MustParseAddrPort("192.0.2.1:1")
				h.Destination = netip.MustParseAddrPort("192.0.2.2:2")
			}},
		{"unix", wiretest.V2(0x21, 0x31, wiretest.Unix("/a", "/b"), tlvs),
			func(h *Header) { h.Protocol = UnixDatagram }},
		{"one TLV less", wiretest.V2(0x21, 0x31, wiretest.Unix("/a", "/b"), tlvs),
			func(h *Header) { h.TLVs = h.TLVs[5:] }},
	} {
		for _, before := range []int{0, 1, 16, 40, 300} {
			buf := make([]byte, before, 1024)
			buf = append(buf, c.wire...)
			h, _, err := Parse(buf[before:])
			require.NoError(t, err, c.name)
			c.change(&h)
			want, err := h.Clone().AppendTo(nil)
			require.NoError(t, err, c.name)
			for _, at := range []int{0, 1, before} {
				copied := append(make([]byte, 0, 1024), buf...)
				h, _, err := Parse(copied[before:])
				require.NoError(t, err, c.name)
				c.change(&h)
				got, err := h.AppendTo(copied[:at])
				require.NoError(t, err, c.name)
				assert.Equal(t, want, got[at:], "%s, %d bytes before, at %d", c.name, before, at)
			}
		}
	}
}
