package proxyproto

import (
	"net"
	"net/netip"
)

// PacketAddr is the address that a [PacketConn]'s ReadFrom returns, for every datagram: the
// client's to look at, and the way back to it for WriteTo. That is all that a reply needs: give
// WriteTo this very value, or a copy of it.
//
// For a datagram whose header is believed the client is the header's source and the peer is the proxy.
// For any other they are both who sent it: a proxy that speaks for itself (LOCAL), says that it
// doesn't know the client (UNSPEC, UNKNOWN), or peers without a header, by what the Policy says.
//
// Two PacketAddrs are equal by == if client, destination and peer are, on a *net.UDPConn.
// Their Strings are equal if the clients are: servers that know a client by that, as quic-go does, see no
// difference between two proxies, and go on replying through the first.
type PacketAddr struct {
	client      netip.AddrPort // plain IPv4 if it is IPv4; zero if it has no IP
	destination netip.AddrPort // the header's, in the same form
	peer        netip.AddrPort // as a *net.UDPConn knows it
	inner       net.Addr       // as any other inner connection knows it
	other       net.Addr       // the client if it has no IP
}

// ownAddr is the address of a peer that speaks for itself.
func ownAddr(peer netip.AddrPort, inner net.Addr) PacketAddr {
	a := PacketAddr{peer: peer, inner: inner}
	if inner != nil {
		if ip, ok := inner.(interface{ AddrPort() netip.AddrPort }); ok {
			peer = ip.AddrPort()
		} else {
			a.other = inner
		}
	}
	if peer.IsValid() {
		a.client = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()) // the zone stays: it is needed to write to it
	}
	return a
}

// behind is the address of the client that a header from the peer a tells of.
func (a PacketAddr) behind(h *Header) PacketAddr {
	switch {
	case h.Unix != nil:
		a.client, a.other = netip.AddrPort{}, h.SourceAddr()
	case h.Source.IsValid():
		a.client, a.destination, a.other = unmap(h.Source), unmap(h.Destination), nil
	}
	return a
}

// Network returns "udp", also if the header says TCP: it is by UDP that the client is
// reached. For a client without an IP address it is "unixgram" or what that address says.
func (a PacketAddr) Network() string {
	if a.other != nil {
		return a.other.Network()
	}
	return "udp"
}

// String returns the client's IP and port, as a *net.UDPAddr does, or the name of its Unix socket.
func (a PacketAddr) String() string {
	if a.other != nil {
		return a.other.String()
	}
	return a.client.String()
}

// MarshalText returns what String does.
func (a PacketAddr) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// AddrPort returns the client's IP and port, or the zero AddrPort if it has none.
func (a PacketAddr) AddrPort() netip.AddrPort { return a.client }

// Unwrap returns the client's address as package net has it: a *net.UDPAddr, or a
// *net.UnixAddr for a Unix socket. It is the caller's own. WriteTo doesn't take it, because it
// doesn't say through which proxy the client is reached.
func (a PacketAddr) Unwrap() net.Addr {
	if a.client.IsValid() {
		return net.UDPAddrFromAddrPort(a.client)
	}
	return a.other
}

// Peer returns the address that sent the datagram, in the plain form in which a Policy gets it:
// the proxy's, or the client's own. It is zero if that isn't an IP address.
func (a PacketAddr) Peer() netip.AddrPort {
	if a.inner != nil {
		return addrPort(a.inner)
	}
	return unmap(a.peer)
}

// Destination returns the address that the client sent the datagram to, as the header says, or
// the zero AddrPort if no header does.
func (a PacketAddr) Destination() netip.AddrPort { return a.destination }
