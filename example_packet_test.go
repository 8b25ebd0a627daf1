package proxyproto_test

import (
	"fmt"
	"log"
	"net"
	"net/netip"

	"github.com/seed2e8fe8ee/proxyproto"
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
	packets, err := proxyproto.NewPacketConn(inner, &proxyproto.Config{Policy: policy})
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
			answer := fmt.Sprintf("%s, %v", b[:n], client)
			if _, err := packets.WriteTo([]byte(answer), client); err != nil {
				log.Print(err)
			}
		}
	}()

	// A proxy, with a datagram of a client's.
	proxy, err := net.Dial("udp", packets.LocalAddr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer proxy.Close()
	header := proxyproto.Header{
		Version:     proxyproto.V2,
		Command:     proxyproto.Proxy,
		Protocol:    proxyproto.UDP4,
		Source:      netip.MustParseAddrPort("192.0.2.7:5353"),
		Destination: netip.MustParseAddrPort("198.51.100.1:53"),
	}
	datagram, err := header.AppendPacket(nil, []byte("hello"), 1472)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := proxy.Write(datagram); err != nil {
		log.Fatal(err)
	}
	b := make([]byte, 1500)
	n, err := proxy.Read(b)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", b[:n])
	// Output: hello, 192.0.2.7:5353
}
