package proxyproto

import (
	"encoding/json"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the address of a datagram is, for each kind of header.
func TestPacketAddrKinds(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: Always(Require)})
	proxy := listenUDP(t, "127.0.0.1:0")
	own := proxy.LocalAddr()
	v6 := func(p Protocol, source, destination string) Header {
		return Header{Version: V2, Command: Proxy, Protocol: p,
			Source: netip.MustParseAddrPort(source), Destination: netip.MustParseAddrPort(destination)}
	}
	unix, err := NewUnixAddrs("/run/client", "@server")
	require.NoError(t, err)
	udp := func(s string) net.Addr { return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	for _, c := range []struct {
		name        string
		header      Header
		want        net.Addr // what it unwraps to, and is by name
		destination string
	}{
		{"UDP4", packetHeader(), udp(packetSource), packetDestination},
		{"UDP6", v6(UDP6, "[2001:db8::7]:5353", "[2001:db8::1]:53"), udp("[2001:db8::7]:5353"), "[2001:db8::1]:53"},
		{"UDP6, IPv4-mapped", v6(UDP6, "[::ffff:192.0.2.7]:5353", "[::ffff:192.0.2.1]:53"), udp("192.0.2.7:5353"), "192.0.2.1:53"},
		{"TCP4", testHeader(), udp(testSource), testDestination},
		{"TCP6", v6(TCP6, "[2001:db8::7]:5353", "[2001:db8::1]:53"), udp("[2001:db8::7]:5353"), "[2001:db8::1]:53"},
		{"version 1", Header{Version: V1, Command: Proxy, Protocol: TCP4, Source: testHeader().Source,
			Destination: testHeader().Destination}, udp(testSource), testDestination},
		{"UNKNOWN", Header{Version: V1, Command: Proxy}, own, ""},
		{"UNSPEC", Header{Version: V2, Command: Proxy}, own, ""},
		{"INET and UNSPEC", Header{Version: V2, Command: Proxy, Protocol: 0x10}, own, ""},
		{"LOCAL", localHeader, own, ""},
		{"UnixDatagram", Header{Version: V2, Command: Proxy, Protocol: UnixDatagram, Unix: unix},
			&net.UnixAddr{Net: "unixgram", Name: "/run/client"}, ""},
		{"UnixStream", Header{Version: V2, Command: Proxy, Protocol: UnixStream, Unix: unix},
			&net.UnixAddr{Net: "unix", Name: "/run/client"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			send(t, proxy, pc, packet(t, c.header, "hello"))
			payload, addr := receive(t, pc)
			assert.Equal(t, "hello", payload)
			a := addr.(*PacketAddr)
			assert.Equal(t, c.want.String(), a.Unwrap().String())
			assert.IsType(t, c.want, a.Unwrap())
			assert.Equal(t, c.want.String(), a.String())
			assert.Equal(t, c.want.Network(), a.Network())
			assert.Equal(t, addrPort(c.want), a.AddrPort())
			assert.Equal(t, own.String(), a.Peer().String())
			if c.destination == "" {
				assert.Equal(t, netip.AddrPort{}, a.Destination())
			} else {
				assert.Equal(t, c.destination, a.Destination().String())
			}
			_, err := pc.WriteTo([]byte("reply"), addr)
			require.NoError(t, err)
			payload, _ = receive(t, proxy)
			assert.Equal(t, "reply", payload)
		})
	}
}

func TestPacketAddrEquality(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: Always(Require)})
	one, two := listenUDP(t, "127.0.0.1:0"), listenUDP(t, "127.0.0.1:0")
	from := func(proxy net.PacketConn, h Header) PacketAddr {
		send(t, proxy, pc, packet(t, h, ""))
		_, addr := receive(t, pc)
		return *addr.(*PacketAddr)
	}
	h, other := packetHeader(), packetHeader()
	other.Destination = netip.AddrPortFrom(other.Destination.Addr(), 54)
	a, again, through, to := from(one, h), from(one, h), from(two, h), from(one, other)
	assert.True(t, a == again)
	assert.False(t, a == through, "another proxy")
	assert.False(t, a == to, "another destination")
	assert.Equal(t, a.String(), through.String(), "the client is the same")
	assert.Equal(t, a.String(), to.String(), "the client is the same")
}

func TestPacketAddrAsText(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: Always(Require)})
	send(t, listenUDP(t, "127.0.0.1:0"), pc, packet(t, packetHeader(), ""))
	_, addr := receive(t, pc)
	text, err := json.Marshal(map[string]any{"client": addr})
	require.NoError(t, err)
	assert.JSONEq(t, `{"client": "192.0.2.7:5353"}`, string(text), "as a structured log prints it")
}

func TestPacketAddrUnwrapIsTheCallersOwn(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: Always(Require)})
	send(t, listenUDP(t, "127.0.0.1:0"), pc, packet(t, packetHeader(), ""))
	_, addr := receive(t, pc)
	unwrapped := addr.(*PacketAddr).Unwrap().(*net.UDPAddr)
	unwrapped.IP[3], unwrapped.Port = 99, 1
	assert.Equal(t, packetSource, addr.String())
}

// A peer's link-local address needs its zone to be written to, and a Policy doesn't.
func TestPacketAddrZone(t *testing.T) {
	peer := netip.MustParseAddrPort("[fe80::1%eth0]:53")
	for _, inner := range []net.Addr{nil, net.UDPAddrFromAddrPort(peer)} {
		var a PacketAddr
		a.own(peer, inner)
		assert.Equal(t, peer, a.socketPeer())
		assert.Equal(t, peer.String(), a.String())
		assert.Equal(t, net.UDPAddrFromAddrPort(peer), a.Unwrap())
		assert.Equal(t, "[fe80::1]:53", a.Peer().String())
		h := packetHeader()
		a.behind(&h)
		assert.Equal(t, packetSource, a.String(), "the proxy's zone isn't the client's")
		assert.Equal(t, peer, a.socketPeer())
	}
}

// An inner connection that isn't a *net.UDPConn gets back the very addresses that it gave.
func TestPacketConnAroundOthers(t *testing.T) {
	proxy := &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7777}
	unix := &net.UnixAddr{Net: "unixgram", Name: "/run/proxy"}
	hello := packet(t, packetHeader(), "hello")
	inner := &fakePackets{local: &net.UDPAddr{Port: 53}, in: []fakePacket{
		{hello, proxy}, {packet(t, localHeader, "health"), proxy}, {hello, unix}, {packet(t, localHeader, "health"), unix},
		{hello, nil}, {packet(t, localHeader, "health"), nil},
	}}
	var asked []netip.AddrPort
	pc, err := NewPacketConn(inner, &Config{Policy: func(peer, _ netip.AddrPort) Action {
		asked = append(asked, peer)
		return Require
	}})
	require.NoError(t, err)
	b := make([]byte, 100)
	for i, want := range []struct{ payload, network, client string }{
		{"hello", "udp", packetSource}, {"health", "udp", "10.0.0.1:7777"},
		{"hello", "udp", packetSource}, {"health", "unixgram", "/run/proxy"},
		{"hello", "udp", packetSource}, {"health", "udp", netip.AddrPort{}.String()},
	} {
		to := inner.in[0].addr
		n, addr, err := pc.ReadFrom(b)
		require.NoError(t, err)
		assert.Equal(t, want.payload, string(b[:n]))
		assert.Equal(t, want.client, addr.String())
		assert.Equal(t, want.network, addr.Network())
		_, err = pc.WriteTo([]byte("reply"), addr)
		if i >= 4 {
			assert.ErrorIs(t, err, ErrNoProxy, "a sender without an address")
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, fakePacket{"reply", to}, inner.out[len(inner.out)-1])
	}
	plain := proxy.AddrPort()
	plain = netip.AddrPortFrom(plain.Addr().Unmap(), plain.Port())
	assert.Equal(t, []netip.AddrPort{plain, plain, {}, {}, {}, {}}, asked)
	_, addr, err := pc.ReadFrom(b)
	assert.ErrorIs(t, err, net.ErrClosed, "errors of the inner connection are passed on")
	assert.True(t, addr == nil, "%T", addr)
}
