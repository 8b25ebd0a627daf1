// Clientip answers each client with its address, and with how it is known: net/http alone.
//
// The load balancer at 127.0.0.1 speaks PROXY; behind it clients come directly or through the HTTP proxy
// at 10.0.0.11, which appends to X-Forwarded-For.
//
//	go run ./clientip
//	# curl 8.2 or later:
//	curl --haproxy-protocol --haproxy-clientip 192.0.2.7 -H 'X-Forwarded-For: 203.0.113.66' http://127.0.0.1:8080/
//	curl --haproxy-protocol --haproxy-clientip 10.0.0.11 -H 'X-Forwarded-For: 203.0.113.66, 192.0.2.7' http://127.0.0.1:8080/
package main

import (
	"io"
	"log"
	"net/http"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/clientip"
)

func main() {
	balancer, err := proxyproto.ParseTrust("127.0.0.1") // whose PROXY header is believed
	if err != nil {
		log.Fatal(err)
	}
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:8080", &proxyproto.Config{Policy: balancer})
	if err != nil {
		log.Fatal(err)
	}
	srv, err := newServer()
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(srv.Serve(ln))
}

// newServer puts clientip around everything, so that all of it sees the client in r.RemoteAddr.
func newServer() (*http.Server, error) {
	trust, err := proxyproto.ParsePrefixes("10.0.0.11") // whose X-Forwarded-For is believed
	if err != nil {
		return nil, err
	}
	handler, err := clientip.NewHandler(newHandler(), &clientip.Config{Trust: trust, Field: "X-Forwarded-For"})
	if err != nil {
		return nil, err
	}
	return &http.Server{
		Handler:           handler,
		ConnContext:       proxyproto.ConnContext,
		ReadHeaderTimeout: 10 * time.Second,
	}, nil
}

func newHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, _ := clientip.ClientFromContext(r.Context())
		log.Printf("%s %s from %s, by its %v", r.Method, r.URL.Path, r.RemoteAddr, client.Found)
		io.WriteString(w, client.Addr.String())
	})
}
