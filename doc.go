// Package proxyproto lets a server behind a proxy or load balancer see its real clients, over
// the PROXY protocol versions 1 and 2 (HAProxy's proxy-protocol.txt, revision 2026/04/27).
//
// A proxy that speaks it begins each connection with a header that says who the client is. A
// [Listener] around net.Listen's reads and checks the header, and its connections have the
// client's address as RemoteAddr:
//
//	inner, err := net.Listen("tcp", ":8080")
//	...
//	trust, err := proxyproto.ParseTrust("10.0.0.0/8")
//	...
//	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{Policy: trust})
//	...
//	http.Serve(ln, handler) // r.RemoteAddr is the client's
//
// # Trust
//
// Whoever may send a header may claim to be anybody. There is therefore no default: a
// [Config] needs a [Policy], which chooses an [Action] for each peer before a byte is read.
// [Trust] and [ParseTrust] require a header from the proxies and reject all others; [Rules]
// tells more kinds of peers apart.
//
// # Slow and bad peers
//
// Accept returns a connection when its header is there and valid. Headers that come late are
// awaited side by side, each for Config.HeaderTimeout and Config.MaxPending at a time, so that no
// peer delays another. What a peer does wrong is never an error of Accept: the connection is
// closed, counted in [Stats], and told to Config.OnDrop with the version, the byte and the rule of
// the spec.
//
// # Without a Listener
//
// [NewConn] wraps a connection of an accept loop of your own. [Parse] and [Header.AppendTo] read
// and write headers in memory; they do no I/O and don't allocate.
//
// # Sending
//
// A proxy of your own tells the next server of its clients with a [Dialer] and [HeaderFor]. For
// HTTP use package proxyhttp: an http.Transport would send one client's requests under another's
// address.
package proxyproto
