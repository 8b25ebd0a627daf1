package proxyudp

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// FuzzAddress does to addresses what programs do (it builds, cuts, copies, converts, appends and
// writes over) in an order that the input says, and looks after each step that no address has a
// route but one that its client came by, and that a PacketConn sends by no other: under Require and
// with Remember as well as under Optional, which lets it write to the address itself.
func FuzzAddress(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17}, uint64(1))
	f.Add([]byte{16, 0, 16, 1, 14, 2, 3, 13, 200, 55}, uint64(0x1234567890abcdef))
	f.Fuzz(func(t *testing.T, steps []byte, with uint64) {
		var mem addrMemory
		var addrs []*net.UDPAddr
		came := map[string][]route{} // by client
		required, optional, remembering := senderOf(proxyproto.Require),
			senderOf(proxyproto.Optional), senderOf(proxyproto.Require)
		remembering.Remember(5, time.Hour)
		for i, client := range []string{
			"192.0.2.7:5353", "192.0.2.7:5353", "192.0.2.7:5354", "192.0.2.8:5353",
			"[2001:db8::7]:5353", "[2001:db8::7]:5353", "10.0.0.4:1004", "[fe80::4%eth0]:1004",
		} {
			r := route{client: netip.MustParseAddrPort(client)}
			if r.peer = r.client; i < 6 {
				r.peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}),
					uint16(1000+i))
				r.destination = netip.MustParseAddrPort(testDestination)
				r.tlvs = slices.Repeat([]byte{byte(i)}, i*i%7)
			}
			a := mem.newAddr(&r)
			came[a.String()] = append(came[a.String()], r)
			addrs = append(addrs, a)
			remembering.note(&r)
		}
		for i, step := range steps {
			with = with*6364136223846793005 + 1442695040888963407
			a, b := &addrs[i%len(addrs)], addrs[with>>60%uint64(len(addrs))]
			mangle(a, b, step, with)
			for _, a := range addrs {
				r, ok := routeOf(a)
				cameBy := func(of route) bool {
					return of.client == r.client && of.peer == r.peer &&
						of.destination == r.destination && string(of.tlvs) == string(r.tlvs)
				}
				require.True(t, !ok || slices.ContainsFunc(came[a.String()], cameBy),
					"step %d: %v has a route of another: %v", i, a, r)
				_, sends := required.wayTo(a)
				require.Equal(t, ok, sends, "without a route nothing is sent")
				if way, sends := remembering.wayTo(a); sends {
					require.True(t, slices.ContainsFunc(came[textOf(a)], func(of route) bool {
						return of.client == way.client && of.peer == way.peer
					}), "step %d: %v is remembered as another: %v", i, a, way)
				}
				if way, sends := optional.wayTo(a); sends && !ok {
					require.Equal(t, textOf(a), way.peer.String(), "directly")
				}
			}
		}
	})
}

// textOf returns an address's text, without the zone that an IPv4 address can't have.
func textOf(a *net.UDPAddr) string {
	own := *a
	if a.IP.To4() != nil {
		own.Zone = ""
	}
	return own.String()
}

// senderOf returns a PacketConn as far as it takes to know where it would send to.
func senderOf(action proxyproto.Action) *PacketConn {
	pc := &PacketConn{udp: new(net.UDPConn)}
	pc.SetPolicy(proxyproto.Always(action))
	return pc
}

// mangle does one thing to an address. with is for what it needs besides.
func mangle(to **net.UDPAddr, b *net.UDPAddr, step byte, with uint64) {
	a := *to
	at := func(n int) int { return int(with >> 20 % uint64(max(n, 1))) }
	all := a.IP[:cap(a.IP)]
	switch step % 22 {
	case 0: // a copy
		own := *a
		*to = &own
	case 1:
		*to = &net.UDPAddr{IP: a.IP.To4(), Port: a.Port, Zone: a.Zone}
	case 2:
		*to = &net.UDPAddr{IP: a.IP.To16(), Port: a.Port, Zone: a.Zone}
	case 3:
		*to = net.UDPAddrFromAddrPort(a.AddrPort())
	case 4:
		a.IP = slices.Clone(a.IP)
	case 5: // cut
		a.IP = a.IP[:at(len(a.IP)+1)]
	case 6:
		a.IP = a.IP[at(len(a.IP)):]
	case 7:
		a.IP = all[:at(cap(a.IP)+1)]
	case 8:
		a.IP = slices.Clip(a.IP)
	case 9: // append
		_ = append(a.IP, byte(with>>8))
	case 10:
		_ = append(a.IP, b.IP...)
	case 11:
		a.IP = append(a.IP[:0], b.IP...)
	case 12: // write
		if len(a.IP) > 0 {
			a.IP[at(len(a.IP))] = byte(with >> 8)
		}
	case 13:
		if len(all) > 0 {
			all[at(len(all))] ^= 1 << (with >> 8 % 8)
		}
	case 14: // all of another's memory, or a part
		copy(all, b.IP[:cap(b.IP)])
	case 15:
		copy(all[at(len(all)):], b.IP[:cap(b.IP)])
	case 16: // parts of two
		a.IP = b.IP
	case 17:
		a.Port = b.Port
	case 18:
		a.Zone = b.Zone
	case 19:
		a.Port ^= 1 << (with >> 8 % 20)
	case 20:
		a.Zone = []string{"", "eth0", "eth1", "2"}[with>>8%4]
	case 21: // by its text
		host, port, err := net.SplitHostPort(a.String())
		if ip := net.ParseIP(host); err == nil && ip != nil {
			n, _ := strconv.Atoi(port)
			*to = &net.UDPAddr{IP: ip, Port: n}
		}
	}
}

// FuzzForged gives strangers' bytes as what lies after an IP: they are never a route.
func FuzzForged(f *testing.F) {
	var mem addrMemory
	r := route{client: netip.MustParseAddrPort(testSource)}
	r.peer = netip.MustParseAddrPort("10.0.0.1:7777")
	a := mem.newAddr(&r)
	known := slices.Clone(a.IP[:cap(a.IP)])
	f.Add([]byte(known[:len(known)-1]), uint16(a.Port))
	forged := append(known[:len(known)-lenTag:len(known)-lenTag], 1, 2, 3, 4, 5, 6, 7, 8)
	f.Add([]byte(forged), uint16(a.Port))
	f.Fuzz(func(t *testing.T, b []byte, port uint16) {
		for _, n := range []int{4, 16} {
			if n > len(b) {
				continue
			}
			_, ok := RouteOf(&net.UDPAddr{IP: b[:n:len(b)], Port: int(port)})
			require.False(t, ok)
		}
	})
}

// FuzzPacket gives a datagram to a PacketConn under each Action and compares what comes out with
// what Parse says: nothing but a payload and its address may, and the next datagram always does.
func FuzzPacket(f *testing.F) {
	for i, seed := range []string{
		"", "hello", "PRO", "PROXY TCP4", testLineV1, "PROXY UNKNOWN\r\n", "PROXY TCP5",
		packet(f, testHeader(), ""), packet(f, testHeader(noop(f, 40)...), ""),
		packet(f, testHeader(), "")[:20], packet(f, localHeader, ""),
		packet(f, headerOf(proxyproto.TCP6, "[::1]:1", "[::ffff:10.0.0.1]:2"), ""),
	} {
		f.Add([]byte(seed), uint16(1500), uint16(0))
		f.Add([]byte(seed+"payload"), uint16(i%10), uint16(i*10))
	}
	peer := &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1).To4(), Port: 7777}
	f.Fuzz(func(t *testing.T, datagram []byte, size, limit uint16) {
		for action := proxyproto.Reject; action <= proxyproto.Ignore; action++ {
			inner := &fakePackets{local: &net.UDPAddr{}, in: []fakePacket{
				{string(datagram), peer}, {testLineV1, peer},
			}}
			asked := 0
			pc, err := NewPacketConn(inner, &Config{
				MaxHeaderSize: int(limit),
				Policy: func(proxyproto.Peer) proxyproto.Action {
					if asked++; asked == 1 {
						return action
					}
					return proxyproto.Require
				},
				OnDrop: func(p proxyproto.Peer, drop *proxyproto.DropError) {
					require.Equal(t, peer.String(), p.String())
					require.LessOrEqual(t, len(drop.Bytes), 16)
					require.True(t, strings.Contains(string(datagram), string(drop.Bytes)) ||
						strings.Contains(testLineV1, string(drop.Bytes)))
				},
			})
			require.NoError(t, err)
			b := make([]byte, size)
			n, addr, err := pc.ReadFrom(b)
			want, payload, served := fuzzWant(datagram, action, pc.cfg.MaxHeaderSize)
			if served {
				require.NoError(t, err)
				require.Equal(t, string(payload[:min(len(payload), int(size))]), string(b[:n]))
				client := peer.String()
				if s := want.SourceAddr(); s != nil && want.Unix == nil {
					client = s.String()
				}
				require.Equal(t, client, addr.String())
				r, ok := RouteOf(addr)
				require.True(t, ok)
				require.Equal(t, Route{
					Peer: peer.AddrPort(), Destination: plain(want.Destination), TLVs: r.TLVs,
				}, r)
				require.Equal(t, string(want.TLVs), string(r.TLVs))
				_, err = pc.WriteTo(b[:n], addr)
				require.NoError(t, err)
				require.Equal(t, string(b[:n]), inner.out[0].datagram)
				require.Equal(t, peer.String(), inner.out[0].addr.String())
				n, addr, err = pc.ReadFrom(b)
			}
			if limit == 0 || int(limit) >= len(testLineV1) {
				require.NoError(t, err, "the next datagram")
				require.Zero(t, n)
				require.Equal(t, testSource, addr.String())
				_, _, err = pc.ReadFrom(b)
			}
			require.ErrorIs(t, err, net.ErrClosed)
			require.EqualValues(t, 2, pc.Stats().Accepted)
		}
	})
}

// fuzzWant says what is to come of a datagram, slowly and readably.
func fuzzWant(datagram []byte, action proxyproto.Action, limit int) (
	h proxyproto.Header, payload []byte, served bool) {
	h, n, err := proxyproto.Parse(datagram)
	starts := func(with string) bool { return strings.HasPrefix(string(datagram), with) }
	begun := starts("PROXY") || starts("\r\n\r\n\x00\r\nQUIT\n")
	bare := errors.Is(err, proxyproto.ErrNoHeader) ||
		errors.Is(err, proxyproto.ErrIncomplete) && !begun
	switch {
	case action == proxyproto.Reject:
		return proxyproto.Header{}, nil, false
	case action == proxyproto.Skip, bare:
		return proxyproto.Header{}, datagram, action == proxyproto.Skip ||
			action != proxyproto.Require
	case err != nil || n > limit:
		return proxyproto.Header{}, nil, false
	case action == proxyproto.Ignore:
		return proxyproto.Header{}, datagram[n:], true
	}
	return h, datagram[n:], true
}
