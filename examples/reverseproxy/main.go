// Reverseproxy passes HTTP requests on to a server, and tells it with a PROXY header whose they
// are: for servers that know the client by the connection and not by X-Forwarded-For.
//
//	go run ./examples/httpserver
//	go run ./examples/reverseproxy -to http://127.0.0.1:8080
//	curl http://127.0.0.1:9000/
//
// If it stands behind another proxy that sends headers say so with -trust: it then requires them,
// and passes the first client on with all that its header says.
package main

import (
	"flag"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/proxyhttp"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9000", "address to listen on")
	to := flag.String("to", "http://127.0.0.1:8080", "URL of the server")
	trust := flag.String("trust", "", "the proxies in front, which must send headers:\n"+
		"addresses and ranges; none if it is empty: then clients connect directly")
	version := flag.Uint("version", 2, "of the headers that are sent: 1 or 2")
	patience := flag.Duration("patience", 5*time.Minute,
		"how long a request may take as a whole, and its answer")
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
	ln, err := proxyproto.Listen("tcp", *listen, &proxyproto.Config{
		Policy: policy,
		OnDrop: proxyproto.LogDrops(nil),
	})
	if err != nil {
		log.Fatal(err)
	}
	server, err := newServer(target, proxyproto.Version(*version), *patience)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on %v", ln.Addr())
	log.Printf("try: curl http://%v/", ln.Addr())
	log.Fatal(server.Serve(ln))
}

func newServer(
	target *url.URL, version proxyproto.Version, patience time.Duration,
) (*http.Server, error) {
	// The server's connections are kept, each for the requests of one client's connection: others
	// would get its address.
	transport, err := proxyhttp.NewTransport(nil, func(r *http.Request) (*proxyproto.Header, error) {
		return proxyhttp.HeaderFor(r, version)
	})
	if err != nil {
		return nil, err
	}
	return &http.Server{
		Handler: &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.Out.Host = r.In.Host
				r.SetXForwarded()
			},
			Transport: transport,
		},
		ConnContext:       proxyproto.ConnContext, // so that TLVs are passed on
		ConnState:         transport.ConnState,    // so that they end with the client's
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       patience,
		WriteTimeout:      patience,
		IdleTimeout:       time.Minute,
	}, nil
}
