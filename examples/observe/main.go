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
	admin := &http.Server{Addr: *stats, Handler: expvar.Handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() { log.Fatal(admin.ListenAndServe()) }()
	server := &http.Server{Handler: http.HandlerFunc(hello), ReadHeaderTimeout: 10 * time.Second}
	log.Printf("listening on %v", ln.Addr())
	log.Printf("try: curl --haproxy-protocol http://%v/", ln.Addr())
	log.Printf("and: curl -s http://%s/debug/vars | jq .proxyproto", *stats)
	log.Fatal(server.Serve(ln))
}

func hello(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello %s\n", r.RemoteAddr) }

// counts returns the Stats of a Listener as a variable for /debug/vars.
func counts(ln *proxyproto.Listener) expvar.Func {
	return func() any { return ln.Stats() }
}
