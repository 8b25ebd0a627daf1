package proxyhttp

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"github.com/seed2e8fe8ee/proxyproto"
)

// HeaderFor returns the header for the client that a request came from. r is a server's request,
// or one that httputil.ReverseProxy or [http.Request.Clone] made of it.
//
// If the server's ConnContext is [proxyproto.ConnContext], and the client's connection came with
// a header that names a client, that is passed on as [proxyproto.Header.Forward] does, without its
// [proxyproto.TypeALPN]: what the next server is spoken to is this proxy's choice. The other TLVs
// are the word of whoever sent them. Otherwise it has r.RemoteAddr and the address that net/http
// keeps in the request's context, which are the client's too if the server's listener is a
// [proxyproto.Listener]. A client of HTTP/3 is a TCP one, since the header is a stream's.
//
// If only the client's address is known, the destination is all zeros. A client without an IP
// address (of a Unix socket) gets a header that names none, as [proxyproto.NewHeader] makes it. It
// is an error if r has no such addresses, as one that no server has received, or if r.RemoteAddr
// has no port, as some middleware writes it.
func HeaderFor(r *http.Request, version proxyproto.Version) (*proxyproto.Header, error) {
	if in, ok := proxyproto.HeaderFromContext(r.Context()); ok {
		if h := in.Forward(version); h != nil {
			if len(h.TLVs) > 0 {
				h.TLVs = h.TLVs.Without(proxyproto.TypeALPN)
			}
			return h, nil
		}
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return nil, fmt.Errorf("proxyhttp: no client for the request to %s: "+
			"it isn't a server's request", r.URL.Host)
	}
	destination, localErr := netip.ParseAddrPort(local.String())
	source, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		if _, noPort := netip.ParseAddr(r.RemoteAddr); noPort == nil || localErr == nil {
			return nil, fmt.Errorf("proxyhttp: no client for the request to %s: RemoteAddr: %w",
				r.URL.Host, err)
		}
		return proxyproto.NewHeader(nil, nil, version), nil
	}
	if localErr != nil {
		zeros := netip.IPv4Unspecified()
		if !source.Addr().Unmap().Is4() {
			zeros = netip.IPv6Unspecified()
		}
		destination = netip.AddrPortFrom(zeros, 0)
	}
	return proxyproto.NewHeader(net.TCPAddrFromAddrPort(source),
		net.TCPAddrFromAddrPort(destination), version), nil
}
