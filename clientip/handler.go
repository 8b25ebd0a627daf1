package clientip

import (
	"net"
	"net/http"
	"net/netip"
	"slices"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/connkey"
)

// handler is what NewHandler makes of a Config.
type handler struct {
	next    http.Handler
	trust   proxyproto.Policy // Require for the trusted
	field   string            // canonical
	format  format
	hops    int
	unix    bool
	rewrite bool
	counts  counts
}

// noAddr is RemoteAddr where no address is known.
const noAddr = "0.0.0.0:0"

// ServeHTTP finds the request's client and calls the next handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := &passed{Context: r.Context(), came: r}
	if outer, ok := p.Context.Value(contextKey{}).(*passed); ok {
		p.came = outer.came
	}
	p.client.Proxies = p.proxies[:0]
	h.find(p)
	h.counts.add(&p.client)

	p.request = *r.WithContext(p)
	p.request.RemoteAddr = p.remoteAddr()
	if h.rewrite {
		h.rewriteFields(p)
	}
	if r.MultipartForm == nil {
		// The server removes the temporary files of the request that it has made, not of a copy.
		defer func() { r.MultipartForm = p.request.MultipartForm }()
	}
	h.next.ServeHTTP(w, &p.request)
}

// remoteAddr returns the client's address and port as text, which may be what it was.
func (p *passed) remoteAddr() string {
	before := p.came.RemoteAddr
	switch {
	case !p.client.Addr.IsValid():
		return noAddr
	case p.client.Found == FoundConnection && p.port != 0:
		return before
	}
	is := netip.AddrPortFrom(p.client.Addr, p.port)
	if p.client.Found != FoundField {
		if addr, err := netip.ParseAddrPort(before); err == nil && plain(addr) == is {
			return before
		}
	}
	return is.String()
}

// find fills in who sent the request and how.
func (h *handler) find(p *passed) {
	conn, _ := p.Context.Value(connkey.Key{}).(*proxyproto.Conn)
	var header *proxyproto.Header
	if conn != nil {
		header = conn.Header()
	}
	named := false
	if h.begin(p, header) {
		p.client.Proxied = true
		h.readField(p)
	} else if header.HasAddrs() {
		named = true
		h.findPeer(p, conn)
	}
	p.https = h.cameByTLS(p, named, sslProto(header))
}

// findPeer sees whether the client that a PROXY header names has a trusted HTTP proxy for the
// socket's peer: one that speaks both.
func (h *handler) findPeer(p *passed, conn *proxyproto.Conn) {
	peer := conn.NetConn().RemoteAddr()
	if addr := addrPort(peer).Addr(); h.trusts(addr) {
		p.client.Proxied = true
		p.client.Proxies = append(p.client.Proxies, addr)
	} else if h.unix && isUnix(peer) {
		p.client.Proxied = true
	}
}

// begin sets the client to whom the connection names, and reports whether that is a trusted HTTP
// proxy.
func (h *handler) begin(p *passed, header *proxyproto.Header) bool {
	if header.HasAddrs() {
		// Not RemoteAddr, which is still the peer's if the listener is a lazy one.
		p.set(plain(header.Source))
		p.client.Found = FoundHeader
	} else if addr, ok := parseRemoteAddr(p.came.RemoteAddr); ok {
		p.set(plain(addr))
		p.client.Found = FoundConnection
	} else {
		local, _ := p.Context.Value(http.LocalAddrContextKey).(net.Addr)
		return h.unix && isUnix(local)
	}
	if !p.client.Addr.IsValid() {
		p.client.Found = FoundNowhere // a header that names a Unix socket
		return false
	}
	return h.hops > 0 || h.trusts(p.client.Addr)
}

// trusts reports whether this plain address is a trusted HTTP proxy's.
func (h *handler) trusts(addr netip.Addr) bool {
	return h.trust(proxyproto.Peer{Addr: netip.AddrPortFrom(addr, 0)}) == proxyproto.Require
}

// readField goes from the proxy that the connection named to the client that the field names.
func (h *handler) readField(p *passed) {
	lines := p.came.Header[h.field]
	if h.format == formatSingle {
		h.readSingle(p, lines)
		return
	}
	all := hops{format: h.format, lines: lines}
	for n := 1; ; n++ {
		next, ok := all.next()
		if !ok {
			if n == 1 || h.hops > 0 {
				p.client.Problem = ProblemMissing
			}
			return
		}
		if next.proto != protoUnsaid {
			p.proto = next.proto
		}
		if !next.client.IsValid() {
			p.client.Problem = ProblemNoAddress
			return
		}
		p.pass(next.client)
		if n == h.hops || h.hops == 0 && !h.trusts(p.client.Addr) {
			return
		}
	}
}

// readSingle reads a field that has one address.
func (h *handler) readSingle(p *passed, lines []string) {
	switch len(lines) {
	case 0:
		p.client.Problem = ProblemMissing
	case 1:
		if client, ok := parseNode(trim(lines[0])); ok {
			p.pass(client)
		} else {
			p.client.Problem = ProblemNoAddress
		}
	default:
		p.client.Problem = ProblemRepeated
	}
}

// pass makes a proxy of the client so far, and a client of whom that proxy names.
func (p *passed) pass(client netip.AddrPort) {
	if p.client.Addr.IsValid() {
		if len(p.client.Proxies) == len(p.proxies) {
			p.client.Proxies = slices.Grow(p.client.Proxies, 3)
		}
		p.client.Proxies = append(p.client.Proxies, p.client.Addr)
	}
	p.set(client)
	p.client.Found = FoundField
}

// set sets the client's plain address.
func (p *passed) set(client netip.AddrPort) { p.client.Addr, p.port = client.Addr(), client.Port() }

// cameByTLS reports whether the client came by TLS: by the word of whoever is nearest to it. named
// is whether the PROXY header has named the client itself, and ssl what its SSL TLV says.
func (h *handler) cameByTLS(p *passed, named bool, ssl proto) bool {
	if named && ssl == protoHTTPS {
		return true // of the same connection as a field, which may be one that the client has sent
	}
	if p.client.Proxied && p.proto == protoUnsaid {
		p.proto = h.peersProto(p.came)
	}
	switch {
	case p.proto != protoUnsaid:
		return p.proto == protoHTTPS
	case ssl == protoHTTPS:
		return true
	case ssl == protoHTTP && named && p.client.Proxied:
		return false
	}
	return p.came.TLS != nil
}

// sslProto returns what a PROXY header's SSL TLV says of the client that it names.
func sslProto(header *proxyproto.Header) proto {
	if header == nil {
		return protoUnsaid
	}
	ssl, ok := header.TLVs.SSL()
	switch {
	case !ok:
		return protoUnsaid
	case ssl.TLS():
		return protoHTTPS
	}
	return protoHTTP
}

// peersProto returns what the trusted proxy that sent the request says of the scheme.
func (h *handler) peersProto(r *http.Request) proto {
	if h.format == formatForwarded {
		all := hops{format: h.format, lines: r.Header[h.field]}
		nearest, _ := all.next()
		return nearest.proto
	}
	return oneProto(r.Header[fieldXForwardedProto])
}

// oneProto reads X-Forwarded-Proto, which says nothing if it comes twice: one may be the client's.
func oneProto(lines []string) proto {
	if len(lines) != 1 {
		return protoUnsaid
	}
	return parseProto(trim(lines[0]))
}

// parseRemoteAddr reads a request's RemoteAddr, which has no port where something other than
// net/http's server made the request: an adapter for functions in a cloud, for example.
func parseRemoteAddr(s string) (netip.AddrPort, bool) {
	if addr, err := netip.ParseAddrPort(s); err == nil {
		return addr, true
	}
	addr, err := netip.ParseAddr(s)
	return netip.AddrPortFrom(addr, 0), err == nil
}

// plain returns addr without IPv4-mapping and without zone.
func plain(addr netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(addr.Addr().Unmap().WithZone(""), addr.Port())
}

// addrPort returns the plain form of a socket's address; zero if it has no IP.
func addrPort(addr net.Addr) netip.AddrPort {
	if ip, ok := addr.(interface{ AddrPort() netip.AddrPort }); ok {
		return plain(ip.AddrPort())
	}
	return netip.AddrPort{}
}

func isUnix(addr net.Addr) bool { return addr != nil && addr.Network() == "unix" }
