package proxyudp_test

import (
	"fmt"
	"log"
	"net"
	"net/netip"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

// A server that answers each datagram, through the proxy that it came from.
func ExampleNewPacketConn() {
	inner, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	policy, err := proxyproto.ParseTrust("127.0.0.1")
	if err != nil {
		log.Fatal(err)
	}
	packets, err := proxyudp.NewPacketConn(inner, &proxyudp.Config{Policy: policy})
	if err != nil {
		log.Fatal(err)
	}
	defer packets.Close()
	go func() {
		b := make([]byte, 1232)
		for {
			n, client, err := packets.ReadFrom(b)
			if err != nil {
				return // it is closed: what peers send is never an error
			}
			route, _ := proxyudp.RouteOf(client)
			answer := fmt.Sprintf("%s, %v, who asked %v", b[:n], client, route.Destination)
			if _, err := packets.WriteTo([]byte(answer), client); err != nil {
				log.Print(err)
			}
		}
	}()
	fmt.Println(ask(packets.LocalAddr()))
	// Output: hello, 192.0.2.7:5353, who asked 198.51.100.1:53
}

// ask is a proxy, with a datagram of a client's.
func ask(server net.Addr) string {
	socket, err := net.Dial("udp", server.String())
	if err != nil {
		log.Fatal(err)
	}
	proxy, err := proxyudp.NewSender(socket.(*net.UDPConn), &proxyproto.Header{
		Version:     proxyproto.V2,
		Command:     proxyproto.Proxy,
		Protocol:    proxyproto.UDP4,
		Source:      netip.MustParseAddrPort("192.0.2.7:5353"),
		Destination: netip.MustParseAddrPort("198.51.100.1:53"),
	}, 1472)
	if err != nil {
		log.Fatal(err)
	}
	defer proxy.Close()
	if _, err := proxy.Write([]byte("hello")); err != nil {
		log.Fatal(err)
	}
	b := make([]byte, 1500)
	n, err := proxy.Read(b)
	if err != nil {
		log.Fatal(err)
	}
	return string(b[:n])
}
