package proxyproto

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// Dialer makes connections that begin with a PROXY header, to servers which expect one. Its
// zero value dials as a zero net.Dialer does:
//
//	h, err := proxyproto.HeaderFor(client, proxyproto.V2)
//	...
//	server, err := dialer.DialHeader(ctx, "tcp", "10.0.0.7:443", h)
//
// A header speaks for everything that follows it on its connection, so a connection which
// carries the requests of several clients must not have one (section 2). A pool that uses
// connections again would send the next client's request under the first one's address: for HTTP
// use package proxyhttp, which never does.
//
// Its method may be called by several goroutines at once as long as nobody changes the field.
type Dialer struct {
	// Inner makes the connections; nil is a zero net.Dialer. A *tls.Dialer sends the header
	// inside TLS. Most servers expect it before TLS: for these call tls.Client on what
	// DialHeader returns.
	Inner interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	}
}

// DialHeader connects to the address and sends h, with a single Write, before it returns the
// connection, which is the inner dialer's own. If h is nil or has no wire form it is an error and
// no connection is made; if it can't be sent the connection is closed. ctx limits the connecting
// and the sending together, and has no effect on the connection afterwards. h isn't kept.
//
// What goes over a stream says TCP: for a client whose header says UDP, as one of HTTP/3 does, the
// same addresses are sent as TCP ones.
//
// For a connection of the proxy's own, such as a health check, the header is
// &Header{Version: V2, Command: Local}. Version 1 has no LOCAL, and servers refuse its UNKNOWN:
// with Version V1 the Dialer sends the addresses of the connection itself instead, as section 2.1
// recommends.
//
// Datagram networks are refused: there each datagram has its header, and package proxyudp is for
// them.
func (d *Dialer) DialHeader(
	ctx context.Context, network, address string, h *Header,
) (net.Conn, error) {
	switch {
	case strings.HasPrefix(network, "udp"), strings.HasPrefix(network, "ip"), network == "unixgram":
		return nil, fmt.Errorf("proxyproto: dial %s %s: a Dialer is for streams; "+
			"a datagram has its own header", network, address)
	case h == nil:
		return nil, fmt.Errorf("proxyproto: dial %s %s: no header", network, address)
	}
	var wire []byte
	var err error
	ownAddresses := h.Version == V1 && h.Command == Local
	if !ownAddresses {
		stream := *h
		stream.Protocol = h.Protocol.stream()
		if wire, err = stream.AppendTo(make([]byte, 0, 128)); err != nil {
			return nil, fmt.Errorf("proxyproto: the header for %s: %w", address, err)
		}
	}
	conn, err := d.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if ownAddresses {
		wire, err = NewHeader(conn.LocalAddr(), conn.RemoteAddr(), V1).AppendTo(nil)
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

func (d *Dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if d.Inner == nil {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	conn, err := d.Inner.DialContext(ctx, network, address)
	if err == nil && conn == nil {
		err = errors.New("proxyproto: Dialer.Inner returned neither a connection nor an error")
	}
	return conn, err
}

// writeWithin writes b, unless ctx ends first. No deadline is touched: Inner may have set one.
func writeWithin(ctx context.Context, conn net.Conn, b []byte) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	n, err := conn.Write(b)
	if !stop() {
		return ctx.Err()
	}
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}
