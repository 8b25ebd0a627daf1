// Shutdown ends an HTTP server without cutting off anybody whose request is under way.
//
//	go run ./examples/shutdown
//	curl --haproxy-protocol http://127.0.0.1:8080/ &    # takes ten seconds; meanwhile press Ctrl-C
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

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
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{Policy: policy})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	srv := &http.Server{Handler: http.HandlerFunc(slow)}
	if err := serve(ctx, srv, ln, 30*time.Second); err != nil {
		log.Fatal(err)
	}
}

func slow(w http.ResponseWriter, r *http.Request) {
	time.Sleep(10 * time.Second)
	fmt.Fprintf(w, "hello %s\n", r.RemoteAddr)
}

// serve serves until ctx ends, and then until the requests that are under way are answered, or
// patience is over. Shutdown closes the Listener first: connections whose header isn't there yet end
// at once, and new ones are refused, so that the balancer goes elsewhere.
func serve(ctx context.Context, srv *http.Server, ln net.Listener, patience time.Duration) error {
	down := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		down <- srv.Shutdown(ctx)
	})
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-down // Serve returns when Shutdown begins, not when it ends
}
