// Reuseport accepts on as many sockets as there are CPUs, all on one address (SO_REUSEPORT): the
// kernel deals new connections out to them. Each has a Listener of its own, so that nothing is
// shared: no lock, no queue, no count. It is for servers that take tens of thousands of new
// connections a second, see docs/performance.md; one Listener does for all others.
//
//	go run ./examples/reuseport
//	curl --haproxy-protocol http://127.0.0.1:8080/
//
// Of the systems that have SO_REUSEPORT only Linux deals connections out; on others the program
// says that it can't.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	addr := flag.String("listen", "127.0.0.1:8080", "where to listen")
	trust := flag.String("trust", "127.0.0.1,::1", "whose headers to believe: addresses and ranges")
	sockets := flag.Int("sockets", runtime.GOMAXPROCS(0), "how many sockets to listen on")
	flag.Parse()

	policy, err := proxyproto.ParseTrust(strings.Split(*trust, ",")...)
	if err != nil {
		log.Fatal("-trust: ", err)
	}
	listeners, err := listen(*addr, *sockets, &proxyproto.Config{
		Policy: policy,
		OnDrop: proxyproto.LogDrops(nil), // one for all, so that it limits the lines of all
	})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Handler:           answer(listeners),
		ReadHeaderTimeout: 10 * time.Second, // of a request's header, PROXY headers apart
		ReadTimeout:       30 * time.Second, // of the whole request, and of idling after it
		WriteTimeout:      30 * time.Second,
	}
	failed := make(chan error)
	for _, ln := range listeners {
		go func() { failed <- server.Serve(ln) }() // Shutdown closes them all
	}
	log.Printf("listening on %v", listeners[0].Addr())
	log.Printf("on %d sockets", len(listeners))
	log.Fatal(<-failed)
}

// listen opens n sockets on one address, each with a Listener. MaxPending holds for each of them.
func listen(addr string, n int, cfg *proxyproto.Config) ([]*proxyproto.Listener, error) {
	shared := net.ListenConfig{Control: shareAddress}
	listeners := make([]*proxyproto.Listener, 0, n)
	for len(listeners) < max(1, n) {
		inner, err := shared.Listen(context.Background(), "tcp", addr)
		if err != nil {
			return nil, err
		}
		addr = inner.Addr().String() // if its port was 0, the others' is the one that was chosen
		ln, err := proxyproto.NewListener(inner, cfg)
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, ln)
	}
	return listeners, nil
}

// answer tells who the client is, and how many connections each socket has accepted.
func answer(listeners []*proxyproto.Listener) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "you are %s\naccepted:", r.RemoteAddr)
		for _, ln := range listeners {
			fmt.Fprintf(w, " %d", ln.Stats().Accepted)
		}
		fmt.Fprintln(w)
	}
}
