// Shutdown ends an HTTP server without cutting off anybody whose request is under way.
//
//	go run ./examples/shutdown
//	curl --haproxy-protocol http://127.0.0.1:8080/ &    # takes ten seconds; meanwhile press Ctrl-C
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	trust := flag.String("trust", "127.0.0.1,::1", "whose headers to believe: addresses and ranges")
	patience := flag.Duration("patience", 30*time.Second, "how long requests may take to end")
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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	srv := &http.Server{
		Handler:           http.HandlerFunc(slow),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // with the body; and for the next request
		WriteTimeout:      30 * time.Second, // of the answer, the handler's work included
	}
	log.Printf("listening on %v", ln.Addr())
	log.Printf("try: curl --haproxy-protocol http://%v/", ln.Addr())
	if err := serve(ctx, srv, ln, *patience); err != nil {
		log.Fatal(err)
	}
}

func slow(w http.ResponseWriter, r *http.Request) {
	select {
	case <-time.After(10 * time.Second):
	case <-r.Context().Done():
		return
	}
	fmt.Fprintf(w, "hello %s\n", r.RemoteAddr)
}

// serve serves until ctx ends, and then until the requests that are under way are answered, or
// patience is over. Shutdown closes the Listener first: connections whose header isn't there yet
// end at once, and new ones are refused, so that the balancer goes elsewhere.
func serve(ctx context.Context, srv *http.Server, ln net.Listener, patience time.Duration) error {
	down := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := srv.Shutdown(ctx)
		if err != nil {
			srv.Close() // patience is over
		}
		down <- err
	})
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-down // Serve returns when Shutdown begins, not when it ends
}
