// Httpserver answers each client with its own address, behind a proxy that sends PROXY headers.
//
//	go run ./examples/httpserver -listen 127.0.0.1:8080 -trust 127.0.0.1
//	curl --haproxy-protocol http://127.0.0.1:8080/
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	trust := flag.String("trust", "", "whose headers to believe: addresses and CIDR ranges, with commas")
	flag.Parse()

	policy, err := proxyproto.ParseTrust(strings.Split(*trust, ",")...)
	if err != nil {
		log.Fatal("-trust: ", err)
	}
	inner, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{
		Policy: policy,
		OnDrop: func(peer netip.AddrPort, err error) { log.Printf("dropped %v: %v", peer, err) },
	})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		ConnContext: proxyproto.ConnContext, // only for FromContext
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, "you are", r.RemoteAddr)
			if header, ok := proxyproto.FromContext(r.Context()); ok {
				fmt.Fprintln(w, "the proxy says", header)
			}
		}),
	}
	log.Printf("listening on %v", ln.Addr())
	log.Fatal(server.Serve(ln))
}
