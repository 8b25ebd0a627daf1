package clientip

import (
	"net"
	"net/http"
	"net/netip"

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
	p := &passed{Context: r.Context()}
	p.client.Proxies = p.proxies[:0]
	h.find(p, r)
	h.counts.add(&p.client)

	p.request = *r.WithContext(p)
	if p.client.Found != FoundConnection {
		p.request.RemoteAddr = p.remoteAddr(r.RemoteAddr)
	}
	if h.rewrite {
		h.rewriteFields(p)
	}
	h.next.ServeHTTP(w, &p.request)
	if r.MultipartForm == nil {
		// The server removes the temporary files of the request that it has made, not of a copy.
		r.MultipartForm = p.request.MultipartForm
	}
}

// remoteAddr returns the client's address and port as text, which may be what it was.
func (p *passed) remoteAddr(before string) string {
	if !p.addr.IsValid() {
		return noAddr
	}
	if p.client.Found == FoundHeader {
		if addr, err := netip.ParseAddrPort(before); err == nil && plain(addr) == p.addr {
			return before
		}
	}
	return p.addr.String()
}

// find fills in who sent the request and how.
func (h *handler) find(p *passed, r *http.Request) {
	conn, _ := p.Value(connkey.Key{}).(*proxyproto.Conn)
	var header *proxyproto.Header
	if conn != nil {
		header = conn.Header()
	}
	if h.begin(p, r, header) {
		p.client.Proxied = true
		h.readField(p, r)
	} else if header.HasAddrs() {
		// Who the client is needs no field. But a proxy that speaks both is the socket's peer.
		peer := conn.NetConn().RemoteAddr()
		if addr := addrPort(peer).Addr(); h.trusts(addr) {
			p.client.Proxied = true
			p.client.Proxies = append(p.client.Proxies, addr)
		} else if h.unix && isUnix(peer) {
			p.client.Proxied = true
		}
	}
	p.https = h.cameByTLS(p, r, header)
}

// begin sets the client to whom the connection names, and reports whether that is a trusted HTTP
// proxy.
func (h *handler) begin(p *passed, r *http.Request, header *proxyproto.Header) bool {
	if header.HasAddrs() {
		// Not RemoteAddr, which is still the peer's if the listener is a lazy one.
		p.addr = plain(header.Source)
		p.client.Found = FoundHeader
	} else if addr, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		p.addr = plain(addr)
		p.client.Found = FoundConnection
	} else {
		local, _ := p.Value(http.LocalAddrContextKey).(net.Addr)
		return h.unix && isUnix(local)
	}
	p.client.Addr = p.addr.Addr()
	if !p.addr.IsValid() {
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
func (h *handler) readField(p *passed, r *http.Request) {
	lines := r.Header[h.field]
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
		if next.proto != "" {
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
		p.client.Proxies = append(p.client.Proxies, p.client.Addr)
	}
	p.addr, p.client.Addr, p.client.Found = client, client.Addr(), FoundField
}

// cameByTLS reports whether the client came by TLS: by the word of whoever is nearest to it.
func (h *handler) cameByTLS(p *passed, r *http.Request, header *proxyproto.Header) bool {
	if p.client.Proxied && p.proto == "" {
		p.proto = h.peersProto(r)
	}
	if p.proto != "" {
		return p.proto == "https"
	}
	if header != nil {
		if ssl, ok := header.TLVs.SSL(); ok && ssl.TLS() {
			return true
		}
	}
	return r.TLS != nil
}

// peersProto returns what the trusted proxy that sent the request says of the scheme.
func (h *handler) peersProto(r *http.Request) string {
	if h.format == formatForwarded {
		all := hops{format: h.format, lines: r.Header[h.field]}
		nearest, _ := all.next()
		return nearest.proto
	}
	if lines := r.Header[fieldXForwardedProto]; len(lines) == 1 {
		return parseProto(trim(lines[0]))
	}
	return ""
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
