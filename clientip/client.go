package clientip

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
)

// Found says where a client's address was found.
type Found uint8

const (
	FoundNowhere    Found = iota // it isn't known: a peer on a Unix socket, for example
	FoundConnection              // it is the socket's peer
	FoundHeader                  // the connection's PROXY header names it
	FoundField                   // a field of a trusted HTTP proxy names it
)

var foundNames = [...]string{
	FoundNowhere: "nowhere", FoundConnection: "connection", FoundHeader: "PROXY header",
	FoundField: "field",
}

// String returns what it is in a word or two: "field", for example.
func (f Found) String() string {
	if int(f) < len(foundNames) {
		return foundNames[f]
	}
	return "Found(" + strconv.Itoa(int(f)) + ")"
}

// MarshalText returns what String does. It is an error if f isn't one of the constants.
func (f Found) MarshalText() ([]byte, error) { return marshal(foundNames[:], int(f), f) }

// Problem says why a field that a trusted HTTP proxy should have written didn't name a client.
type Problem uint8

const (
	// ProblemNone is the zero value: there is none.
	ProblemNone Problem = iota

	// ProblemMissing: the proxy sent no such field, or, with Config.Hops, one with fewer addresses
	// than there are proxies. Many proxies' own health checks are such requests.
	ProblemMissing

	// ProblemNoAddress: the walk came to something that isn't an address and ended there, at the
	// last proxy before it. "unknown" and names that hide an address (RFC 7239, section 6) are
	// none either.
	ProblemNoAddress

	// ProblemRepeated: a field of one address came more than once, so that one may be the
	// client's own. None is believed.
	ProblemRepeated
)

var problemNames = [...]string{
	ProblemNone: "none", ProblemMissing: "field missing", ProblemNoAddress: "no address in field",
	ProblemRepeated: "field repeated",
}

// String returns what it is in a few words: "field missing", for example.
func (p Problem) String() string {
	if int(p) < len(problemNames) {
		return problemNames[p]
	}
	return "Problem(" + strconv.Itoa(int(p)) + ")"
}

// MarshalText returns what String does. It is an error if p isn't one of the constants.
func (p Problem) MarshalText() ([]byte, error) { return marshal(problemNames[:], int(p), p) }

func marshal(names []string, i int, v fmt.Stringer) ([]byte, error) {
	if i >= len(names) {
		return nil, fmt.Errorf("clientip: there is no %v", v)
	}
	return []byte(names[i]), nil
}

// Client says who sent a request, and how that is known.
type Client struct {
	// Addr is the client's address: plain, so that IPv4-mapped IPv6 is IPv4, and without zone.
	// It is the zero Addr if none is known.
	Addr netip.Addr

	// Found says where Addr was found.
	Found Found

	// Proxied reports whether the request comes from a trusted HTTP proxy: then the proxy's other
	// fields, such as X-Forwarded-Host, may be believed as far as that proxy writes them itself.
	// It is so for a proxy that names the client by PROXY and is known by its socket, too.
	Proxied bool

	// Problem says why the field didn't say more.
	Problem Problem

	// Proxies are the addresses of the trusted HTTP proxies between the client and us, the nearest
	// first. A peer on a Unix socket has none.
	Proxies []netip.Addr
}

// ClientFromContext returns what is known of the client of a request that came through
// [NewHandler]'s handler, and whether it did. Don't change what it points to.
func ClientFromContext(ctx context.Context) (*Client, bool) {
	if p, ok := ctx.Value(contextKey{}).(*passed); ok {
		return &p.client, true
	}
	return nil, false
}

// FromContext returns the address of the client of a request that came through [NewHandler]'s
// handler, and whether one is known. It is plain: IPv4-mapped IPv6 is IPv4, and it has no zone.
func FromContext(ctx context.Context) (netip.Addr, bool) {
	c, ok := ClientFromContext(ctx)
	if !ok {
		return netip.Addr{}, false
	}
	return c.Addr, c.Addr.IsValid()
}

// Scheme returns how the client of a request that came through [NewHandler]'s handler connected:
// "https" or "http". Whether cookies are to be secure, and where redirects lead, hangs on it.
//
// Four can say so. Whoever is nearest to the client and does say it is believed, since the others
// only know how a proxy connected to the next:
//
//   - The SSL TLV of the connection's PROXY header, if it says that the client came by TLS and that
//     client isn't itself a trusted HTTP proxy.
//   - The trusted HTTP proxies: in X-Forwarded-Proto, which counts if it comes once and with one
//     value, or in Forwarded if that is Config.Field. A proxy that takes http and speaks https to
//     us says "http" here, and must be believed: else its clients would never be redirected to
//     https.
//   - The SSL TLV of any other client. That it came without TLS counts if a trusted HTTP proxy says
//     so of its own client; a balancer of layer 4 says it of TLS that it passes through, too.
//   - This connection's own TLS.
//
// Where none says anything, and for other contexts, it is "http". A trusted proxy must set
// X-Forwarded-Proto itself: one that passes on its clients' has them choose the scheme.
func Scheme(ctx context.Context) string {
	if p, ok := ctx.Value(contextKey{}).(*passed); ok && p.https {
		return "https"
	}
	return "http"
}

// passed is a request on its way to the next handler, and its context. The two are one so that a
// request costs one allocation besides its RemoteAddr.
type passed struct {
	context.Context
	request http.Request
	came    *http.Request // as it came to the outermost of our handlers
	client  Client
	proxies [1]netip.Addr // the client's, while there are no more
	port    uint16        // the client's, if it has an address
	proto   proto         // what is said of how the client came
	https   bool
}

type contextKey struct{}

// Value returns p itself for this package's key.
func (p *passed) Value(key any) any {
	if key == (contextKey{}) {
		return p
	}
	return p.Context.Value(key)
}
