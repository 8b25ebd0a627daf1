package proxyproto

import (
	"net"
	"net/netip"
)

// PacketAddr is the address that a [PacketConn]'s ReadFrom returns, for every datagram, as a
// *PacketAddr: the client's to look at, and the way back to it for WriteTo. That is all that a
// reply needs: give WriteTo this address, or a copy of it. It never changes.
//
// For a datagram whose header is believed the client is the header's source and the peer is the
// proxy. For any other they are both who sent it: a proxy that speaks for itself (LOCAL) or
// doesn't know the client (UNSPEC, UNKNOWN), or a peer without a header, if the Policy allows it.
//
// *a == *b if client, destination and peer are the same (on a *net.UDPConn, and without zones).
// a.String() == b.String() if the clients are: servers that know a client by that, as quic-go
// does, see no difference between two proxies, or two sockets of one, and go on replying to the
// first. [PacketConn.Remember] is for them.
type PacketAddr struct {
	client, destination, peer ipPort

	// Which of them there are. Without a destination the client is the peer.
	hasClient, hasDestination, hasPeer bool

	rare *rareAddr // nil nearly always
}

// ipPort is a netip.AddrPort in little space, because a PacketAddr is made for every
// datagram: IPv4 as IPv4-mapped IPv6, and without zone.
type ipPort struct {
	ip   [16]byte
	port uint16
}

func pack(ap netip.AddrPort) ipPort { return ipPort{ap.Addr().As16(), ap.Port()} }

func (p *ipPort) addrPort() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(p.ip).Unmap(), p.port)
}

// rareAddr is what few addresses have.
type rareAddr struct {
	inner  net.Addr // the peer, if the inner connection isn't a *net.UDPConn
	zone   string   // the peer's
	client net.Addr // if it is a Unix socket
}

// own makes a, which is zero, the address of a peer that speaks for itself. inner is nil on a
// *net.UDPConn.
func (a *PacketAddr) own(peer netip.AddrPort, inner net.Addr) {
	if zone := peer.Addr().Zone(); zone != "" || inner != nil {
		a.rare = &rareAddr{inner: inner, zone: zone}
	}
	if peer.IsValid() {
		a.peer = pack(peer)
		a.client, a.hasPeer, a.hasClient = a.peer, true, true
	} else if inner != nil {
		a.rare.client = inner
	}
}

// behind makes a the address of the client that a header from the peer a tells of.
func (a *PacketAddr) behind(h *Header) {
	switch {
	case h.Unix != nil:
		rare := rareAddr{client: h.SourceAddr()}
		if a.rare != nil {
			rare.inner, rare.zone = a.rare.inner, a.rare.zone
		}
		a.client, a.hasClient, a.rare = ipPort{}, false, &rare
	case h.Source.IsValid():
		a.client, a.destination = pack(h.Source), pack(h.Destination)
		a.hasClient, a.hasDestination = true, true
	}
}

// socketPeer returns the peer as a *net.UDPConn writes to it.
func (a *PacketAddr) socketPeer() netip.AddrPort {
	peer := a.peer.addrPort()
	if a.rare != nil {
		peer = netip.AddrPortFrom(peer.Addr().WithZone(a.rare.zone), peer.Port())
	}
	return peer
}

// nonIP returns the client if it has no IP address, and nil if it has, or is unknown.
func (a *PacketAddr) nonIP() net.Addr {
	if a.hasClient || a.rare == nil {
		return nil
	}
	return a.rare.client
}

// Network returns "udp", also if the header says TCP: it is by UDP that the client is
// reached. For a client without an IP address it is "unixgram" or what that address says.
func (a *PacketAddr) Network() string {
	if other := a.nonIP(); other != nil {
		return other.Network()
	}
	return "udp"
}

// String returns the client's IP and port, as a *net.UDPAddr does, or the name of its Unix socket.
func (a *PacketAddr) String() string {
	if other := a.nonIP(); other != nil {
		return other.String()
	}
	return a.AddrPort().String()
}

// MarshalText returns what String does.
func (a *PacketAddr) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// AddrPort returns the client's IP and port, or the zero AddrPort if it has none.
func (a *PacketAddr) AddrPort() netip.AddrPort {
	switch {
	case !a.hasClient:
		return netip.AddrPort{}
	case a.hasDestination:
		return a.client.addrPort()
	}
	return a.socketPeer() // with its zone, which it takes to write to it
}

// Unwrap returns the client's address as package net has it: a *net.UDPAddr, or a
// *net.UnixAddr for a Unix socket. It is the caller's own. WriteTo doesn't take it, because it
// doesn't say through which proxy the client is reached.
func (a *PacketAddr) Unwrap() net.Addr {
	if a.hasClient {
		return net.UDPAddrFromAddrPort(a.AddrPort())
	}
	return a.nonIP()
}

// Peer returns the address that sent the datagram, in the plain form in which a Policy gets it:
// the proxy's, or the client's own. It is zero if that isn't an IP address.
func (a *PacketAddr) Peer() netip.AddrPort {
	if !a.hasPeer {
		return netip.AddrPort{}
	}
	return a.peer.addrPort()
}

// Destination returns the address that the client sent the datagram to, as the header says, or
// the zero AddrPort if no header does.
func (a *PacketAddr) Destination() netip.AddrPort {
	if !a.hasDestination {
		return netip.AddrPort{}
	}
	return a.destination.addrPort()
}
