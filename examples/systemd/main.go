// Systemd serves on the socket that systemd has opened for it. The socket outlives the service:
// while that is restarted clients wait in the kernel's queue, their headers with them.
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
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
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
	server := &http.Server{Handler: http.HandlerFunc(hello), ReadHeaderTimeout: 10 * time.Second}
	log.Printf("listening on %v", ln.Addr())
	log.Fatal(server.Serve(ln))
}

func hello(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "hello %s, process %d\n", r.RemoteAddr, os.Getpid())
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
