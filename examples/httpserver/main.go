// Httpserver answers each client with its own address, behind a proxy that sends PROXY headers.
//
//	go run ./examples/httpserver
//	curl --haproxy-protocol http://127.0.0.1:8080/
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	trust := flag.String("trust", "127.0.0.1,::1", "whose headers to believe: addresses and ranges")
	flag.Parse()

	policy, err := proxyproto.ParseTrust(strings.Split(*trust, ",")...)
	if err != nil {
		log.Fatal("-trust: ", err)
	}
	ln, err := proxyproto.Listen("tcp", *listen, &proxyproto.Config{
		Policy: policy,
		OnDrop: proxyproto.LogDrops(nil),
	})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Handler:           http.HandlerFunc(whoami),
		ConnContext:       connContext, // only for what is besides r.RemoteAddr
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // with the body; and for the next request
		WriteTimeout:      30 * time.Second, // of the answer
	}
	log.Printf("listening on %v", ln.Addr())
	log.Printf("try: curl --haproxy-protocol http://%v/", ln.Addr())
	log.Fatal(server.Serve(ln))
}

func whoami(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(w, "you are", r.RemoteAddr)
	if header, ok := proxyproto.HeaderFromContext(r.Context()); ok {
		fmt.Fprintln(w, "the header says", header)
	}
	fmt.Fprintln(w, "the socket is", r.Context().Value(peerKey{}))
}

type peerKey struct{}

// connContext lets handlers find the connection's header, and whose socket it is: the proxy's.
func connContext(ctx context.Context, c net.Conn) context.Context {
	if conn, ok := proxyproto.FromConn(c); ok {
		ctx = context.WithValue(ctx, peerKey{}, conn.NetConn().RemoteAddr())
	}
	return proxyproto.ConnContext(ctx, c)
}
