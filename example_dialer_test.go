package proxyproto_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

// startServer starts a server that expects headers, and prints whose connections it gets.
func startServer() (ln net.Listener, served <-chan bool) {
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{
		Policy: proxyproto.Trust(netip.MustParsePrefix("127.0.0.0/8")),
	})
	if err != nil {
		panic(err)
	}
	one := make(chan bool)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conn, _ := proxyproto.FromConn(c)
			if h := conn.Header(); h.HasAddrs() {
				fmt.Println("a client:", c.RemoteAddr(), "came to", c.LocalAddr())
			} else {
				fmt.Println("a health check")
			}
			c.Close()
			one <- true
		}
	}()
	return ln, one
}

// A proxy that knows the client's addresses otherwise than by its connection: then HeaderFor does
// this.
func ExampleDialer() {
	ln, served := startServer()
	defer ln.Close()
	client := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 56324}
	cameTo := &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 443}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var dialer proxyproto.Dialer
	server, err := dialer.DialHeader(ctx, "tcp", ln.Addr().String(),
		proxyproto.NewHeader(client, cameTo, proxyproto.V2))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	<-served
	// Output: a client: 192.0.2.7:56324 came to 198.51.100.1:443
}

// A health check has no client.
func ExampleDialer_healthCheck() {
	ln, served := startServer()
	defer ln.Close()

	checker := proxyproto.Dialer{Inner: &net.Dialer{Timeout: 2 * time.Second}}
	check := &proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Local}
	server, err := checker.DialHeader(context.Background(), "tcp", ln.Addr().String(), check)
	if err != nil {
		fmt.Println("down:", err)
		return
	}
	defer server.Close() // at once, it would be a probe, which Accept doesn't return

	<-served
	// Output: a health check
}

// Set says each thing once, whatever is there; Without takes out what isn't believed.
func ExampleTLVs_Set() {
	// What the proxy in front has sent.
	var theirs proxyproto.TLVs
	for typ, value := range map[proxyproto.TLVType]string{
		proxyproto.TypeAuthority: "admin.example", proxyproto.TypeUniqueID: "id-1",
	} {
		theirs, _ = theirs.Set(typ, []byte(value))
	}
	ours, err := theirs.Without(proxyproto.TypeUniqueID).
		Set(proxyproto.TypeAuthority, []byte("www.example"))
	for typ, value := range ours.All() {
		fmt.Println(typ, string(value), err)
	}
	// Output: AUTHORITY www.example <nil>
}
