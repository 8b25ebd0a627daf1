package proxyudp

import (
	"encoding/binary"
	"net"
	"syscall"
)

// Flags of recvmsg.
const (
	flagPayloadCut  = syscall.MSG_TRUNC
	flagControlsCut = syscall.MSG_CTRUNC
	flagsOfWaiting  = syscall.MSG_DONTWAIT | syscall.MSG_WAITFORONE
)

// switchGROOff makes the kernel give out one datagram at a time. Kernels without the option do
// that anyway.
func switchGROOff(c *net.UDPConn) {
	const udpGRO = 104 // UDP_GRO, at the level of UDP
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_UDP, udpGRO, 0)
		})
	}
}

// controlsFor appends to b what the control messages are for a datagram that goes by r: an ECN
// mark is one of the family of the next hop, and it leaves from where the client's came to. The
// others stay.
func controlsFor(b, oob []byte, r *route) []byte {
	hop4 := r.peer.Addr().Is4()
	for c, rest, ok := nextControl(oob); ok; c, rest, ok = nextControl(rest) {
		mark, isMark := c.trafficClass()
		switch {
		case isMark && hop4:
			b = appendMark(b, syscall.IPPROTO_IP, syscall.IP_TOS, mark)
		case isMark:
			b = appendMark(b, syscall.IPPROTO_IPV6, syscall.IPV6_TCLASS, mark)
		case c.isPktInfo4(), c.isPktInfo6():
			if !r.local.addr.IsValid() && c.isPktInfo4() == hop4 {
				b = append(b, c.whole...)
			}
		default:
			b = append(b, c.whole...)
		}
		for len(b)%(syscall.CmsgSpace(1)-lenControl) != 0 {
			b = append(b, 0)
		}
	}
	if r.local.addr.IsValid() {
		b = appendLocal(b, r.local)
	}
	return b
}

func appendMark(b []byte, level, typ, mark uint32) []byte {
	b, data := appendControl(b, level, typ, 4)
	binary.NativeEndian.PutUint32(data, mark)
	return b
}

// trafficClass returns the byte of IPv4's TOS or IPv6's traffic class that a message sets.
func (c *control) trafficClass() (mark uint32, ok bool) {
	if c.level == syscall.IPPROTO_IP && c.typ == syscall.IP_TOS ||
		c.level == syscall.IPPROTO_IPV6 && c.typ == syscall.IPV6_TCLASS {
		switch {
		case len(c.data) >= 4:
			return binary.NativeEndian.Uint32(c.data), true
		case len(c.data) > 0:
			return uint32(c.data[0]), true
		}
	}
	return 0, false
}
