package proxyudp

import (
	"encoding/binary"
	"errors"
	"hash/maphash"
	"net"
	"net/netip"

	"github.com/seed2e8fe8ee/proxyproto"
)

// Route is how a client's datagram came, and how a reply to it goes.
type Route struct {
	// Peer is who sent the datagram, in the plain form in which a Policy gets it: the proxy, or
	// the client itself. It is zero if that isn't an IP address.
	Peer netip.AddrPort

	// Destination is the address that the client sent the datagram to, as the header says, in its
	// plain form. It is zero if no header does.
	Destination netip.AddrPort

	// TLVs are the header's, and the caller's own.
	TLVs proxyproto.TLVs
}

// RouteOf returns the Route of an address that ReadFrom returned, whether a header came with the
// datagram or not. It allocates only if there are TLVs.
//
// The Route travels with the address, in memory behind its IP: it is there in a copy of the
// *net.UDPAddr, in an HTTP/3 handler's http3.RemoteAddrContextKey, or in a dns.ResponseWriter's
// RemoteAddr. It isn't in an address that was made anew, from its text or from a copy of its IP,
// nor in one whose IP, port or zone was changed. ok is false for those. Nobody may append to the
// IP: that writes over the Route, which is noticed and then is none.
func RouteOf(addr net.Addr) (r Route, ok bool) {
	way, ok := routeOf(addr)
	if !ok {
		return Route{}, false
	}
	r = Route{Peer: plain(way.peer), Destination: way.destination}
	if len(way.tlvs) > 0 {
		r.TLVs = append(proxyproto.TLVs(nil), way.tlvs...)
	}
	return r, true
}

// ErrNoRoute is what WriteTo says of an address without a [Route]: nothing tells through which
// proxy the client is reached. It comes inside a *net.OpError.
var ErrNoRoute = errors.New("proxyudp: no route is known for this address: " +
	"WriteTo needs one that ReadFrom returned, or see PacketConn.Remember")

// A route is a Route as it is needed to reply.
type route struct {
	client      netip.AddrPort // plain, or the peer
	peer        netip.AddrPort // IPv4 as IPv4, and with its zone
	destination netip.AddrPort // plain; zero if no header says one
	local       local          // where the datagram came to, on a wildcard socket
	tlvs        []byte         // of the header
	inner       net.Addr       // the peer, if that isn't a *net.UDPAddr
}

// local is one of our own addresses.
type local struct {
	addr  netip.Addr // plain; zero if it isn't known, or can't be sent from
	iface uint32     // its index, if addr is link-local
}

// same reports whether r and o are the same route on a *net.UDPConn.
func (r *route) same(o *route) bool {
	return r.client == o.client && r.peer == o.peer && r.destination == o.destination &&
		r.local == o.local && string(r.tlvs) == string(o.tlvs)
}

// plain gives an address its one plain form: IPv4 as IPv4, and without zone.
func plain(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// addrPort returns what a has of an IP address and port, with its zone.
func addrPort(a net.Addr) netip.AddrPort {
	ip, ok := a.(interface{ AddrPort() netip.AddrPort })
	if !ok || isNil(a) {
		return netip.AddrPort{}
	}
	if udp, ok := a.(*net.UDPAddr); ok && udp.Port>>16 != 0 {
		return netip.AddrPort{} // AddrPort would make another port of it
	}
	ap := ip.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// routeOf returns the route that addr carries. Its tlvs alias addr.
func routeOf(addr net.Addr) (r route, ok bool) {
	switch a := addr.(type) {
	case *net.UDPAddr:
		if a != nil && r.decode(a) {
			return r, true
		}
	case *otherAddr:
		return a.route, true
	}
	return route{}, false
}

// An otherAddr is a client's address on a connection whose peers aren't *net.UDPAddrs.
type otherAddr struct {
	net.Addr // the client's
	route    route
}

// newOtherAddr returns the address for a route whose peer is inner.
func newOtherAddr(r *route) *otherAddr {
	a := &otherAddr{Addr: r.inner, route: *r}
	a.route.tlvs = append([]byte(nil), r.tlvs...)
	switch {
	case r.client != r.peer:
		a.Addr = net.UDPAddrFromAddrPort(r.client)
	case r.inner == nil:
		a.Addr = (*net.UDPAddr)(nil) // an inner connection that doesn't say who sent
	}
	return a
}

// The form of a route in the spare capacity of a client's IP, which ends where the route does:
//
//	flags    1 byte
//	port     2, the client's
//	peer     4 or 16 for the IP, 2 for the port, unless it is the client;
//	         with flagZone 1 more for the length of its zone, and the zone
//	dest     4 or 16 for the IP, 2 for the port, with flagDestination
//	local    4 or 16 for the IP, with flagLocal; 4 for the interface, with flagInterface
//	TLVs     2 for their length, and the TLVs, with flagTLVs
//	tag      8
//
// The tag is a hash, keyed for this process, of all before it, the client's IP with it, and of the
// zone. So what programs do to an address is noticed: if its IP, port or zone isn't the one that
// the route was made for, or the route was written over, there is none. Whatever else happens to
// lie behind an IP, even if a stranger has written it, has to hit 64 bits that never leave the
// process.
const (
	flagOwn = 1 << iota // the peer is the client
	flagZone
	flagPeer6
	flagDestination
	flagDestination6
	flagLocal
	flagInterface
	flagTLVs
)

const lenTag = 8

var seed = maphash.MakeSeed()

// tag returns the tag of an address's IP and route.
func tag(m []byte, zone string) uint64 {
	sum := maphash.Bytes(seed, m)
	if zone != "" {
		sum ^= maphash.String(seed, zone)
	}
	return sum
}

// maxRoute is the longest form without TLVs and zone, with the client's IP.
const maxRoute = 16 + 1 + 2 + 18 + 18 + 16 + 4 + lenTag

// encode appends the client's IP and the route's form to b. The IP has ip bytes.
func (r *route) encode(b []byte) (form []byte, ip int) {
	start := len(b)
	b = appendIP(b, r.client.Addr())
	ip = len(b) - start
	flags := len(b)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint16(b, r.client.Port())
	peer := r.peer.Addr()
	if r.peer == r.client {
		b[flags] |= flagOwn
	} else {
		if peer.Is6() {
			b[flags] |= flagPeer6
		}
		b = binary.BigEndian.AppendUint16(appendIP(b, peer), r.peer.Port())
		if zone := peer.Zone(); zone != "" && len(zone) < 256 {
			b[flags] |= flagZone
			b = append(append(b, byte(len(zone))), zone...)
		}
	}
	if d := r.destination; d.IsValid() {
		b[flags] |= flagDestination
		if d.Addr().Is6() {
			b[flags] |= flagDestination6
		}
		b = binary.BigEndian.AppendUint16(appendIP(b, d.Addr()), d.Port())
	}
	if r.local.addr.IsValid() { // of the peer's family
		b[flags] |= flagLocal
		b = appendIP(b, r.local.addr)
		if r.local.iface != 0 {
			b[flags] |= flagInterface
			b = binary.BigEndian.AppendUint32(b, r.local.iface)
		}
	}
	if len(r.tlvs) > 0 {
		b[flags] |= flagTLVs
		b = binary.BigEndian.AppendUint16(b, uint16(len(r.tlvs)))
		b = append(b, r.tlvs...)
	}
	return binary.NativeEndian.AppendUint64(b, tag(b[start:], r.client.Addr().Zone())), ip
}

func appendIP(b []byte, ip netip.Addr) []byte {
	if ip.Is4() {
		a := ip.As4()
		return append(b, a[:]...)
	}
	a := ip.As16()
	return append(b, a[:]...)
}

// decode makes r the route that a carries, if it carries one.
func (r *route) decode(a *net.UDPAddr) bool {
	ip := len(a.IP)
	if ip != 4 && ip != 16 || a.Port>>16 != 0 {
		return false
	}
	form := a.IP[:cap(a.IP)]
	d := decoder{form[ip:], true}
	flags := d.take(1)
	port := d.take(2)
	if !d.ok || int(binary.BigEndian.Uint16(port)) != a.Port {
		return false
	}
	has := func(flag byte) bool { return flags[0]&flag != 0 }
	client, _ := netip.AddrFromSlice(a.IP)
	peer6 := has(flagPeer6)
	var zone []byte
	if has(flagOwn) {
		peer6 = ip == 16
		client = client.WithZone(a.Zone)
	} else {
		r.peer = d.addrPort(peer6)
		if has(flagZone) {
			if n := d.take(1); d.ok {
				zone = d.take(int(n[0]))
			}
		}
	}
	r.client = netip.AddrPortFrom(client, uint16(a.Port))
	if has(flagDestination) {
		r.destination = d.addrPort(has(flagDestination6))
	}
	if has(flagLocal) {
		r.local.addr = d.addr(peer6)
	}
	if has(flagInterface) {
		if n := d.take(4); d.ok {
			r.local.iface = binary.BigEndian.Uint32(n)
		}
	}
	if has(flagTLVs) {
		if n := d.take(2); d.ok {
			r.tlvs = d.take(int(binary.BigEndian.Uint16(n)))
		}
	}
	if !d.ok || len(d.b) != lenTag ||
		binary.NativeEndian.Uint64(d.b) != tag(form[:len(form)-lenTag], a.Zone) {
		return false
	}
	switch {
	case has(flagOwn):
		r.peer = r.client
	case len(zone) > 0:
		r.peer = netip.AddrPortFrom(r.peer.Addr().WithZone(string(zone)), r.peer.Port())
	}
	return true
}

// A decoder takes a form to pieces. Its bytes may be anything.
type decoder struct {
	b  []byte
	ok bool
}

func (d *decoder) take(n int) []byte {
	if !d.ok || len(d.b) < n {
		d.ok = false
		return nil
	}
	taken := d.b[:n]
	d.b = d.b[n:]
	return taken
}

func (d *decoder) addr(six bool) netip.Addr {
	n := 4
	if six {
		n = 16
	}
	addr, _ := netip.AddrFromSlice(d.take(n))
	return addr
}

func (d *decoder) addrPort(six bool) netip.AddrPort {
	addr := d.addr(six)
	port := d.take(2)
	if !d.ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port))
}
