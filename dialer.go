package proxyproto

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Dialer makes connections that begin with a PROXY header, to servers which expect one. Its
// zero value dials as a zero net.Dialer does, and sends the header that WithHeader put into the
// context:
//
//	h, err := proxyproto.HeaderFor(client, proxyproto.V2)
//	...
//	server, err := dialer.DialContext(proxyproto.WithHeader(ctx, h), "tcp", "10.0.0.7:443")
//
// A header speaks for everything that follows it on its connection, so a connection which
// carries the requests of several clients must not have one (section 2). Don't give DialContext
// to an http.Transport or to any other pool: these use a connection again, and the next client's
// request would arrive under the first one's address. For HTTP there is NewTransport in package
// proxyhttp, which never does.
//
// The methods may be called by several goroutines at once as long as nobody changes the fields.
type Dialer struct {
	// Header, if set, gives the header of each connection, and WithHeader counts for nothing.
	// It is asked before the connection is made: if it returns an error, none is made.
	Header func(ctx context.Context, network, address string) (*Header, error)

	// Inner makes the connections; nil is a zero net.Dialer. A *tls.Dialer sends the header
	// inside TLS. Most servers expect it before TLS: for these call tls.Client on what
	// DialContext returns.
	Inner interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	}
}

type headerKey struct{}

// WithHeader returns a context in which [Dialer.DialContext] begins connections with h. It is
// for the sending side alone: [FromContext] looks for the header of a connection that was
// accepted. h isn't copied.
func WithHeader(ctx context.Context, h *Header) context.Context {
	return context.WithValue(ctx, headerKey{}, h)
}

// DialContext connects to the address and sends the header, with a single Write, before it
// returns the connection, which is the inner dialer's own. Without a header, or with one that has
// no wire form, it is an error and no connection is made; if the header can't be sent the
// connection is closed. ctx limits the connecting and the sending together, and
// has no effect on the connection afterwards.
//
// For a connection of the proxy's own, such as a health check, the header is
// &Header{Version: V2, Command: Local}. Version 1 has no LOCAL, and servers refuse its UNKNOWN:
// with Version V1 the Dialer sends the addresses of the connection itself instead, as section 2.1
// recommends.
//
// Datagram networks are refused: a header belongs to each datagram, not to the socket.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	h, err := d.header(ctx, network, address)
	if err != nil {
		return nil, err
	}
	var wire []byte
	ownAddresses := h.Version == V1 && h.Command == Local
	if !ownAddresses {
		if wire, err = h.AppendTo(make([]byte, 0, 128)); err != nil {
			return nil, fmt.Errorf("proxyproto: the header for %s: %w", address, err)
		}
	}
	conn, err := d.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if ownAddresses {
		wire, err = NewHeader(V1, conn.LocalAddr(), conn.RemoteAddr()).AppendTo(nil)
	}
	if err == nil {
		err = writeWithin(ctx, conn, wire)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("proxyproto: sending the header to %s: %w", address, err)
	}
	return conn, nil
}

// header returns the header to send, which is never nil without an error.
func (d *Dialer) header(ctx context.Context, network, address string) (*Header, error) {
	if strings.HasPrefix(network, "udp") || strings.HasPrefix(network, "ip") || network == "unixgram" {
		return nil, fmt.Errorf("proxyproto: dial %s %s: a Dialer is for streams; with datagrams each one has its header", network, address)
	}
	h, _ := ctx.Value(headerKey{}).(*Header)
	if d.Header != nil {
		var err error
		if h, err = d.Header(ctx, network, address); err != nil {
			return nil, fmt.Errorf("proxyproto: no header for the connection to %s: %w", address, err)
		}
	}
	if h == nil {
		return nil, fmt.Errorf("proxyproto: no header for the connection to %s: give one to WithHeader, or set Dialer.Header", address)
	}
	return h, nil
}

func (d *Dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if d.Inner == nil {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	return d.Inner.DialContext(ctx, network, address)
}

// writeWithin writes b, unless ctx ends first. No deadline is touched: Inner may have set one.
func writeWithin(ctx context.Context, conn net.Conn, b []byte) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	_, err := conn.Write(b)
	if !stop() {
		return ctx.Err()
	}
	return err
}

var errHeaderAwaited = errors.New("proxyproto: the inbound connection's header isn't there: call its ReadHeader first")

// HeaderFor returns the header with which a proxy passes an inbound connection on: that of the
// header it came with, as [Header.Forward] makes it, so that in a chain of proxies the last
// server learns of the first client. If there is none, or if it names no client, it has the
// addresses of the connection itself, as [NewHeader] makes it; so has one for a LOCAL header,
// whose client is whoever sent it.
//
// inbound is a [Conn], any other connection, or something around one with a NetConn method, such
// as a *tls.Conn. It is an error if it is a lazy Conn whose header hasn't been read or was refused:
// its addresses would be the proxy's in front and not the client's.
func HeaderFor(inbound net.Conn, version Version) (*Header, error) {
	if c, ok := FromConn(inbound); ok {
		if c.awaiting.Load() != nil {
			return nil, errHeaderAwaited
		}
		if h := c.Header().Forward(version); h != nil {
			return h, nil
		}
	}
	return NewHeader(version, inbound.RemoteAddr(), inbound.LocalAddr()), nil
}

// NewHeader returns a header for a client at source that connected to destination, both TCP
// or both UDP addresses. If one is IPv4 and the other is IPv6 the header is IPv6 and has the
// former as an IPv4-mapped address; two mapped ones make an IPv4 header; zones are left out.
//
// For any other addresses, nil and Unix sockets among them, nothing can be said about the
// client: the header is a LOCAL one in version 2, and UNKNOWN in version 1. That is also what becomes
// of UDP in version 1. UNKNOWN is what the spec has for it (section 2.1), and not all servers accept
// it; prefer version 2 where that matters.
func NewHeader(version Version, source, destination net.Addr) *Header {
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
	if version == V1 && protocol != TCP4 {
		return unknownHeader(version)
	}
	if !src.Addr().Is4() || !dst.Addr().Is4() {
		protocol += TCP6 - TCP4
		src = netip.AddrPortFrom(netip.AddrFrom16(src.Addr().As16()), src.Port())
		dst = netip.AddrPortFrom(netip.AddrFrom16(dst.Addr().As16()), dst.Port())
	}
	return &Header{Version: version, Command: Proxy, Protocol: protocol, Source: src, Destination: dst}
}

// unknownHeader makes the header of a connection of which nothing can be said. It is LOCAL in
// version 2, as of HAProxy, because many servers refuse PROXY with UNSPEC.
func unknownHeader(version Version) *Header {
	if version == V1 {
		return &Header{Version: V1, Command: Proxy}
	}
	return &Header{Version: version, Command: Local}
}

// Forward returns the header that passes on what h says of its client, in either version, or
// nil if it says nothing: it is nil itself, LOCAL, UNKNOWN or UNSPEC. The result shares no memory
// with h.
//
// Addresses are written as by [NewHeader]. The TLVs are kept, with the checksum's value to be
// computed anew as ever; NOOPs aren't, since they pad the old header: see [Header.Align]. Version
// 1 has no TLVs, and UNKNOWN for UDP and AF_UNIX.
func (h *Header) Forward(version Version) *Header {
	if h == nil || h.Command == Local || h.Protocol.unspec() {
		return nil
	}
	var out *Header
	switch {
	case h.Unix == nil:
		protocol := TCP4
		if h.Protocol == UDP4 || h.Protocol == UDP6 {
			protocol = UDP4
		}
		out = ipHeader(version, protocol, unmap(h.Source), unmap(h.Destination))
	case version == V1:
		out = unknownHeader(V1)
	default:
		unix := *h.Unix
		out = &Header{Version: version, Command: Proxy, Protocol: h.Protocol, Unix: &unix}
	}
	if version == V1 || len(h.TLVs) == 0 {
		return out
	}
	out.TLVs = make(TLVs, 0, len(h.TLVs))
	for typ, value := range h.TLVs.All() {
		if typ != TypeNoop {
			out.TLVs, _ = out.TLVs.Append(typ, value) // as long as h.TLVs at most
		}
	}
	return out
}

// Align pads a version 2 header with a NOOP TLV (section 2.2.4), so that its length on the wire
// is a multiple of n bytes. A TLV has 3 bytes at least: if less is missing, another multiple is
// added. Call it last, because whatever is appended to the TLVs later makes the header longer. It
// is an error, with h left as it is, if the header has no wire form, would be too long, or can't
// have TLVs, unless its length is right already.
func (h *Header) Align(n int) error {
	if n <= 0 {
		return fmt.Errorf("proxyproto: a header can't be aligned to %d bytes", n)
	}
	wire, err := h.AppendTo(nil)
	if err != nil {
		return err
	}
	pad := (n - len(wire)%n) % n
	if pad == 0 {
		return nil
	}
	for pad < lenTLV {
		pad += n
	}
	if pad > maxHeader {
		return unencodable(fmt.Sprintf("%d bytes of padding don't fit", pad))
	}
	padded := *h
	if padded.TLVs, err = slices.Clip(h.TLVs).Append(TypeNoop, make([]byte, pad-lenTLV)); err != nil {
		return err
	}
	if _, err := padded.AppendTo(wire[:0]); err != nil {
		return err
	}
	*h = padded
	return nil
}
