// Package clientip gives HTTP handlers the client's address, whatever way it came: on the
// connection, in its PROXY header, or in a field such as X-Forwarded-For that an HTTP proxy wrote.
//
//	trust, err := proxyproto.ParsePrefixes("10.0.0.11", "2001:db8::/64") // HTTP proxies
//	...
//	handler, err := clientip.NewHandler(mux, &clientip.Config{
//		Trust: trust,
//		Field: "X-Forwarded-For",
//	})
//	...
//	server := &http.Server{Handler: handler, ConnContext: proxyproto.ConnContext}
//
// Behind it r.RemoteAddr is the client's, and [FromContext], [ClientFromContext] and [Scheme] say
// more.
//
// # Whom it believes
//
// Any client can send any field. The walk to the client therefore begins with the one address that
// nobody can choose: who holds the socket's other end or, if the connection began with a PROXY
// header, whom that names. Only if that is a trusted HTTP proxy is the field believed, and then
// from its right end, where that proxy has written: as long as an address is a trusted proxy's,
// the one to its left is believed too. The first that isn't is the client. If all are, the leftmost
// is.
//
// What isn't an address ends the walk: the client is then the last proxy that was reached. So it
// does if the proxy sent no field. [Client] says so, and [StatsOf] counts it.
//
// # What the server needs
//
// Set http.Server.ConnContext to [proxyproto.ConnContext] if the listener is a
// [proxyproto.Listener]. Without it the client's address is found all the same, but the PROXY
// header and the socket's peer aren't seen: Scheme doesn't know the header's SSL TLV, an HTTP
// proxy that sends both PROXY and fields isn't recognized, nor is the client of a Lazy listener.
//
// The Handler goes around all others that ask who the client is: loggers, limiters, routers.
package clientip

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/textproto"

	"github.com/seed2e8fe8ee/proxyproto"
)

// Config says which HTTP proxies are believed, and in which field. As a tls.Config it must not be
// modified once it has been passed to a function of this package.
type Config struct {
	// Trust has the addresses of the HTTP proxies whose field is believed:
	// [proxyproto.ParsePrefixes] reads them. IPv4-mapped IPv6 prefixes and addresses are IPv4 here,
	// as in a [proxyproto.Policy]. An empty list that isn't nil trusts nobody, which is right
	// behind proxies that speak PROXY alone.
	//
	// A load balancer that passes its clients' bytes through mustn't be in it, even if it speaks
	// PROXY, since the fields that it passes on are the clients' own. Nor must a range in which
	// anybody else has an address, a whole private one for example.
	Trust []netip.Prefix

	// Hops is how many proxies append to the field, if there are no Trust prefixes to know them
	// by: the client is that many elements from the field's right end, or the leftmost of fewer.
	// Whoever can connect can then claim any address: a firewall must let nobody but the
	// proxies in. With a field of one address it can only be 1.
	Hops int

	// Field is the one field that is read: "X-Forwarded-For", "Forwarded" (RFC 7239), or the name
	// of a field that has just one address, such as "X-Real-IP" or "CF-Connecting-IP". It must be
	// one that the nearest proxy writes or appends to, and never one that it passes through.
	// Required.
	Field string

	// Unix says that a peer on a Unix socket is such a proxy. A client that a PROXY header says
	// came by a Unix socket is none.
	Unix bool

	// Rewrite makes the fields of the handler's request say what is true, for handlers that read
	// them themselves; otherwise they stay as they came, the client's own writing among them.
	//
	// X-Forwarded-For, X-Real-IP, Forwarded and Field then have the client's address and nothing
	// else, or are missing if it isn't known. Other fields by which programs find a client are
	// removed: True-Client-IP, for example. So are all other X-Forwarded- fields, unless
	// Client.Proxied says that a trusted proxy sent them: X-Forwarded-Host then stays if it comes
	// once and with one value, and X-Forwarded-Proto if it says what [Scheme] does. Trailers stay
	// as they came.
	Rewrite bool
}

// NewHandler returns a handler that finds each request's client and calls next with a copy of the
// request in which RemoteAddr is the client's address. [netip.ParseAddrPort] can always read it:
// the port is 0 where none is known, and a client without any address is 0.0.0.0:0.
//
// Of two such handlers, one inside the other, both look for the client in the request as it came to
// the outer one.
//
// The error says what is wrong with cfg. There is no default for whom to trust.
func NewHandler(next http.Handler, cfg *Config) (http.Handler, error) {
	if next == nil {
		return nil, errors.New("clientip: NewHandler needs a handler to call")
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	h := &handler{
		next:    next,
		field:   textproto.CanonicalMIMEHeaderKey(cfg.Field),
		hops:    cfg.Hops,
		unix:    cfg.Unix,
		rewrite: cfg.Rewrite,
	}
	h.format = formatOf(h.field)
	texts := make([]string, len(cfg.Trust))
	for i, p := range cfg.Trust {
		texts[i] = p.String()
	}
	prefixes, err := proxyproto.ParsePrefixes(texts...)
	if err != nil {
		return nil, fmt.Errorf("clientip: Config.Trust: %w", err)
	}
	h.trust = proxyproto.Trust(prefixes...)
	return h, nil
}

// check reports what is wrong with a Config, apart from its prefixes.
func (cfg *Config) check() error {
	switch {
	case cfg == nil || cfg.Trust == nil && cfg.Hops == 0 && !cfg.Unix:
		return errors.New("clientip: Config trusts no HTTP proxy: list them in Trust " +
			"(an empty list that isn't nil: there is none)")
	case cfg.Hops < 0:
		return fmt.Errorf("clientip: Config.Hops is negative: %d", cfg.Hops)
	case cfg.Hops > 0 && cfg.Trust != nil:
		return errors.New("clientip: Config has both Trust and Hops: proxies are known by their " +
			"addresses or by their number")
	case cfg.Field == "":
		return errors.New("clientip: Config has no Field: name the one that the proxy writes, " +
			"X-Forwarded-For for example")
	case !isToken(cfg.Field):
		return fmt.Errorf("clientip: Config.Field can't be a field's name: %q", cfg.Field)
	case cfg.Hops > 1 && formatOf(textproto.CanonicalMIMEHeaderKey(cfg.Field)) == formatSingle:
		return fmt.Errorf("clientip: Config.Hops is %d, but %s has one address: "+
			"no proxy appends to it", cfg.Hops, cfg.Field)
	}
	return nil
}
