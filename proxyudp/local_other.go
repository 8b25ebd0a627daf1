//go:build !linux

package proxyudp

import (
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// lenLocal is room for the control messages that report where a datagram came to.
const lenLocal = 128

// reportLocal makes the kernel report with each datagram which address it was sent to, where
// package ipv4 or ipv6 can.
func reportLocal(c *net.UDPConn) bool {
	four := ipv4.NewPacketConn(c).SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
	six := ipv6.NewPacketConn(c).SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
	return four == nil || six == nil
}

// parseLocal returns the address that a datagram came to, from its control messages.
func parseLocal(oob []byte) (l local) {
	var four ipv4.ControlMessage
	var six ipv6.ControlMessage
	if four.Parse(oob) == nil && four.Dst != nil {
		l.addr, _ = netip.AddrFromSlice(four.Dst)
	} else if six.Parse(oob) == nil && six.Dst != nil {
		l.addr, _ = netip.AddrFromSlice(six.Dst)
		if l.addr = l.addr.Unmap(); l.addr.IsLinkLocalUnicast() {
			l.iface = uint32(six.IfIndex)
		}
	}
	if l.addr.IsMulticast() {
		return local{}
	}
	return l
}

// appendLocal appends the control message that makes a datagram leave from l.
func appendLocal(oob []byte, l local) []byte {
	if l.addr.Is4() {
		four := ipv4.ControlMessage{Src: l.addr.AsSlice()}
		return append(oob, four.Marshal()...)
	}
	six := ipv6.ControlMessage{Src: l.addr.AsSlice(), IfIndex: int(l.iface)}
	return append(oob, six.Marshal()...)
}
