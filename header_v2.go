package proxyproto

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
)

// Version 2, section 2.2:
//
//	 0               12        13        14          16
//	+----------------+---------+---------+-----------+-----------+------+
//	| signature      | version | family  | length of | addresses | TLVs |
//	|                | command | transp. | the block |           |      |
//	+----------------+---------+---------+-----------+-----------+------+
//	                                                  \____ the block ____/
//
// Addresses are source address, destination address, source port, destination port, in
// network byte order: 12 bytes for IPv4 and 36 for IPv6. AF_UNIX has two names of 108 bytes.
const (
	signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"
	lenV2       = 16
	lenIPv4     = 2*4 + 2*2
	lenIPv6     = 2*16 + 2*2
	lenUnixName = 108
	lenUnix     = 2 * lenUnixName
)

// UnixAddrs are the two addresses of an AF_UNIX header as they are on the wire.
type UnixAddrs [lenUnix]byte

// NewUnixAddrs returns the wire form of two socket names. A name has at most 108 bytes; one
// that begins with @ is in the abstract namespace, as in package net.
func NewUnixAddrs(source, destination string) (*UnixAddrs, error) {
	u := new(UnixAddrs)
	for i, name := range []string{source, destination} {
		if len(name) > lenUnixName {
			return nil, unencodable(
				"the socket name " + strconv.Quote(name) + " has more than 108 bytes")
		}
		wire := u[i*lenUnixName:]
		copy(wire, name)
		if name != "" && name[0] == '@' {
			wire[0] = 0
		}
	}
	return u, nil
}

// Source is the name of the client's socket: a path, or a NUL and a name in the abstract
// namespace; empty if it had none. It aliases u.
func (u *UnixAddrs) Source() []byte { return unixName(u[:lenUnixName:lenUnixName]) }

// Destination is the name of the socket that the client connected to, in the same form.
func (u *UnixAddrs) Destination() []byte { return unixName(u[lenUnixName:]) }

func unixName(b []byte) []byte {
	end := len(b)
	if b[0] != 0 {
		for i, c := range b {
			if c == 0 {
				end = i
				break
			}
		}
		return b[:end]
	}
	for end > 0 && b[end-1] == 0 {
		end--
	}
	return b[:end]
}

func parseV2(h *Header, b []byte) (int, error) {
	if len(b) < lenV2 || string(b[:len(signatureV2)]) != signatureV2 {
		return 0, refuseStartV2(b)
	}
	protocol := Protocol(b[13])
	switch {
	case b[12] == byte(V2)<<4|byte(Local):
		protocol = Unspec
	case b[12] != byte(V2)<<4|byte(Proxy) || !protocol.valid():
		return 0, refuseStartV2(b)
	}
	size := lenV2 + int(binary.BigEndian.Uint16(b[14:]))
	addresses := lenV2 + lenAddresses(protocol)
	if size < addresses || size > len(b) {
		return 0, refuseBlock(b, addresses, size)
	}
	h.Version, h.Command, h.Protocol = V2, Command(b[12]&0x0f), protocol
	switch protocol {
	case TCP4, UDP4:
		w := (*[lenV2 + lenIPv4]byte)(b)
		h.Source = withPort(netip.AddrFrom4([4]byte(w[16:])), w[24:])
		h.Destination = withPort(netip.AddrFrom4([4]byte(w[20:])), w[26:])
	case TCP6, UDP6:
		w := (*[lenV2 + lenIPv6]byte)(b)
		h.Source = withPort(netip.AddrFrom16([16]byte(w[16:])), w[48:])
		h.Destination = withPort(netip.AddrFrom16([16]byte(w[32:])), w[50:])
	case UnixStream, UnixDatagram:
		h.Unix = (*UnixAddrs)(b[lenV2:])
	default:
		return size, nil
	}
	if size == addresses {
		return size, nil
	}
	if err := checkTLVs(b[:size], addresses, size); err != nil {
		*h = Header{}
		return 0, err
	}
	h.TLVs = TLVs(b[addresses:size:size])
	return size, nil
}

func withPort(addr netip.Addr, port []byte) netip.AddrPort {
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port))
}

// lenAddresses is how long the addresses of a protocol are, 0 if it has none.
func lenAddresses(p Protocol) int {
	switch p {
	case TCP4, UDP4:
		return lenIPv4
	case TCP6, UDP6:
		return lenIPv6
	case UnixStream, UnixDatagram:
		return lenUnix
	}
	return 0
}

// refuseBlock tells what is wrong with a block that is too short for the addresses or not
// there as a whole.
func refuseBlock(b []byte, addresses, size int) error {
	if size < addresses {
		return formatError(badBlockLength, 14)
	}
	if addresses > lenV2 {
		if err := checkTLVs(b, addresses, size); err != nil {
			return err
		}
	}
	return ErrIncomplete
}

// refuseStartV2 tells what is wrong with the first 14 bytes, or that they are too few to tell.
func refuseStartV2(b []byte) error {
	for i := range min(len(b), len(signatureV2)) {
		if b[i] != signatureV2[i] {
			return ErrNoHeader
		}
	}
	switch {
	case len(b) <= 12:
		return ErrIncomplete
	case b[12]>>4 != byte(V2):
		return formatError(badVersion, 12)
	case b[12]&0x0f > byte(Proxy):
		return formatError(badCommand, 12)
	case len(b) <= 13 || b[12]&0x0f == byte(Local):
		return ErrIncomplete
	case b[13]>>4 > 3:
		return formatError(badFamily, 13)
	case b[13]&0x0f > 2:
		return formatError(badTransport, 13)
	}
	return ErrIncomplete
}

// declaredSize returns the size that a version 2 header claims, once it has.
func declaredSize(b []byte) (size int, ok bool) {
	if len(b) < lenV2 || b[0] != signatureV2[0] {
		return 0, false
	}
	return lenV2 + int(binary.BigEndian.Uint16(b[14:])), true
}

func appendV2(h *Header, b []byte) ([]byte, error) {
	switch {
	case h.Command > Proxy:
		return b, unencodable("there is no command " + h.Command.String())
	case !h.Protocol.valid():
		return b, unencodable("there is no protocol " + h.Protocol.String())
	case h.Command == Local && h.Protocol != Unspec:
		return b, unencodable("a LOCAL header has no protocol")
	case h.Protocol.unspec() && len(h.TLVs) > 0:
		return b, unencodable("receivers don't look for TLVs in a " +
			h.Command.String() + " " + h.Protocol.String() + " header")
	}
	if err := h.checkAddresses(); err != nil {
		return b, err
	}
	addresses := lenV2 + lenAddresses(h.Protocol)
	size := addresses + len(h.TLVs)
	if size > maxHeader {
		return b, unencodable("the addresses and TLVs have more than 65535 bytes")
	}
	crc := 0
	if len(h.TLVs) > 0 {
		var err *FormatError
		if crc, err = frameTLVs(h.TLVs, 0, len(h.TLVs)); err != nil {
			return b, unencodable(err.Rule)
		}
	}

	// What b has room for may be where the TLVs and the Unix addresses are: they go first.
	b = slices.Grow(b, size)
	header := b[len(b) : len(b)+size]
	if h.Unix != nil {
		unix := *h.Unix
		copy(header[addresses:], h.TLVs)
		copy(header[lenV2:], unix[:])
	} else {
		copy(header[addresses:], h.TLVs)
	}

	w := append(header[:0], signatureV2...)
	w = append(w, byte(V2)<<4|byte(h.Command), byte(h.Protocol))
	w = binary.BigEndian.AppendUint16(w, uint16(size-lenV2))
	switch h.Protocol {
	case TCP4, UDP4, TCP6, UDP6:
		w, _ = h.Source.Addr().AppendBinary(w)
		w, _ = h.Destination.Addr().AppendBinary(w)
		w = binary.BigEndian.AppendUint16(w, h.Source.Port())
		binary.BigEndian.AppendUint16(w, h.Destination.Port())
	}
	if crc > 0 {
		crc += addresses
		binary.BigEndian.PutUint32(header[crc:], checksum(header, crc))
	}
	return b[:len(b)+size], nil
}
