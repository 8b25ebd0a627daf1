package pcap

import (
	"encoding/binary"
	"net/netip"
)

// The two ends of the tests' conversations.
var (
	client4 = netip.MustParseAddrPort("192.0.2.7:56324")
	server4 = netip.MustParseAddrPort("198.51.100.1:443")
	client6 = netip.MustParseAddrPort("[2001:db8::7]:56324")
	server6 = netip.MustParseAddrPort("[2001:db8::1]:443")
)

// tcp builds an IP packet with a TCP segment.
func tcp(from, to netip.AddrPort, flags byte, seq, ack uint32, payload string) []byte {
	b := binary.BigEndian.AppendUint16(nil, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, ack)
	b = append(b, 6<<4, flags, 0xFF, 0xFF, 0, 0, 0, 0, 1, 1, 1, 1) // four bytes of options
	return ipPacket(from, to, protocolTCP, append(b, payload...))
}

// udp builds an IP packet with a UDP datagram.
func udp(from, to netip.AddrPort, payload string) []byte {
	b := binary.BigEndian.AppendUint16(nil, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return ipPacket(from, to, protocolUDP, append(append(b, 0, 0), payload...))
}

func ipPacket(from, to netip.AddrPort, protocol byte, b []byte) []byte {
	if from.Addr().Is6() {
		return ipv6(from, to, protocol, b)
	}
	h := []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0}
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(b)))
	h = append(h, from.Addr().AsSlice()...)
	return append(append(h, to.Addr().AsSlice()...), b...)
}

func ipv6(from, to netip.AddrPort, next byte, b []byte) []byte {
	h := []byte{0x60, 0, 0, 0, 0, 0, next, 64}
	binary.BigEndian.PutUint16(h[4:], uint16(len(b)))
	h = append(h, from.Addr().AsSlice()...)
	return append(append(h, to.Addr().AsSlice()...), b...)
}

// frame puts an IP packet behind the head of a link type.
func frame(link uint32, ip []byte) []byte {
	ether := []byte{0x08, 0x00}
	if ip[0]>>4 == 6 {
		ether = []byte{0x86, 0xDD}
	}
	var head []byte
	switch link {
	case linkEthernet:
		head = append(make([]byte, 12), ether...)
	case linkSLL:
		head = append(make([]byte, 14), ether...)
	case linkSLL2:
		head = append(ether, make([]byte, 18)...)
	case linkNull, linkLoop:
		head = []byte{2, 0, 0, 0}
	}
	return append(head, ip...)
}

// classic builds a pcap file.
func classic(order binary.AppendByteOrder, magic, link uint32, packets ...[]byte) []byte {
	b := order.AppendUint32(nil, magic)
	b = order.AppendUint16(order.AppendUint16(b, 2), 4)
	b = append(b, make([]byte, 8)...)
	b = order.AppendUint32(b, 262144)
	b = order.AppendUint32(b, link)
	for _, p := range packets {
		b = append(b, make([]byte, 8)...)
		b = order.AppendUint32(b, uint32(len(p)))
		b = order.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

// capture builds the file that most tests read.
func capture(packets ...[]byte) []byte {
	return classic(binary.LittleEndian, magicMicroseconds, linkRaw, packets...)
}

// ng builds a section of a pcapng file. kind is that of the blocks with the packets.
func ng(order binary.AppendByteOrder, kind, link uint32, packets ...[]byte) []byte {
	section := order.AppendUint32(nil, byteOrderMagic)
	section = order.AppendUint16(order.AppendUint16(section, 1), 0)
	section = append(section, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF)
	b := block(order, blockSection, section)
	b = append(b, block(order, 0x0BAD, []byte("skip"))...) // of a type that nobody knows
	network := order.AppendUint16(nil, uint16(link))
	b = append(b, block(order, blockInterface, append(network, 0, 0, 0, 0, 0, 0))...)
	for _, p := range packets {
		var body []byte
		switch kind {
		case blockSimplePacket:
			body = order.AppendUint32(nil, uint32(len(p)))
		case blockEnhancedPacket, blockPacket: // interface 0 in either form
			body = order.AppendUint32(make([]byte, 12), uint32(len(p)))
			body = order.AppendUint32(body, uint32(len(p)))
		}
		b = append(b, block(order, kind, append(body, p...))...)
	}
	return b
}

func block(order binary.AppendByteOrder, kind uint32, body []byte) []byte {
	body = append(body, make([]byte, -len(body)&3)...)
	b := order.AppendUint32(nil, kind)
	b = order.AppendUint32(b, uint32(12+len(body)))
	return order.AppendUint32(append(b, body...), uint32(12+len(body)))
}
