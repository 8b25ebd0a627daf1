// Observe shows what a Listener does: the connections that it drops as log/slog records, of which
// neither probes nor repeated offenders can make a flood, and its counts as an expvar.
//
//	go run ./examples/observe
//	curl --haproxy-protocol http://127.0.0.1:8080/    # served
//	curl http://127.0.0.1:8080/                       # dropped: logged once a minute, counted each time
//	curl -s http://127.0.0.1:8081/debug/vars | jq .proxyproto
//
// For Prometheus see package proxyprom.
package main

import (
	"expvar"
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
	stats := flag.String("stats", "127.0.0.1:8081", "address of the counts, for yourself alone")
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
	expvar.Publish("proxyproto", counts(ln))
	admin, err := net.Listen("tcp", *stats)
	if err != nil {
		log.Fatal("-stats: ", err)
	}
	go func() { log.Fatal(newServer(expvar.Handler()).Serve(admin)) }()
	log.Printf("listening on %v", ln.Addr())
	log.Printf("try: curl --haproxy-protocol http://%v/", ln.Addr())
	log.Printf("and: curl -s http://%v/debug/vars | jq .proxyproto", admin.Addr())
	log.Fatal(newServer(http.HandlerFunc(hello)).Serve(ln))
}

func newServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // with the body; and for the next request
		WriteTimeout:      30 * time.Second, // of the answer
	}
}

func hello(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello %s\n", r.RemoteAddr) }

// counts returns the Stats of a Listener as a variable for /debug/vars.
func counts(ln *proxyproto.Listener) expvar.Func {
	return func() any { return ln.Stats() }
}
