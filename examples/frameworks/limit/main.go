// Limit serves at most a hundred connections at a time, by golang.org/x/net/netutil's LimitListener
// AROUND the Listener.
//
// There it counts connections whose header is there. Those for whom there is no place stay in the
// kernel's queue, and those without a header are the Listener's affair: at most MaxPending, each for
// HeaderTimeout, and no place is theirs.
//
// INSIDE, as the listener that NewListener gets, it would count whoever has connected. A hundred
// that say nothing then keep all others out until their HeaderTimeout is over: MaxPending can't make
// one of them give way, because nobody new is accepted. And as its connections have nothing but
// net.Conn's methods, half-close and sendfile would be lost to the Conn.
//
// Around it costs something as well: net/http doesn't see through LimitListener's connections, so
// FromContext finds no header in handlers. The addresses are right.
//
//	go run ./limit
//	curl --haproxy-protocol http://127.0.0.1:8080/
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"

	"golang.org/x/net/netutil"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	policy, err := proxyproto.ParseTrust("127.0.0.1", "::1") // your load balancer
	if err != nil {
		log.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		log.Fatal(err)
	}
	ln, err := newListener(inner, &proxyproto.Config{Policy: policy}, 100)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(ln, http.HandlerFunc(hello)))
}

// newListener returns a listener for at most n connections at a time.
func newListener(inner net.Listener, cfg *proxyproto.Config, n int) (net.Listener, error) {
	ln, err := proxyproto.NewListener(inner, cfg)
	if err != nil {
		return nil, err
	}
	return netutil.LimitListener(ln, n), nil
}

func hello(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello %s\n", r.RemoteAddr) }
