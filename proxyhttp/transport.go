// Package proxyhttp sends HTTP requests to servers that expect a PROXY header, under the
// address of the client that each request came from.
//
// A header speaks for everything on its connection, while HTTP connections are shared: an
// http.Transport uses one for whichever request comes next, and HTTP/2 for many at a time. Under
// PROXY that gives one client's address to another's requests, so the spec forbids it (section 2:
// such proxies "MUST NOT implement this protocol on multiplexed connections"). The transport of
// this package can't do it. It is a package of its own so that proxies of other protocols don't
// link net/http.
package proxyhttp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"

	"github.com/seed2e8fe8ee/proxyproto"
)

// NewTransport returns a RoundTripper that sends each request over a connection of its own,
// which begins with the header that the function gives for it. [HeaderFor] is the function for
// a reverse proxy:
//
//	transport, err := proxyhttp.NewTransport(nil, func(r *http.Request) (*proxyproto.Header, error) {
//		return proxyhttp.HeaderFor(r, proxyproto.V2)
//	})
//	...
//	proxy := &httputil.ReverseProxy{Rewrite: rewrite, Transport: transport}
//
// If the function returns an error, or no header, that is the request's error and no connection is
// made. It is called by several goroutines at once, and gets requests which it mustn't change.
//
// Connections are made and requests sent as by base, of which a copy is taken (nil means
// http.DefaultTransport), except that
//   - no connection is used twice, which costs one connect for each request, and a TLS handshake with
//     an https server: give base a TLSClientConfig with a ClientSessionCache to make that a short one;
//   - HTTP/2 isn't spoken, as it makes one connection of many. For gRPC relay the client's
//     connections as they are, without looking into them;
//   - base.Proxy isn't used, because the HTTP proxy would get the header in the server's place.
//
// TLS begins behind the header, as servers expect it. It is an error if base has a Dial, DialTLS
// or DialTLSContext function: no header could be sent on the connections that these make.
func NewTransport(base *http.Transport, header func(r *http.Request) (*proxyproto.Header, error)) (http.RoundTripper, error) {
	if header == nil {
		return nil, errors.New("proxyhttp: NewTransport needs a function that gives the header")
	}
	if base == nil {
		var ok bool
		if base, ok = http.DefaultTransport.(*http.Transport); !ok {
			return nil, fmt.Errorf("proxyhttp: http.DefaultTransport is a %T: give NewTransport a base", http.DefaultTransport)
		}
	}
	own := base.Clone()
	//lint:ignore SA1019 a base that still has the deprecated ones must be refused
	if own.Dial != nil || own.DialTLS != nil || own.DialTLSContext != nil {
		return nil, errors.New("proxyhttp: a Transport with Dial, DialTLS or DialTLSContext can't be the base: the header would be left out")
	}
	var d proxyproto.Dialer
	if own.DialContext != nil {
		d.Inner = dialFunc(own.DialContext)
	}
	own.DialContext = d.DialContext
	own.DisableKeepAlives = true
	own.Proxy = nil
	http1Only(own)
	return &transport{own, header}, nil
}

// http1Only turns off HTTP/2, whichever way it was turned on: by the fields of t, or by net/http or
// x/net/http2 in its TLS configuration.
func http1Only(t *http.Transport) {
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	if t.TLSClientConfig != nil {
		protos := slices.Clone(t.TLSClientConfig.NextProtos)
		t.TLSClientConfig.NextProtos = slices.DeleteFunc(protos, func(p string) bool { return p == "h2" })
	}
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func (f dialFunc) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return f(ctx, network, address)
}

type transport struct {
	base   *http.Transport
	header func(*http.Request) (*proxyproto.Header, error)
}

// RoundTrip sends a request. Its header reaches the Dialer in the context: http.Transport dials
// with the values of the request's.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	h, err := t.header(r)
	if err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	return t.base.RoundTrip(r.WithContext(proxyproto.WithHeader(r.Context(), h)))
}

// HeaderFor returns the header for the client that a request came from. r is a server's request,
// or one that httputil.ReverseProxy or [http.Request.Clone] made of it.
//
// It is what [proxyproto.HeaderFor] makes of the client's connection, TLVs included, if the
// server's ConnContext is [proxyproto.ConnContext]. Otherwise it has r.RemoteAddr and the address
// that net/http keeps in the request's context, which are the client's too if the server's
// listener is a [proxyproto.Listener]. It is an error if r has no such addresses, as one that
// no server has received.
func HeaderFor(r *http.Request, version proxyproto.Version) (*proxyproto.Header, error) {
	if in, ok := proxyproto.FromContext(r.Context()); ok {
		if h := in.Forward(version); h != nil {
			return h, nil
		}
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return nil, fmt.Errorf("proxyhttp: no client for the request to %s: it isn't a server's request", r.URL.Host)
	}
	var source net.Addr
	switch local.(type) {
	case *net.TCPAddr, *net.UDPAddr:
		remote, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			return nil, fmt.Errorf("proxyhttp: no client for the request to %s: RemoteAddr: %w", r.URL.Host, err)
		}
		source = net.TCPAddrFromAddrPort(remote)
		if local.Network() == "udp" {
			source = net.UDPAddrFromAddrPort(remote)
		}
	}
	return proxyproto.NewHeader(version, source, local), nil
}
