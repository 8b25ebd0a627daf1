package proxyudp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// reportLocal makes the kernel report with each datagram which address it was sent to. A socket
// of IPv6 takes IPv4 too: each is reported in its own family.
func reportLocal(c *net.UDPConn) bool {
	four := ipv4.NewPacketConn(c).SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
	six := ipv6.NewPacketConn(c).SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
	return four == nil || six == nil
}

// The control messages are taken to pieces here, because package ipv4 allocates four times for one.
const (
	lenPktInfo4 = 12 // interface, our address for a reply, the datagram's destination
	lenPktInfo6 = 20 // destination, interface
	lenControl  = syscall.SizeofCmsghdr
)

// lenLocal is room for the control messages that report where a datagram came to, after those of
// other options that the kernel puts before them (time stamps, 64 bytes, and overflows, 24).
const lenLocal = 64 + 24 + 2*(lenControl+lenPktInfo6+4)

// A control is a control message: a header of its length, level and type, and data.
type control struct {
	level, typ uint32
	data       []byte
	whole      []byte
}

// nextControl returns the first of the control messages in b, and what follows it.
func nextControl(b []byte) (c control, rest []byte, ok bool) {
	const lenSize = lenControl - 8 // that of size_t
	if len(b) < lenControl {
		return c, nil, false
	}
	n := uint64(binary.NativeEndian.Uint32(b))
	if lenSize == 8 {
		n = binary.NativeEndian.Uint64(b)
	}
	if n < lenControl || n > uint64(len(b)) {
		return c, nil, false
	}
	c.level = binary.NativeEndian.Uint32(b[lenSize:])
	c.typ = binary.NativeEndian.Uint32(b[lenSize+4:])
	c.data, c.whole = b[lenControl:n], b[:n]
	return c, b[min(len(b), syscall.CmsgSpace(int(n)-lenControl)):], true
}

// appendControl appends a control message with room for n bytes of data, and returns that too.
func appendControl(b []byte, level, typ uint32, n int) (oob, data []byte) {
	const lenSize = lenControl - 8
	start := len(b)
	var zero [64]byte
	b = append(b, zero[:syscall.CmsgSpace(n)]...)
	if lenSize == 8 {
		binary.NativeEndian.PutUint64(b[start:], uint64(syscall.CmsgLen(n)))
	} else {
		binary.NativeEndian.PutUint32(b[start:], uint32(syscall.CmsgLen(n)))
	}
	binary.NativeEndian.PutUint32(b[start+lenSize:], level)
	binary.NativeEndian.PutUint32(b[start+lenSize+4:], typ)
	return b, b[start+lenControl:][:n]
}

// parseLocal returns the address that a datagram came to, from its control messages.
func parseLocal(oob []byte) (l local) {
	for c, rest, ok := nextControl(oob); ok; c, rest, ok = nextControl(rest) {
		switch {
		case c.isPktInfo4():
			// The address for a reply: the destination may be a broadcast or multicast one.
			return local{addr: netip.AddrFrom4([4]byte(c.data[4:]))}
		case c.isPktInfo6():
			l = local{addr: netip.AddrFrom16([16]byte(c.data)).Unmap()}
			switch {
			case l.addr.IsMulticast():
				l = local{}
			case l.addr.IsLinkLocalUnicast():
				l.iface = binary.NativeEndian.Uint32(c.data[16:])
			}
		}
	}
	return l
}

func (c *control) isPktInfo4() bool {
	return c.level == syscall.IPPROTO_IP && c.typ == syscall.IP_PKTINFO &&
		len(c.data) >= lenPktInfo4
}

func (c *control) isPktInfo6() bool {
	return c.level == syscall.IPPROTO_IPV6 && c.typ == syscall.IPV6_PKTINFO &&
		len(c.data) >= lenPktInfo6
}

// appendLocal appends the control message that makes a datagram leave from l.
func appendLocal(oob []byte, l local) []byte {
	if l.addr.Is4() {
		oob, data := appendControl(oob, syscall.IPPROTO_IP, syscall.IP_PKTINFO, lenPktInfo4)
		ip := l.addr.As4()
		copy(data[4:], ip[:])
		return oob
	}
	oob, data := appendControl(oob, syscall.IPPROTO_IPV6, syscall.IPV6_PKTINFO, lenPktInfo6)
	ip := l.addr.As16()
	copy(data, ip[:])
	binary.NativeEndian.PutUint32(data[16:], l.iface)
	return oob
}
