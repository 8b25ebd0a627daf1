// Systemd serves on the socket that systemd has opened for it. The socket outlives the service:
// while that is restarted clients wait in the kernel's queue, their headers with them, and those
// whose requests are under way get their answers before it ends.
//
//	# hello.socket
//	[Socket]
//	ListenStream=8080
//	[Install]
//	WantedBy=sockets.target
//
//	# hello.service
//	[Service]
//	ExecStart=/usr/local/bin/hello
//
// To try it:
//
//	go build -o /tmp/hello ./examples/systemd
//	systemd-socket-activate --listen=127.0.0.1:8080 /tmp/hello
//	curl --haproxy-protocol http://127.0.0.1:8080/
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	trust := flag.String("trust", "127.0.0.1,::1", "whose headers to believe: addresses and ranges")
	flag.Parse()

	policy, err := proxyproto.ParseTrust(strings.Split(*trust, ",")...)
	if err != nil {
		log.Fatal("-trust: ", err)
	}
	inner, err := activated()
	if err != nil {
		log.Fatal(err)
	}
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{
		Policy: policy,
		OnDrop: proxyproto.LogDrops(nil),
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	server := &http.Server{
		Handler:           http.HandlerFunc(hello),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // with the body; and for the next request
		WriteTimeout:      30 * time.Second, // of the answer
	}
	log.Printf("listening on %v", ln.Addr())
	if err := serve(ctx, server, ln); err != nil {
		log.Fatal(err)
	}
}

func hello(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body) // until then the request is under way
	fmt.Fprintf(w, "hello %s, process %d\n", r.RemoteAddr, os.Getpid())
}

// serve serves until ctx ends, and then until the requests that are under way are answered.
// Shutdown closes the program's own copy of the socket, and systemd's stays open. systemd waits 90
// seconds (TimeoutStopSec).
func serve(ctx context.Context, server *http.Server, ln net.Listener) error {
	down := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		down <- server.Shutdown(ctx)
	})
	defer stop()
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-down // Serve returns when Shutdown begins, not when it ends
}

// activated returns the one socket that systemd passes on, as sd_listen_fds(3) says: it is
// descriptor 3, and LISTEN_PID tells whether it is for us or was inherited.
func activated() (net.Listener, error) {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || os.Getenv("LISTEN_FDS") != "1" {
		return nil, errors.New("systemd has passed no socket, or more than one")
	}
	os.Unsetenv("LISTEN_PID")
	os.Unsetenv("LISTEN_FDS")
	f := os.NewFile(3, "systemd's socket")
	defer f.Close() // FileListener makes a copy
	return net.FileListener(f)
}
