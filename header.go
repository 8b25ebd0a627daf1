package proxyproto

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
)

// Version is a version of the PROXY protocol.
type Version uint8

const (
	V1 Version = 1 // human-readable, section 2.1
	V2 Version = 2 // binary, section 2.2
)

// String returns "v1" or "v2".
func (v Version) String() string { return "v" + strconv.Itoa(int(v)) }

// MarshalText returns what String does. It is an error if v isn't one of the constants.
func (v Version) MarshalText() ([]byte, error) {
	if v != V1 && v != V2 {
		return nil, fmt.Errorf("proxyproto: there is no version %d", v)
	}
	return []byte(v.String()), nil
}

// UnmarshalText reads "v1" or "v2".
func (v *Version) UnmarshalText(text []byte) error {
	for _, known := range []Version{V1, V2} {
		if known.String() == string(text) {
			*v = known
			return nil
		}
	}
	return fmt.Errorf("proxyproto: there is no version %q: expected v1 or v2", text)
}

// Command says on whose behalf the connection was made, as on the wire of version 2
// (the low half of the 13th byte). A version 1 header is always Proxy.
type Command uint8

const (
	Local Command = 0 // by the proxy for itself, as for a health check
	Proxy Command = 1 // for a client
)

func (c Command) String() string {
	switch c {
	case Local:
		return "LOCAL"
	case Proxy:
		return "PROXY"
	}
	return "Command(" + strconv.Itoa(int(c)) + ")"
}

// Protocol is the client connection's address family and transport, as on the wire of
// version 2 (the 14th byte): the family in the high half, the transport in the low one.
//
// Besides the constants, 0x01, 0x02, 0x10, 0x20 and 0x30 are legal on the wire: one half is
// UNSPEC. Such a header says as little as one with Unspec.
type Protocol uint8

const (
	Unspec       Protocol = 0x00 // unknown or unsupported; version 1 writes UNKNOWN
	TCP4         Protocol = 0x11
	UDP4         Protocol = 0x12
	TCP6         Protocol = 0x21
	UDP6         Protocol = 0x22
	UnixStream   Protocol = 0x31
	UnixDatagram Protocol = 0x32
)

func (p Protocol) String() string {
	switch p {
	case Unspec:
		return "UNSPEC"
	case TCP4:
		return "TCP4"
	case UDP4:
		return "UDP4"
	case TCP6:
		return "TCP6"
	case UDP6:
		return "UDP6"
	case UnixStream:
		return "UNIX_STREAM"
	case UnixDatagram:
		return "UNIX_DGRAM"
	}
	return "Protocol(0x" + strconv.FormatUint(uint64(p), 16) + ")"
}

// unspec reports whether one half of p is UNSPEC.
func (p Protocol) unspec() bool { return p>>4 == 0 || p&0x0f == 0 }

// stream returns p as it is over a stream: TCP for UDP, for example.
func (p Protocol) stream() Protocol {
	if p&0x0f == UDP4&0x0f {
		p--
	}
	return p
}

// valid reports whether the spec allows p on the wire.
func (p Protocol) valid() bool { return p>>4 <= 3 && p&0x0f <= 2 }

// Header is what a PROXY protocol header says. What Parse returns is valid; what AppendTo
// accepts is what Parse can return.
type Header struct {
	Version  Version
	Command  Command
	Protocol Protocol

	// Source is the client and Destination the address that it connected to. They are zero
	// unless Protocol is TCP or UDP over IP. An IPv4-mapped IPv6 address stays one, as it was
	// sent; [Header.SourceAddr] and [Header.DestinationAddr] give it as plain IPv4.
	Source, Destination netip.AddrPort

	// TLVs are the header's extensions, encoded; empty in version 1.
	TLVs TLVs

	// Unix has the addresses if Protocol is UnixStream or UnixDatagram, and is nil otherwise.
	Unix *UnixAddrs
}

// maxHeader is the size of the longest header: 16 bytes and a block of 65,535.
const maxHeader = lenV2 + 1<<16 - 1

// Parse reads the header that b begins with. It returns the header and its length n in
// bytes: b[n:] is the connection's payload. Both versions are recognized.
//
// If there is no valid header n is 0 and err is [ErrNoHeader] as soon as b can't begin one,
// [ErrIncomplete] as long as more bytes could complete it (so also for an empty b), and
// otherwise a [*FormatError], for which errors.Is(err, ErrMalformed) holds. No refusal waits
// for more bytes than it needs (but the CRC32C is computed when the header is whole), and the
// outcome doesn't depend on how b grew.
//
// Where the spec (sections 2.1 and 2.2) leaves the receiver a choice:
//   - LOCAL: the block after the 16 fixed bytes is skipped whatever its form, the family and
//     protocol byte with it. The header has Command Local and nothing else.
//   - UNKNOWN in version 1, and UNSPEC as family or transport in version 2, are accepted: the
//     rest of the header is skipped. The header has no addresses and no TLVs.
//   - UDP and AF_UNIX are reported as what they are.
//   - A version 1 line is read by its addresses, whether they match TCP4 or TCP6 or not: nginx
//     mixes them. Two IPv4 addresses are TCP4; if one is IPv6 both are, the other as an IPv4-mapped
//     one. This isn't in the spec's grammar.
//   - An IPv6 address may end in the dotted form that inet_ntop writes for IPv4-mapped addresses
//     (::ffff:192.0.2.1), within the 39 characters that section 2.1 gives an address. One with a
//     zone is refused.
//   - TLVs must fill the block exactly. CRC32C is verified and may be there once, a unique ID has
//     at most 128 bytes, and the TLVs inside an SSL TLV are well-formed too. Any other type may
//     be there several times.
//
// Parse allocates nothing but the FormatError, keeps nothing, and doesn't change b. The header's
// TLVs and Unix alias b: [Header.Clone] makes a copy that stays.
func Parse(b []byte) (h Header, n int, err error) {
	n, err = parse(&h, b)
	return h, n, err
}

// parse is Parse, apart so that Parse is inlined: the header is written to its caller's memory.
func parse(h *Header, b []byte) (int, error) {
	if len(b) > 0 && b[0] == prefixV1[0] {
		return parseV1(h, b)
	}
	return parseV2(h, b)
}

// begun reports whether b has all that tells a PROXY header from any other protocol: what
// follows it belongs to a header, good or bad.
func begun(b []byte) bool {
	return len(b) >= len(prefixV1) && string(b[:len(prefixV1)]) == prefixV1 ||
		len(b) >= len(signatureV2) && string(b[:len(signatureV2)]) == signatureV2
}

// AppendTo appends the header's wire form to b and returns the extended buffer. It writes
// what Parse accepts and gives back, and the value of a CRC32C TLV is computed on the way. A
// header that has no such form is an error, with b returned as it was:
// version 1 has neither LOCAL, UDP, AF_UNIX nor TLVs, and receivers don't look at the TLVs and
// addresses of LOCAL and UNSPEC.
//
// It allocates only if b has no room. What b has room for may be the memory that h was parsed from,
// whose TLVs and Unix addresses are then moved: they are in the result, and h itself is of no more
// use.
func (h *Header) AppendTo(b []byte) ([]byte, error) {
	switch h.Version {
	case V1:
		return appendV1(h, b)
	case V2:
		return appendV2(h, b)
	}
	return b, unencodable("there is no version " + strconv.Itoa(int(h.Version)))
}

// checkAddresses reports addresses that aren't what h.Protocol says.
func (h *Header) checkAddresses() error {
	source, destination := h.Source.Addr(), h.Destination.Addr()
	unix := false
	switch h.Protocol {
	case TCP4, UDP4:
		if !source.Is4() || !destination.Is4() {
			return unencodable(h.Protocol.String() + " needs two IPv4 addresses")
		}
	case TCP6, UDP6:
		if !source.Is6() || !destination.Is6() {
			return unencodable(h.Protocol.String() + " needs two IPv6 addresses")
		}
		if source.Zone() != "" || destination.Zone() != "" {
			return unencodable("an IPv6 address has a zone")
		}
	default:
		unix = !h.Protocol.unspec()
		if h.Source != (netip.AddrPort{}) || h.Destination != (netip.AddrPort{}) {
			return unencodable(
				h.Command.String() + " " + h.Protocol.String() + " has no IP addresses")
		}
	}
	if unix != (h.Unix != nil) {
		return unencodable("AF_UNIX addresses go with UnixStream and UnixDatagram")
	}
	return nil
}

// WriteTo writes the header's wire form with a single Write, as the spec asks of senders
// (section 2). It returns what Write returned, and the errors of [Header.AppendTo].
func (h *Header) WriteTo(w io.Writer) (int64, error) {
	b, err := h.AppendTo(make([]byte, 0, 128))
	if err != nil {
		return 0, err
	}
	n, err := w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return int64(n), err
}

// HasAddrs reports whether h names a client: whether SourceAddr is not nil. It is false for
// LOCAL, UNKNOWN and UNSPEC, and for a nil Header.
func (h *Header) HasAddrs() bool {
	return h != nil && h.Command == Proxy && !h.Protocol.unspec()
}

// Clone returns a copy of h that shares no memory with it, and nil for nil.
func (h *Header) Clone() *Header {
	if h == nil {
		return nil
	}
	own := *h
	own.detach()
	return &own
}

// detach gives h its own memory for what may alias the bytes that it was parsed from. It
// allocates once if there are TLVs or Unix addresses, and not at all otherwise.
func (h *Header) detach() {
	switch {
	case h.Unix != nil:
		own := make([]byte, len(h.Unix)+len(h.TLVs))
		copy(own, h.Unix[:])
		h.Unix = (*UnixAddrs)(own)
		if len(h.TLVs) > 0 {
			tail := own[len(h.Unix):]
			copy(tail, h.TLVs)
			h.TLVs = tail
		}
	case len(h.TLVs) > 0:
		h.TLVs = append(make(TLVs, 0, len(h.TLVs)), h.TLVs...)
	}
}

// SourceAddr returns the client's address: a *net.TCPAddr, *net.UDPAddr or *net.UnixAddr by
// Protocol, or nil if the header has none. It is the caller's own. An IPv4-mapped IPv6 address
// is given as plain IPv4, so that a client has one address whatever the proxy's socket was.
func (h *Header) SourceAddr() net.Addr {
	if h.Unix != nil {
		return h.unixAddr(h.Unix.Source())
	}
	return h.ipAddr(h.Source)
}

// DestinationAddr returns the address that the client connected to, in the same way.
func (h *Header) DestinationAddr() net.Addr {
	if h.Unix != nil {
		return h.unixAddr(h.Unix.Destination())
	}
	return h.ipAddr(h.Destination)
}

func (h *Header) ipAddr(ap netip.AddrPort) net.Addr {
	ap = unmap(ap)
	switch h.Protocol {
	case TCP4, TCP6:
		return net.TCPAddrFromAddrPort(ap)
	case UDP4, UDP6:
		return net.UDPAddrFromAddrPort(ap)
	}
	return nil
}

func (h *Header) unixAddr(name []byte) net.Addr {
	a := &net.UnixAddr{Net: "unix", Name: string(name)}
	if h.Protocol == UnixDatagram {
		a.Net = "unixgram"
	}
	if len(name) > 0 && name[0] == 0 {
		a.Name = "@" + string(name[1:])
	}
	return a
}

// unmap gives an address its one plain form: IPv4 as IPv4, and without zone.
func unmap(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// String returns the header in one line for people, as in
// "v2 PROXY TCP4 192.0.2.7:56324 -> 192.0.2.1:443, 12 bytes of TLVs". It is printable: the names of
// Unix sockets, which can be any bytes, are quoted.
func (h Header) String() string {
	s := h.Version.String() + " " + h.Command.String() + " " + h.Protocol.String()
	if src, dst := h.SourceAddr(), h.DestinationAddr(); src != nil && dst != nil {
		from, to := src.String(), dst.String()
		if h.Unix != nil {
			from, to = strconv.QuoteToASCII(from), strconv.QuoteToASCII(to)
		}
		s += " " + from + " -> " + to
	}
	if len(h.TLVs) > 0 {
		s += ", " + strconv.Itoa(len(h.TLVs)) + " bytes of TLVs"
	}
	return s
}
