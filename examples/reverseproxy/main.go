// Reverseproxy passes HTTP requests on to a server, and tells it with a PROXY header whose they
// are: for servers that know the client by the connection and not by X-Forwarded-For.
//
//	go run ./examples/httpserver -listen 127.0.0.1:8080 -trust 127.0.0.1
//	go run ./examples/reverseproxy -listen 127.0.0.1:9000 -to http://127.0.0.1:8080
//	curl http://127.0.0.1:9000/
//
// If it stands behind another proxy that sends headers say so with -trust: it then requires them,
// and passes the first client on with all that its header says.
package main

import (
	"flag"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/proxyhttp"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9000", "address to listen on")
	to := flag.String("to", "http://127.0.0.1:8080", "URL of the server")
	trust := flag.String("trust", "", "the proxies in front, which must send headers: addresses and CIDR ranges, with commas;\nif it is empty there are none, and clients connect directly")
	version := flag.Uint("version", 2, "of the headers that are sent: 1 or 2")
	flag.Parse()
	if *version != 1 && *version != 2 {
		log.Fatal("-version: there are 1 and 2")
	}
	target, err := url.Parse(*to)
	if err != nil || target.Host == "" {
		log.Fatalf("-to: %q isn't the URL of a server", *to)
	}

	policy := proxyproto.Always(proxyproto.Skip)
	if *trust != "" {
		if policy, err = proxyproto.ParseTrust(strings.Split(*trust, ",")...); err != nil {
			log.Fatal("-trust: ", err)
		}
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
	proxy, err := newProxy(target, proxyproto.Version(*version))
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Handler:           proxy,
		ConnContext:       proxyproto.ConnContext, // so that TLVs are passed on
		ReadHeaderTimeout: 10 * time.Second,
	}
	log.Printf("listening on %v", ln.Addr())
	log.Fatal(server.Serve(ln))
}

func newProxy(target *url.URL, version proxyproto.Version) (http.Handler, error) {
	// Each request goes over a connection of its own: on a shared one it would get another
	// client's address.
	transport, err := proxyhttp.NewTransport(nil, func(r *http.Request) (*proxyproto.Header, error) {
		return proxyhttp.HeaderFor(r, version)
	})
	if err != nil {
		return nil, err
	}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		Transport: transport,
	}, nil
}
