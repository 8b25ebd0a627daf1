// Https serves HTTP behind a balancer, with the clients' TLS at either end.
//
// If the balancer passes TLS on, it ends here. The header comes before it, in the clear:
//
//	go run "$(go env GOROOT)/src/crypto/tls/generate_cert.go" -host localhost
//	go run ./examples/https -cert cert.pem -key key.pem
//	curl -k --haproxy-protocol https://localhost:8443/
//
// If TLS ends at the balancer, requests come in the clear behind the header, also those of HTTP/2
// that the balancer has negotiated with the client (HAProxy: server … send-proxy-v2-ssl, alpn h2 on
// the bind line):
//
//	go run ./examples/https
//	curl --haproxy-protocol http://localhost:8443/
//	curl --haproxy-protocol --http2-prior-knowledge http://localhost:8443/
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	listen := flag.String("listen", "localhost:8443", "address to listen on")
	trust := flag.String("trust", "127.0.0.1,::1", "whose headers to believe: addresses and ranges")
	cert := flag.String("cert", "", "certificate, if clients' TLS ends here")
	key := flag.String("key", "", "its key")
	flag.Parse()
	if (*cert == "") != (*key == "") {
		log.Fatal("-cert and -key: one is no use without the other")
	}

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
	log.Printf("listening on %v", ln.Addr())
	if *cert != "" {
		log.Printf("try: curl -k --haproxy-protocol https://%v/", ln.Addr())
		log.Fatal(newServer().ServeTLS(ln, *cert, *key))
	}
	log.Printf("try: curl --haproxy-protocol http://%v/", ln.Addr())
	log.Fatal(newServer().Serve(ln))
}

// newServer makes a server for both: ServeTLS if TLS ends here, Serve if it ends at the balancer.
func newServer() *http.Server {
	srv := &http.Server{
		Handler:           http.HandlerFunc(hello),
		ConnContext:       proxyproto.ConnContext, // for HeaderFromContext
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // with the body; and for the next request
		WriteTimeout:      30 * time.Second, // of the answer
		HTTP2:             &http.HTTP2Config{WriteByteTimeout: 30 * time.Second},
		Protocols:         new(http.Protocols),
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(true)            // negotiated in TLS that ends here
	srv.Protocols.SetUnencryptedHTTP2(true) // negotiated by the balancer in TLS that ends there
	return srv
}

func hello(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "hello %s, you came by %s, over TLS: %v\n", r.RemoteAddr, r.Proto, overTLS(r))
	if name, ok := certificateName(r); ok {
		fmt.Fprintf(w, "your certificate says %q\n", name)
	}
}

// overTLS reports whether the client used TLS, wherever it ended.
func overTLS(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	h, ok := proxyproto.HeaderFromContext(r.Context())
	if !ok {
		return false
	}
	ssl, ok := h.TLVs.SSL()
	return ok && ssl.TLS()
}

// certificateName returns the common name of the client's certificate, if the balancer has verified
// one. Who may have such a certificate is up to the balancer.
func certificateName(r *http.Request) (string, bool) {
	h, ok := proxyproto.HeaderFromContext(r.Context())
	if !ok {
		return "", false
	}
	ssl, _ := h.TLVs.SSL()
	name, ok := ssl.CommonName()
	return string(name), ok
}
