// Limit serves at most a hundred connections at a time.
//
// The limiter is AROUND the Listener. There it counts connections whose header is there. Those for
// whom there is no place stay in the kernel's queue, and those without a header are the Listener's
// affair: at most MaxPending, each for HeaderTimeout, and no place is theirs.
//
// INSIDE, as the listener that NewListener gets, it would count whoever has connected. A hundred
// that say nothing then keep all others out until their HeaderTimeout is over: MaxPending can't
// make one of them give way, because nobody new is accepted.
//
// It isn't golang.org/x/net/netutil's LimitListener, whose connections have nothing but net.Conn's
// methods: they hide the header from ConnContext and HeaderFor, and lose half-close and sendfile.
//
//	go run ./examples/limit
//	curl --haproxy-protocol http://127.0.0.1:8080/
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	trust := flag.String("trust", "127.0.0.1,::1", "whose headers to believe: addresses and ranges")
	most := flag.Int("most", 100, "connections at a time")
	flag.Parse()
	if *most < 1 {
		log.Fatal("-most: nobody would be served")
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
	server := &http.Server{
		Handler:           http.HandlerFunc(hello),
		ConnContext:       proxyproto.ConnContext,
		ReadHeaderTimeout: 10 * time.Second, // who is slow has a place, too: all of these free it
		ReadTimeout:       30 * time.Second, // with the body; and for the next request
		WriteTimeout:      30 * time.Second, // of the answer
	}
	log.Printf("listening on %v", ln.Addr())
	log.Printf("try: curl --haproxy-protocol http://%v/", ln.Addr())
	log.Fatal(server.Serve(newLimiter(ln, *most)))
}

func hello(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "hello %s\n", r.RemoteAddr)
	if header, ok := proxyproto.HeaderFromContext(r.Context()); ok {
		fmt.Fprintln(w, "the header says", header)
	}
}

// A limiter is a listener that accepts when there is a place.
type limiter struct {
	net.Listener
	places    chan struct{}
	closed    chan struct{}
	closeOnce sync.Once
}

func newLimiter(ln net.Listener, most int) *limiter {
	return &limiter{Listener: ln, places: make(chan struct{}, most), closed: make(chan struct{})}
}

func (l *limiter) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &limited{Conn: c, leave: sync.OnceFunc(func() { <-l.places })}, nil
}

func (l *limiter) Close() error {
	l.closeOnce.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// A limited connection is as able as the one inside.
type limited struct {
	net.Conn
	leave func()
}

// NetConn lets proxyproto.FromConn find the header, and with it ConnContext and HeaderFor.
func (c *limited) NetConn() net.Conn { return c.Conn }

// CloseWrite is for net/http's lingering close, and for proxies.
func (c *limited) CloseWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// ReadFrom lets the kernel send files (sendfile).
func (c *limited) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

func (c *limited) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
