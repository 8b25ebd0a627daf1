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
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	ln, err = proxyproto.NewListener(inner, &proxyproto.Config{
		Policy: proxyproto.Trust(netip.MustParsePrefix("127.0.0.0/8")),
	})
	if err != nil {
		panic(err)
	}
	one := make(chan bool)
	go func() {
		defer close(one)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conn, _ := proxyproto.FromConn(c)
			if h := conn.Header(); h.Command == proxyproto.Proxy {
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

// A proxy would take the header from the client's connection, with HeaderFor.
func ExampleDialer() {
	ln, served := startServer()
	defer ln.Close()
	client := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 56324}
	cameTo := &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 443}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	header := proxyproto.NewHeader(proxyproto.V2, client, cameTo)
	var dialer proxyproto.Dialer
	server, err := dialer.DialContext(proxyproto.WithHeader(ctx, header), "tcp", ln.Addr().String())
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

	checker := proxyproto.Dialer{
		Inner: &net.Dialer{Timeout: 2 * time.Second},
		Header: func(context.Context, string, string) (*proxyproto.Header, error) {
			return &proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Local}, nil
		},
	}
	server, err := checker.DialContext(context.Background(), "tcp", ln.Addr().String())
	if err != nil {
		fmt.Println("down:", err)
		return
	}
	server.Close()

	<-served
	// Output: a health check
}

// TLVs say more of the client than its address. Here a checksum is added, which is computed when
// the header is written, and padding to 64 bytes.
func ExampleHeader_Align() {
	header := proxyproto.NewHeader(proxyproto.V2,
		&net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 56324}, &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 443})
	var err error
	if header.TLVs, err = header.TLVs.Append(proxyproto.TypeAuthority, []byte("www.example")); err != nil {
		fmt.Println(err)
	}
	if header.TLVs, err = header.TLVs.Append(proxyproto.TypeCRC32C, make([]byte, 4)); err != nil {
		fmt.Println(err)
	}
	if err := header.Align(64); err != nil {
		fmt.Println(err)
	}
	wire, err := header.AppendTo(nil)
	fmt.Println(len(wire), "bytes", err)
	for typ, value := range header.TLVs.All() {
		fmt.Printf("%v, %d bytes\n", typ, len(value))
	}
	// Output:
	// 64 bytes <nil>
	// AUTHORITY, 11 bytes
	// CRC32C, 4 bytes
	// NOOP, 12 bytes
}
