// Echo answers each client with its address, as echo's own RealIP has it. Echo mustn't read any field: by
// default it believes the first address of X-Forwarded-For, and X-Real-IP, from everybody.
//
// The load balancer at 127.0.0.1 speaks PROXY; behind it clients come directly or through the HTTP proxy
// at 10.0.0.11, which appends to X-Forwarded-For.
//
//	go run ./echo
//	# curl 8.2 or later:
//	curl --haproxy-protocol --haproxy-clientip 192.0.2.7 -H 'X-Forwarded-For: 203.0.113.66' http://127.0.0.1:8080/
//	curl --haproxy-protocol --haproxy-clientip 10.0.0.11 -H 'X-Forwarded-For: 203.0.113.66, 192.0.2.7' http://127.0.0.1:8080/
package main

import (
	"log"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

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
	e := echo.New()
	e.IPExtractor = echo.ExtractIPDirect() // RealIP is RemoteAddr's, and no field is read
	e.GET("/", func(c echo.Context) error { return c.String(http.StatusOK, c.RealIP()) })
	return e
}
