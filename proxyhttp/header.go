package proxyhttp

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/clientip"
)

// HeaderFor returns the header for the client that a request came from. r is a server's request,
// or one that httputil.ReverseProxy or [http.Request.Clone] made of it.
//
// If the server's ConnContext is [proxyproto.ConnContext], and the client's connection came with
// a header that names a client, that is passed on as [proxyproto.Header.Forward] does, without its
// [proxyproto.TypeALPN]: what the next server is spoken to is this proxy's choice. The other TLVs
// are the word of whoever sent them. Otherwise it has r.RemoteAddr and the address that net/http
// keeps in the request's context, which are the client's too if the server's listener is a
// [proxyproto.Listener] that isn't lazy. Behind a lazy one they are those of the proxy in front:
// only ConnContext knows the client, and a wrapper that hides the Conn from it hides the client,
// too. A client of HTTP/3 is a TCP one, since the header is a stream's.
//
// Behind a handler of package clientip the client may be one that a trusted HTTP proxy names in a
// field ([clientip.FoundField]). The connection is that proxy's then, and what its own header says
// is of others: the header has the client's address, with its port if the field had one and
// otherwise 0, and no TLVs. Its destination is where that proxy connected to, because no field
// says where the client did.
//
// If only the client's address is known, the destination is all zeros. A client without an IP
// address (of a Unix socket) gets a header that names none, as [proxyproto.NewHeader] makes it. It
// is an error if r has no such addresses, as one that no server has received, or if r.RemoteAddr
// has no port, as some middleware writes it.
func HeaderFor(r *http.Request, version proxyproto.Version) (*proxyproto.Header, error) {
	found := clientip.FoundConnection
	client, asked := clientip.ClientFromContext(r.Context())
	if asked {
		found = client.Found
	}
	if found != clientip.FoundField {
		if h := inbound(r, version); h != nil {
			return h, nil
		}
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return nil, fmt.Errorf("proxyhttp: no client for the request to %s: "+
			"it isn't a server's request", hostOf(r))
	}
	destination, localErr := netip.ParseAddrPort(local.String())
	source, err := netip.ParseAddrPort(r.RemoteAddr)
	switch {
	case found == clientip.FoundNowhere:
		return proxyproto.NewHeader(nil, nil, version), nil
	case found == clientip.FoundField:
		if err != nil || source.Addr().Unmap() != client.Addr { // another handler's RemoteAddr
			source = netip.AddrPortFrom(client.Addr, 0)
		}
	case err != nil:
		if _, noPort := netip.ParseAddr(r.RemoteAddr); noPort == nil || localErr == nil {
			return nil, fmt.Errorf("proxyhttp: no client for the request to %s: RemoteAddr: %w",
				hostOf(r), err)
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

// inbound is the header that the request's connection came with, to be passed on; nil if it names
// no client.
func inbound(r *http.Request, version proxyproto.Version) *proxyproto.Header {
	in, _ := proxyproto.HeaderFromContext(r.Context())
	h := in.Forward(version)
	if h != nil && len(h.TLVs) > 0 {
		h.TLVs = h.TLVs.Without(proxyproto.TypeALPN)
	}
	return h
}
