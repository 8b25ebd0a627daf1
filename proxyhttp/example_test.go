package proxyhttp_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/proxyhttp"
)

// startBackend starts a server that expects a header and tells each client who it is.
func startBackend() (address *url.URL, stop func()) {
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{
		Policy: proxyproto.Trust(netip.MustParsePrefix("127.0.0.1/32")),
	})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "you are %s", r.RemoteAddr)
	})}
	go server.Serve(ln)
	return &url.URL{Scheme: "http", Host: ln.Addr().String()}, func() { server.Close() }
}

// A reverse proxy that names each of its clients to the server.
func ExampleNewTransport() {
	backend, stop := startBackend()
	defer stop()
	transport, err := proxyhttp.NewTransport(nil, func(r *http.Request) (*proxyproto.Header, error) {
		return proxyhttp.HeaderFor(r, proxyproto.V2)
	})
	if err != nil {
		log.Fatal(err)
	}
	defer transport.CloseIdleConnections()
	proxy := httputil.NewSingleHostReverseProxy(backend)
	proxy.Transport = transport

	// What net/http gives the proxy for a client's request:
	local := &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 80}
	ctx := context.WithValue(context.Background(), http.LocalAddrContextKey, local)
	request := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	request.RemoteAddr = "192.0.2.7:56324"
	answer := httptest.NewRecorder()
	proxy.ServeHTTP(answer, request)
	body, _ := io.ReadAll(answer.Result().Body)
	fmt.Println(string(body))
	// Output: you are 192.0.2.7:56324
}

// What is said of a client whose request has come to net/http's server.
func ExampleHeaderFor() {
	local := &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 80}
	ctx := context.WithValue(context.Background(), http.LocalAddrContextKey, local)
	request := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	request.RemoteAddr = "192.0.2.7:56324"
	fmt.Println(proxyhttp.HeaderFor(request, proxyproto.V1))
	// Output: v1 PROXY TCP4 192.0.2.7:56324 -> 198.51.100.1:80 <nil>
}
