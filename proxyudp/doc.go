// Package proxyudp serves clients of UDP behind a proxy that puts a PROXY protocol header in front
// of each datagram, as dnsdist and kdig do.
//
//	inner, err := net.ListenPacket("udp", ":53")
//	...
//	packets, err := proxyudp.NewPacketConn(inner, &proxyudp.Config{Policy: policy})
//	...
//	dns.ActivateAndServe(nil, packets, handler)
//
// A [PacketConn] is a net.PacketConn whose ReadFrom returns the client's address, a *net.UDPAddr,
// and whose WriteTo with that address replies through the proxy. [RouteOf] says of such an address
// which proxy that is, what the client sent to, and the header's TLVs. A [QUICConn] is the same for
// quic-go and HTTP/3. For the other side, [AppendPacket] makes datagrams with a header, and a
// [Sender] is a socket that does.
//
// Whom to trust is said by a Policy of package proxyproto. docs/udp.md has the rest: binding, trust,
// the MTU, and what each server library does with a PacketConn.
package proxyudp
