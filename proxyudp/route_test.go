package proxyudp

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// What the address of a datagram is, for each kind of header.
func TestAddresses(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: requireAll})
	proxy := listenUDP(t, "127.0.0.1:0")
	own := proxy.LocalAddr().String()
	unix, err := proxyproto.NewUnixAddrs("/run/client", "@server")
	require.NoError(t, err)
	const source6, destination6 = "[2001:db8::7]:5353", "[2001:db8::1]:53"
	mapped := headerOf(proxyproto.UDP6, "[::ffff:192.0.2.7]:5353", "[::ffff:192.0.2.1]:53")
	line := headerOf(proxyproto.TCP4, testSource, testDestination)
	line.Version = proxyproto.V1
	v2 := proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Proxy}
	of := func(p proxyproto.Protocol) proxyproto.Header {
		h := v2
		h.Protocol = p
		return h
	}
	ofUnix := of(proxyproto.UnixDatagram)
	ofUnix.Unix = unix
	for _, c := range []struct {
		name                string
		header              proxyproto.Header
		client, destination string
	}{
		{"UDP4", testHeader(), testSource, testDestination},
		{"UDP4 with TLVs", testHeader(noop(t, 700)...), testSource, testDestination},
		{"UDP6", headerOf(proxyproto.UDP6, source6, destination6), source6, destination6},
		{"UDP6, IPv4-mapped", mapped, "192.0.2.7:5353", "192.0.2.1:53"},
		{"TCP4", headerOf(proxyproto.TCP4, testSource, testDestination), testSource,
			testDestination},
		{"TCP6", headerOf(proxyproto.TCP6, source6, destination6), source6, destination6},
		{"zeros", headerOf(proxyproto.UDP4, "0.0.0.0:0", "0.0.0.0:0"), "0.0.0.0:0", "0.0.0.0:0"},
		{"version 1", line, testSource, testDestination},
		{"UNKNOWN", proxyproto.Header{Version: proxyproto.V1, Command: proxyproto.Proxy}, own, ""},
		{"UNSPEC", v2, own, ""},
		{"INET and UNSPEC", of(0x10), own, ""},
		{"LOCAL", localHeader, own, ""},
		{"a Unix socket", ofUnix, own, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := exchange(t, proxy, pc, packet(t, c.header, "hello"))
			assert.Equal(t, c.client, addr.String())
			assert.Equal(t, "udp", addr.Network())
			assert.Equal(t, netip.MustParseAddrPort(c.client), addr.AddrPort())
			r, ok := RouteOf(addr)
			require.True(t, ok)
			assert.Equal(t, own, r.Peer.String())
			assert.Equal(t, string(c.header.TLVs), string(r.TLVs))
			if c.destination == "" {
				assert.False(t, r.Destination.IsValid())
			} else {
				assert.Equal(t, c.destination, r.Destination.String())
			}
			assertReply(t, pc, addr, proxy, "reply")
		})
	}
}

// A direct client's address has a route too, in which the client is the peer.
func TestRouteOfDirectPeer(t *testing.T) {
	client := listenUDP(t, "127.0.0.1:0")
	is := client.LocalAddr().String()
	for _, action := range []proxyproto.Action{
		proxyproto.Skip, proxyproto.Optional, proxyproto.Ignore,
	} {
		pc := newPacketConn(t, &Config{Policy: proxyproto.Always(action)})
		addr := exchange(t, client, pc, "hello")
		assert.Equal(t, is, addr.String())
		r, ok := RouteOf(addr)
		assert.True(t, ok)
		assert.Equal(t, Route{Peer: client.LocalAddr().(*net.UDPAddr).AddrPort()}, r)
		assertReply(t, pc, addr, client, "reply")
		assertReply(t, pc, anew(t, addr), client, "to a plain address")
		_, ok = RouteOf(anew(t, addr))
		assert.False(t, ok)
	}
}

// What programs do to an address: whatever is left of its route leads to the right place.
func TestRouteAfterWhatProgramsDo(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: requireAll})
	proxy, second := listenUDP(t, "127.0.0.1:0"), listenUDP(t, "127.0.0.1:0")
	for _, h := range []proxyproto.Header{
		testHeader(),
		headerOf(proxyproto.UDP6, "[2001:db8::7]:5353", "[2001:db8::1]:53", noop(t, 9)...),
		localHeader,
	} {
		for _, c := range []struct {
			name string
			do   func(a, other *net.UDPAddr) net.Addr
			ok   bool
		}{
			{"copied", func(a, _ *net.UDPAddr) net.Addr { own := *a; return &own }, true},
			{"its parts put together", func(a, _ *net.UDPAddr) net.Addr {
				return &net.UDPAddr{IP: a.IP, Port: a.Port, Zone: a.Zone}
			}, true},
			{"its IP in its other form", func(a, _ *net.UDPAddr) net.Addr {
				if four := a.IP.To4(); four != nil {
					return &net.UDPAddr{IP: four, Port: a.Port}
				}
				return &net.UDPAddr{IP: a.IP.To16(), Port: a.Port}
			}, true},
			{"copied with what lies after it", func(a, _ *net.UDPAddr) net.Addr {
				all := slices.Clone(a.IP[:cap(a.IP)])
				return &net.UDPAddr{IP: all[:len(a.IP):cap(a.IP)], Port: a.Port}
			}, true},
			{"its IP copied", func(a, _ *net.UDPAddr) net.Addr {
				return &net.UDPAddr{IP: slices.Clone(a.IP), Port: a.Port}
			}, false},
			{"from its text", func(a, _ *net.UDPAddr) net.Addr { return anew(t, a) }, false},
			{"from its AddrPort", func(a, _ *net.UDPAddr) net.Addr {
				return net.UDPAddrFromAddrPort(a.AddrPort())
			}, false},
			{"its IP clipped", func(a, _ *net.UDPAddr) net.Addr {
				return &net.UDPAddr{IP: slices.Clip(a.IP), Port: a.Port}
			}, false},
			{"another port", func(a, _ *net.UDPAddr) net.Addr { a.Port++; return a }, false},
			{"a port that isn't one",
				func(a, _ *net.UDPAddr) net.Addr { a.Port += 1 << 16; return a }, false},
			{"a zone", func(a, _ *net.UDPAddr) net.Addr { a.Zone = "eth0"; return a }, false},
			{"another IP", func(a, _ *net.UDPAddr) net.Addr { a.IP[len(a.IP)-1]++; return a },
				false},
			{"a prefix of its IP", func(a, _ *net.UDPAddr) net.Addr { a.IP = a.IP[:3]; return a },
				false},
			{"no IP", func(a, _ *net.UDPAddr) net.Addr { a.IP = a.IP[:0]; return a }, false},
			{"longer", func(a, _ *net.UDPAddr) net.Addr { a.IP = a.IP[:cap(a.IP)]; return a },
				false},
			{"its IP as the start of a key", func(a, _ *net.UDPAddr) net.Addr {
				_ = append(a.IP, byte(a.Port>>8), byte(a.Port))
				return a
			}, false},
			{"one byte appended", func(a, _ *net.UDPAddr) net.Addr {
				_ = append(a.IP,
					99)
				return a
			}, false},
			{"its last byte written", func(a, _ *net.UDPAddr) net.Addr {
				a.IP[:cap(a.IP)][cap(a.IP)-1]++
				return a
			}, false},
			{"another address's IP written over its", func(a, other *net.UDPAddr) net.Addr {
				a.IP = append(a.IP[:0], other.IP...)
				return a
			}, false},
			{"a TCP address", func(a, _ *net.UDPAddr) net.Addr {
				return &net.TCPAddr{IP: a.IP, Port: a.Port}
			}, false},
		} {
			addr := exchange(t, proxy, pc, packet(t, h, "hello"))
			other := exchange(t, second, pc, packet(t, clientHeader("192.0.2.9:9"), "hello"))
			next := exchange(t, proxy, pc, packet(t, h, "hello"))
			done := c.do(addr, other)
			_, ok := RouteOf(done)
			assert.Equal(t, c.ok, ok, "%s: %v", c.name, h)
			if ok {
				assertReply(t, pc, done, proxy, c.name)
			} else {
				_, err := pc.WriteTo([]byte("astray"), done)
				assert.ErrorIs(t, err, ErrNoRoute, c.name)
			}
			assertReply(t, pc, other, second, "another is as it was")
			assertReply(t, pc, next, proxy, "the next is as it was")
		}
	}
	requireSilent(t, proxy)
	requireSilent(t, second)
}

func TestWriteToWithoutRoute(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: requireAll})
	proxy := listenUDP(t, "127.0.0.1:0")
	exchange(t, proxy, pc, packet(t, testHeader(), "hello"))
	for _, remember := range []int{0, 10} {
		pc.Remember(remember, 1e9)
		for _, to := range []net.Addr{
			proxy.LocalAddr(), nil, (*net.UDPAddr)(nil), (*net.TCPAddr)(nil), &net.UDPAddr{},
			&net.UnixAddr{Net: "unixgram", Name: "/run/x"}, (*textAddr)(nil), &textAddr{"x"},
		} {
			for _, policy := range []proxyproto.Action{proxyproto.Require, proxyproto.Reject, 99} {
				pc.SetPolicy(proxyproto.Always(policy))
				n, err := pc.WriteTo([]byte("reply"), to)
				assert.Zero(t, n)
				assert.ErrorIs(t, err, ErrNoRoute, "%T", to)
				assert.Contains(t, err.Error(), "write udp", "%T: it can be printed", to)
			}
		}
	}
	pc.SetPolicy(proxyproto.Always(proxyproto.Skip))
	for _, to := range []net.Addr{nil, (*net.UDPAddr)(nil), (*textAddr)(nil), &textAddr{"x"}} {
		_, err := pc.WriteTo([]byte("reply"), to)
		assert.ErrorIs(t, err, ErrNoRoute, "%T", to)
	}
	requireSilent(t, proxy)
}

// A textAddr's methods panic if it is nil.
type textAddr struct{ text string }

func (a *textAddr) Network() string { return a.text }
func (a *textAddr) String() string  { return a.text }

// A proxy's link-local address needs its zone to be written to, and a Policy doesn't.
func TestRouteKeepsZones(t *testing.T) {
	for _, zone := range []string{"eth0", "7", "a-name-of-15-chars"} {
		peer := netip.MustParseAddrPort("[fe80::1%" + zone + "]:53")
		for _, client := range []netip.AddrPort{peer, netip.MustParseAddrPort(testSource)} {
			var mem addrMemory
			in := route{client: client, peer: peer}
			in.local = local{netip.MustParseAddr("fe80::2"), 7}
			addr := mem.newAddr(&in)
			assert.Equal(t, client.String(), addr.String())
			out, ok := routeOf(addr)
			require.True(t, ok)
			assert.Equal(t, in, out)
			r, _ := RouteOf(addr)
			assert.Equal(t, "[fe80::1]:53", r.Peer.String())
		}
	}
}

// A direct peer's zone is a part of its address: with another there is no route.
func TestZoneBelongsToRoute(t *testing.T) {
	var mem addrMemory
	r := route{client: netip.MustParseAddrPort("[fe80::4%eth0]:1004")}
	r.peer = r.client
	addr := mem.newAddr(&r)
	for zone, want := range map[string]bool{"eth0": true, "eth1": false, "": false} {
		addr.Zone = zone
		_, ok := RouteOf(addr)
		assert.Equal(t, want, ok, "%q", zone)
	}
}

// Every form of a route fits where it is put, and comes back as it was.
func TestRouteForms(t *testing.T) {
	four, six := netip.MustParseAddrPort("10.0.0.1:1"),
		netip.MustParseAddrPort("[2001:db8::1]:65535")
	var mem addrMemory
	n := 0
	for _, client := range []netip.AddrPort{four, six} {
		for _, peer := range []netip.AddrPort{client, four, six} {
			for _, destination := range []netip.AddrPort{{}, four, six} {
				for _, iface := range []uint32{0, 1 << 31} {
					for _, tlvs := range []int{0, 1, 500, 65535} {
						in := route{client: client, peer: peer, destination: destination}
						if n++; n%2 == 0 {
							in.local = local{peer.Addr(), iface}
						}
						if tlvs > 0 {
							in.tlvs = make([]byte, tlvs)
						}
						out, ok := routeOf(mem.newAddr(&in))
						require.True(t, ok)
						assert.Equal(t, in, out)
					}
				}
			}
		}
	}
}

func TestRouteOfAllocs(t *testing.T) {
	var mem addrMemory
	in := route{client: netip.MustParseAddrPort(testSource)}
	in.peer = netip.MustParseAddrPort("10.0.0.1:7777")
	for tlvs, want := range map[int]float64{0: 0, 20: 1} {
		in.tlvs = make([]byte, tlvs)
		addr := mem.newAddr(&in)
		assert.Equal(t, want, testing.AllocsPerRun(100, func() {
			if r, ok := RouteOf(addr); !ok || len(r.TLVs) != tlvs {
				t.Error(r, ok)
			}
		}), fmt.Sprint(tlvs))
	}
}
