package proxyproto

import (
	"errors"
	"net"
	"net/netip"
	"reflect"
)

var (
	errHeaderAwaited = errors.New("proxyproto: the inbound connection's header hasn't been read: " +
		"call its ReadHeader first")
	errHeaderHidden = errors.New("proxyproto: the inbound connection hides a Conn whose header " +
		"hasn't been read: give its type a NetConn method")
)

// HeaderFor returns the header with which a proxy passes an inbound connection on over another
// stream: the header that it came with, as [Header.Forward] makes it, so that in a chain of
// proxies the last server learns the first client. Without one, or if it names no client, the
// result has the addresses of the connection itself, as [NewHeader] makes it; a LOCAL header's
// client is whoever sent it. If these say nothing either (a Unix socket) it is LOCAL in version 2
// and UNKNOWN in version 1.
//
// inbound is a [Conn], any other connection, or something around one with a NetConn method, such
// as a *tls.Conn. It is an error if it is a lazy Conn whose header hasn't been read or was refused:
// its addresses would be those of the proxy in front and not the client's. A wrapper without a
// NetConn method (x/net's LimitListener makes such) hides the Conn, and with it the TLVs. If it
// embeds a net.Conn it is an error for a lazy one all the same; other wrappers can't be seen
// through: make the header before you wrap.
func HeaderFor(inbound net.Conn, version Version) (*Header, error) {
	if c, ok := FromConn(inbound); ok {
		if c.awaited() {
			return nil, errHeaderAwaited
		}
		if h := c.Header().Forward(version); h != nil {
			return h, nil
		}
	} else if hidesAwaited(inbound) {
		return nil, errHeaderHidden
	}
	h := NewHeader(inbound.RemoteAddr(), inbound.LocalAddr(), version)
	h.Protocol = h.Protocol.stream()
	return h, nil
}

// hidesAwaited reports whether c hides a Conn whose header may still change its addresses.
func hidesAwaited(c net.Conn) bool {
	for c != nil {
		if conn, ok := FromConn(c); ok {
			return conn.awaited()
		}
		conns := netConns(c)
		c = embeddedConn(conns[len(conns)-1])
	}
	return false
}

// embeddedConn returns the net.Conn that is embedded in c's struct, or nil.
func embeddedConn(c net.Conn) net.Conn {
	v := reflect.Indirect(reflect.ValueOf(c))
	if v.Kind() != reflect.Struct {
		return nil
	}
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.Anonymous && f.Type == reflect.TypeFor[net.Conn]() {
			inner, _ := v.Field(i).Interface().(net.Conn)
			return inner
		}
	}
	return nil
}

// NewHeader returns a header for a client at source that connected to destination, both TCP or
// both UDP addresses; any other addresses, nil and Unix sockets among them, say nothing about a
// client, and the header is LOCAL in version 2 and UNKNOWN in version 1.
//
// If one address is IPv4 and the other is IPv6 the header is IPv6 and has the former as an
// IPv4-mapped address; two mapped ones make an IPv4 header; zones are left out. UDP addresses make
// a UDP header in version 2; version 1 is for streams alone, and writes them as TCP. UNKNOWN is
// what the spec has for version 1 (section 2.1), and not all servers accept it: prefer version 2
// where that matters.
func NewHeader(source, destination net.Addr, version Version) *Header {
	src, dst := addrPort(source), addrPort(destination)
	if src.IsValid() && dst.IsValid() && source.Network() == destination.Network() {
		switch source.Network() {
		case "tcp":
			return ipHeader(version, TCP4, src, dst)
		case "udp":
			return ipHeader(version, UDP4, src, dst)
		}
	}
	return unknownHeader(version)
}

// ipHeader makes the header for two plain addresses; protocol is TCP4 or UDP4 for either family.
func ipHeader(version Version, protocol Protocol, src, dst netip.AddrPort) *Header {
	if version == V1 {
		protocol = protocol.stream()
	}
	if !src.Addr().Is4() || !dst.Addr().Is4() {
		protocol += TCP6 - TCP4
		src = netip.AddrPortFrom(netip.AddrFrom16(src.Addr().As16()), src.Port())
		dst = netip.AddrPortFrom(netip.AddrFrom16(dst.Addr().As16()), dst.Port())
	}
	return &Header{
		Version: version, Command: Proxy, Protocol: protocol, Source: src, Destination: dst,
	}
}

// unknownHeader makes the header of a connection of which nothing can be said. It is LOCAL in
// version 2, as HAProxy's is, because many servers refuse PROXY with UNSPEC.
func unknownHeader(version Version) *Header {
	if version == V1 {
		return &Header{Version: V1, Command: Proxy}
	}
	return &Header{Version: version, Command: Local}
}

// Forward returns the header that passes on, over another stream, what h says of its client, in
// either version; or nil if h says nothing: if it is nil itself, LOCAL, UNKNOWN or UNSPEC. The
// result shares no memory with h.
//
// Addresses are written as by [NewHeader], and always as a stream's: a client that came by UDP
// (HTTP/3) is passed on as a TCP one. Version 1 has no TLVs, and UNKNOWN for AF_UNIX.
//
// The TLVs are kept but for those that can't be true of another header: padding ([TypeNoop]) and
// the checksum ([TypeCRC32C]; append one anew to send it). They are the word of whoever sent h.
// [TypeALPN] is what the client spoke with the proxy that ended its TLS, and wrong if this one
// translates to another protocol; [TypeAuthority], [TypeSSL] and [TypeUniqueID] are about the
// client's connection to that proxy. A proxy that knows better says so with [TLVs.Set], and takes
// out what it doesn't believe with [TLVs.Without].
func (h *Header) Forward(version Version) *Header {
	if !h.HasAddrs() {
		return nil
	}
	var out *Header
	switch {
	case h.Unix == nil:
		out = ipHeader(version, TCP4, unmap(h.Source), unmap(h.Destination))
	case version == V1:
		return unknownHeader(V1)
	default:
		unix := *h.Unix
		out = &Header{Version: version, Command: Proxy, Protocol: UnixStream, Unix: &unix}
	}
	if version != V1 && len(h.TLVs) > 0 {
		out.TLVs = h.TLVs.Without(TypeNoop, TypeCRC32C)
	}
	return out
}
