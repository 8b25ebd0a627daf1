// Package proxyproto lets a server behind a proxy or load balancer see its real clients, over
// the PROXY protocol versions 1 and 2 (HAProxy's proxy-protocol.txt, revision 2026/04/27).
//
// A proxy that speaks it begins each connection with a header that says who the client is. A
// [Listener] reads and checks the header, and its connections have the client's address as
// RemoteAddr:
//
//	trust, err := proxyproto.ParseTrust("10.0.0.0/8") // the proxies
//	...
//	ln, err := proxyproto.Listen("tcp", ":8080", &proxyproto.Config{
//		Policy: trust,
//		OnDrop: proxyproto.LogDrops(nil),
//	})
//	...
//	http.Serve(ln, handler) // r.RemoteAddr is the client's
//
// [NewListener] is for a listener that you have already.
//
// # Trust
//
// Whoever may send a header may claim any address. There is therefore no default: a [Config] needs
// a [Policy], which chooses an [Action] for each peer before a byte is read. [Trust] and
// [ParseTrust] require a header from the proxies and reject all others; [Rules] tells more kinds
// of peers apart.
//
// # The header
//
// [FromConn] finds the [Conn], also inside a *tls.Conn, and [Conn.Header] is what the proxy said;
// nil if there was no header. HTTP handlers use [ConnContext] and [HeaderFromContext].
//
// # Slow and bad peers
//
// Accept returns a connection when its header is there and valid. Headers that come late are
// awaited side by side, each for Config.HeaderTimeout and Config.MaxPending at a time, so that no
// peer delays another. What a peer does wrong is never an error of Accept: the connection is
// closed, counted in [Stats], and reported to Config.OnDrop with the version, the byte and the
// rule of the spec. [LogDrops] logs that, and [SampleDrops] is for other logs; neither can be
// flooded.
//
// # Without a Listener
//
// [NewConn] wraps a connection of an accept loop of your own, and [ReadHeader] reads a header from
// a bufio.Reader. [Parse] and [Header.AppendTo] read and write headers in memory; they do no I/O
// and don't allocate.
//
// # Sending
//
// A proxy of your own tells the next server of its clients with a [Dialer] and [HeaderFor]. For
// HTTP use package proxyhttp: an http.Transport would send one client's requests under another's
// address.
//
// # Other packages
//
//   - proxyudp reads and sends headers in front of datagrams: its PacketConn is for DNS, QUIC and
//     other servers of UDP.
//   - proxyhttp sends HTTP requests under the address of the client of each.
//   - proxytls makes the TLVs by which a proxy that ends TLS tells of it.
//   - cloudtlv reads the TLVs of AWS, Google Cloud, Azure and Alibaba Cloud.
//   - clientip finds the client behind HTTP proxies, from Forwarded and X-Forwarded-For.
//   - toa finds the client's address in a TCP option, on Linux.
package proxyproto
