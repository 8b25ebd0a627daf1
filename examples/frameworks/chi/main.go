// Chi answers each client with its address. None of chi's middlewares may read a field: RealIP believes
// True-Client-IP, X-Real-IP and the first address of X-Forwarded-For from everybody.
//
// The load balancer at 127.0.0.1 speaks PROXY; behind it clients come directly or through the HTTP proxy
// at 10.0.0.11, which appends to X-Forwarded-For.
//
//	go run ./chi
//	# curl 8.2 or later:
//	curl --haproxy-protocol --haproxy-clientip 192.0.2.7 -H 'X-Forwarded-For: 203.0.113.66' http://127.0.0.1:8080/
//	curl --haproxy-protocol --haproxy-clientip 10.0.0.11 -H 'X-Forwarded-For: 203.0.113.66, 192.0.2.7' http://127.0.0.1:8080/
package main

import (
	"io"
	"log"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

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
	r := chi.NewRouter()
	r.Use(middleware.ClientIPFromRemoteAddr) // for what asks GetClientIP; not RealIP, nor another ClientIPFrom
	r.Get("/", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, middleware.GetClientIP(r.Context()))
	})
	return r
}
