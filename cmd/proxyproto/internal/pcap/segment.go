package pcap

import (
	"encoding/binary"
	"net/netip"
)

// Link types, https://www.tcpdump.org/linktypes.html
const (
	linkNull     = 0 // loopback of BSD and macOS
	linkEthernet = 1
	linkRawBSD   = 12
	linkRawOBSD  = 14
	linkRaw      = 101
	linkLoop     = 108
	linkSLL      = 113 // Linux, any interface
	linkIPv4     = 228
	linkIPv6     = 229
	linkSLL2     = 276
)

const (
	etherIPv4   = 0x0800
	etherIPv6   = 0x86DD
	etherVLAN   = 0x8100
	etherVLANQ  = 0x88A8
	protocolTCP = 6
	protocolUDP = 17

	flagSYN = 0x02
	flagACK = 0x10
)

// known reports whether packets of the link type can be read.
func known(link uint32) bool {
	switch link {
	case linkNull, linkEthernet, linkRawBSD, linkRawOBSD, linkRaw, linkLoop, linkSLL, linkIPv4, linkIPv6, linkSLL2:
		return true
	}
	return false
}

// segment is a TCP segment or a UDP datagram.
type segment struct {
	protocol            byte
	source, destination netip.AddrPort
	seq                 uint32 // TCP: of the first byte of payload, or of the SYN
	ack                 uint32 // TCP
	flags               byte
	payload             []byte
	missing             int // bytes of payload that the capture doesn't have
}

// ip returns the IP packet inside a frame, nil if there is none.
func ip(link uint32, b []byte) []byte {
	head, kind := 0, -1 // where the IP packet begins, and where its EtherType stands
	switch link {
	case linkEthernet:
		head, kind = 14, 12
		for len(b) >= head+4 && (etherType(b, kind) == etherVLAN || etherType(b, kind) == etherVLANQ) {
			head, kind = head+4, kind+4
		}
	case linkSLL:
		head, kind = 16, 14
	case linkSLL2:
		head, kind = 20, 0
	case linkNull, linkLoop:
		head = 4 // the address family, whose numbers and byte order are the system's
	}
	if len(b) <= head {
		return nil
	}
	if kind >= 0 && etherType(b, kind) != etherIPv4 && etherType(b, kind) != etherIPv6 {
		return nil
	}
	return b[head:]
}

func etherType(b []byte, at int) uint16 { return binary.BigEndian.Uint16(b[at:]) }

// parseSegment reads the TCP segment or UDP datagram in an IP packet. It isn't ok if there is none,
// or only a later fragment of one.
func parseSegment(b []byte) (s segment, ok bool) {
	var source, destination netip.Addr
	size := len(b) // of the packet when it was sent
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		head := int(b[0]&0x0F) * 4
		// 0 stands for a packet that the network card was to cut into several.
		if n := int(binary.BigEndian.Uint16(b[2:])); n > 0 {
			size = n
		}
		if head < 20 || len(b) < head || size < head || binary.BigEndian.Uint16(b[6:])&0x1FFF != 0 {
			return s, false
		}
		source, destination = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		s.protocol, b, size = b[9], b[head:], size-head
	case len(b) >= 40 && b[0]>>4 == 6:
		if n := int(binary.BigEndian.Uint16(b[4:])); n > 0 {
			size = 40 + n
		}
		source, destination = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		s.protocol, b, size = b[6], b[40:], size-40
		if s.protocol, b, size, ok = skipExtensions(s.protocol, b, size); !ok {
			return s, false
		}
	default:
		return s, false
	}
	head := 8
	switch {
	case s.protocol == protocolTCP && len(b) >= 20:
		head = int(b[12]>>4) * 4
		s.seq, s.ack, s.flags = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]), b[13]
	case s.protocol == protocolUDP && len(b) >= 8:
		// Of the first of several fragments the UDP length says what all have together.
		if n := int(binary.BigEndian.Uint16(b[4:])); n >= 8 {
			size = n
		}
	default:
		return s, false
	}
	if len(b) < head || head < 8 {
		return s, false
	}
	s.source = netip.AddrPortFrom(source, binary.BigEndian.Uint16(b))
	s.destination = netip.AddrPortFrom(destination, binary.BigEndian.Uint16(b[2:]))
	s.payload = b[head:min(len(b), max(size, head))] // what follows pads the frame
	s.missing = max(0, size-len(b))
	return s, true
}

// skipExtensions skips the extension headers of an IPv6 packet.
func skipExtensions(protocol byte, b []byte, size int) (byte, []byte, int, bool) {
	for {
		n := 0
		switch protocol {
		case 0, 43, 60: // hop-by-hop, routing, destination
			if len(b) < 8 {
				return 0, nil, 0, false
			}
			n = 8 + 8*int(b[1])
		case 44: // fragment
			if len(b) < 8 || binary.BigEndian.Uint16(b[2:])&0xFFF8 != 0 {
				return 0, nil, 0, false
			}
			n = 8
		default:
			return protocol, b, size, true
		}
		if len(b) < n {
			return 0, nil, 0, false
		}
		protocol, b, size = b[0], b[n:], size-n
	}
}
