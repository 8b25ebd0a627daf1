// Package proxyhttp sends HTTP requests to servers that expect a PROXY header, under the
// address of the client that each request came from.
//
// A header speaks for everything on its connection, while an http.Transport uses a connection for
// whichever request comes next. Under PROXY that gives one client's address to another's requests,
// so the spec forbids it (section 2: such proxies "MUST NOT implement this protocol on multiplexed
// connections"). The [Transport] of this package can't do it: connections are kept, but only for
// requests with the very header that they began with.
//
// It is a package of its own so that proxies of other protocols don't link net/http.
package proxyhttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"

	"github.com/seed2e8fe8ee/proxyproto"
)

// Transport is a RoundTripper that sends each request over a connection which begins with the
// request's header: see [NewTransport]. Its methods may be called by several goroutines at once.
type Transport struct {
	base     *http.Transport // what those of the pools are copies of
	header   func(*http.Request) (*proxyproto.Header, error)
	dialer   proxyproto.Dialer
	inTLS    proxyproto.Dialer // its Inner is nil unless the base makes TLS connections itself
	sessions sessions
}

// NewTransport returns a Transport that sends each request under the header that the function gives
// for it. [HeaderFor] is the function for a reverse proxy:
//
//	transport, err := proxyhttp.NewTransport(nil, func(r *http.Request) (*proxyproto.Header, error) {
//		return proxyhttp.HeaderFor(r, proxyproto.V2)
//	})
//	...
//	proxy := &httputil.ReverseProxy{Rewrite: rewrite, Transport: transport}
//	server := &http.Server{Handler: proxy, ConnState: transport.ConnState}
//
// The function is called by several goroutines at once, with requests that it mustn't change. If
// it returns an error, or no header, that is the request's error and no connection is made. The
// header may be changed afterwards.
//
// Connections are made and requests sent as by base, of which a copy is taken. Nil is
// http.DefaultTransport, with its MaxIdleConns of zero. But
//   - the connections of one header are another pool than those of any other. A header with its
//     client's port is that client connection's own, so that the next request on it finds its
//     connection, and nobody else's does;
//   - base.MaxIdleConns is also for how many headers connections are kept while they have no
//     request. The one whose last request ended first gives way. Zero is 1,024;
//   - base.IdleConnTimeout of zero is 90 seconds, and a negative one is no limit;
//   - base.MaxConnsPerHost is for each header;
//   - base.Proxy isn't used, because the HTTP proxy would get the header in the server's place.
//
// HTTP/2 is spoken if base speaks it, with many requests at a time on a connection, all of one
// header.
//
// TLS begins after the header, as servers expect it; with a ClientSessionCache in
// base.TLSClientConfig a handshake for one client can resume the session of another. If base makes
// TLS connections by a function of its own (DialTLSContext), all that can be done is to send the
// header inside TLS. Few servers expect that; one in Go does with a [proxyproto.Listener] around
// tls.Listen's.
func NewTransport(
	base *http.Transport, header func(r *http.Request) (*proxyproto.Header, error),
) (*Transport, error) {
	if header == nil {
		return nil, errors.New("proxyhttp: NewTransport needs a function that gives the header")
	}
	maxIdle := 0
	if base == nil {
		var ok bool
		if base, ok = http.DefaultTransport.(*http.Transport); !ok {
			return nil, fmt.Errorf("proxyhttp: http.DefaultTransport is a %T: "+
				"give NewTransport a base", http.DefaultTransport)
		}
	} else {
		maxIdle = base.MaxIdleConns
	}
	own := base.Clone()
	setProtocols(own, base)
	own.Proxy = nil
	own.MaxIdleConns = maxIdle
	switch {
	case own.IdleConnTimeout == 0:
		own.IdleConnTimeout = defaultIdleTimeout
	case own.IdleConnTimeout < 0:
		own.IdleConnTimeout = 0
	}
	t := &Transport{base: own, header: header}
	//lint:ignore SA1019 a base that still has it is served by it
	if dial := dialFuncOf(own.DialContext, own.Dial); dial != nil {
		t.dialer.Inner = dial
	}
	//lint:ignore SA1019 likewise
	if dial := dialFuncOf(own.DialTLSContext, own.DialTLS); dial != nil {
		t.inTLS.Inner = dial
	}
	t.sessions.init(own.MaxIdleConns, own.IdleConnTimeout)
	return t, nil
}

// setProtocols makes own speak what base does, with an HTTP/2 of its own: what a Clone has of
// x/net/http2's shares its connections with base.
func setProtocols(own, base *http.Transport) {
	p := new(http.Protocols)
	if base.Protocols != nil {
		*p = *base.Protocols
	} else {
		p.SetHTTP1(true)
		p.SetHTTP2(base.TLSNextProto["h2"] != nil) // as Clone has made base decide
	}
	own.Protocols = p
	own.TLSNextProto = nil
	if own.TLSClientConfig != nil && !p.HTTP2() {
		protos := slices.Clone(own.TLSClientConfig.NextProtos)
		own.TLSClientConfig.NextProtos = slices.DeleteFunc(protos, func(p string) bool {
			return p == "h2"
		})
	}
}

// A dialFunc is a Dialer's inner one.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func (f dialFunc) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return f(ctx, network, address)
}

// dialFuncOf is the function that an http.Transport with these two would use.
func dialFuncOf(
	withContext func(ctx context.Context, network, address string) (net.Conn, error),
	without func(network, address string) (net.Conn, error),
) dialFunc {
	if withContext == nil && without != nil {
		return func(_ context.Context, network, address string) (net.Conn, error) {
			return without(network, address)
		}
	}
	return withContext
}

// transport makes the http.Transport of a session, for the requests of one header.
func (t *Transport) transport(s *session, h *proxyproto.Header) *http.Transport {
	own := t.base.Clone()
	own.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		inner, err := t.dialer.DialHeader(ctx, network, address, h)
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: inner, of: s, all: &t.sessions}
		if err := t.sessions.add(c); err != nil {
			inner.Close()
			return nil, err
		}
		return c, nil
	}
	if t.inTLS.Inner != nil {
		// What it returns is net/http's alone, which asks whether it is a *tls.Conn.
		own.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			return t.inTLS.DialHeader(ctx, network, address, h)
		}
	}
	return own
}

// RoundTrip sends a request and returns the response, as http.Transport's does.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	s, err := t.session(r)
	if err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	done := false
	defer func() {
		if !done {
			t.sessions.release(s)
		}
	}()
	resp, err := s.transport.RoundTrip(r)
	if err != nil || resp.Body == http.NoBody {
		return resp, err
	}
	done = true
	release := sync.OnceFunc(func() { t.sessions.release(s) })
	if c, ok := resp.Body.(io.ReadWriteCloser); ok {
		resp.Body = &upgraded{c, release} // after 101, the connection
	} else {
		resp.Body = &body{resp.Body, release}
	}
	return resp, nil
}

// session returns the session of the request's header, with one request more.
func (t *Transport) session(r *http.Request) (*session, error) {
	h, err := t.header(r)
	if err != nil {
		return nil, err
	}
	if h == nil {
		return nil, fmt.Errorf("proxyhttp: no header for the request to %s", hostOf(r))
	}
	wire := []byte("v1 LOCAL") // has no wire form; the Dialer sends the connection's own addresses
	if h.Version != proxyproto.V1 || h.Command != proxyproto.Local {
		if wire, err = h.AppendTo(make([]byte, 0, 128)); err != nil {
			return nil, fmt.Errorf("proxyhttp: the header for the request to %s: %w", hostOf(r),
				err)
		}
	}
	var client string
	if _, notIP := netip.ParseAddrPort(r.RemoteAddr); notIP == nil && h.HasAddrs() {
		client = r.RemoteAddr // all peers on a Unix socket have the same
	}
	dial := func(s *session) *http.Transport { return t.transport(s, h.Clone()) }
	return t.sessions.acquire(wire, client, dial), nil
}

// hostOf is where a request goes, for an error.
func hostOf(r *http.Request) string {
	if r.URL == nil {
		return r.Host
	}
	return r.URL.Host
}

// CloseIdleConnections closes the connections that have no request now.
func (t *Transport) CloseIdleConnections() { t.sessions.closeIdle() }

// ConnState is for http.Server.ConnState: it closes the connections to servers that were made for
// a client's when that one ends. Without it they stay, of no use to anybody, for the base's
// IdleConnTimeout; so do those of requests whose RemoteAddr a handler has changed.
func (t *Transport) ConnState(c net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	t.retire(c)
	if own, ok := proxyproto.FromConn(c); ok {
		t.retire(own.NetConn()) // a lazy one's requests have the socket's address
	}
}

func (t *Transport) retire(c net.Conn) {
	if client := c.RemoteAddr(); client != nil {
		t.sessions.retire(client.String())
	}
}
