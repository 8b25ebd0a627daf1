// Relay passes TCP connections on to a server as they are, whatever they speak, and tells it with
// a PROXY header whose they are.
//
//	go run ./examples/httpserver
//	go run ./examples/relay -to 127.0.0.1:8080
//	curl http://127.0.0.1:9000/
//
// If the relay stands behind another proxy that sends headers say so with -trust: it then requires
// them, and passes the first client on with all that its header says.
//
//	go run ./examples/relay -listen 127.0.0.1:9001 -to 127.0.0.1:9000
//	go run ./examples/relay -listen 127.0.0.1:9000 -to 127.0.0.1:8080 -trust 127.0.0.1
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9000", "address to listen on")
	to := flag.String("to", "127.0.0.1:8080", "address of the server")
	trust := flag.String("trust", "", "the proxies in front, which must send headers:\n"+
		"addresses and ranges; none if it is empty: then clients connect directly")
	silence := flag.Duration("silence", 5*time.Minute,
		"after which, on both sides, a connection is closed; and for which a side may take "+
			"nothing in")
	version := flag.Uint("version", 2, "of the headers that are sent: 1 or 2")
	flag.Parse()
	if *version != 1 && *version != 2 {
		log.Fatal("-version: there are 1 and 2")
	}

	policy := proxyproto.Always(proxyproto.Skip)
	if *trust != "" {
		var err error
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
	log.Printf("listening on %v", ln.Addr())
	log.Fatal(serve(ln, func(client net.Conn) {
		if err := relay(client, *to, proxyproto.Version(*version), *silence); err != nil {
			log.Printf("client %v: %v", client.RemoteAddr(), err)
		}
	}))
}

// serve handles connections until ln is closed. Other errors of Accept, such as too many open
// files, pass: the server must outlive them.
func serve(ln net.Listener, handle func(c net.Conn)) error {
	for {
		c, err := ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			log.Printf("accept: %v; trying again", err)
			time.Sleep(100 * time.Millisecond)
		default:
			go handle(c)
		}
	}
}

var dialer proxyproto.Dialer

// relay connects a client with the server until both have ended.
func relay(
	client net.Conn, to string, version proxyproto.Version, silence time.Duration,
) error {
	defer client.Close()
	header, err := proxyproto.HeaderFor(client, version)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	server, err := dialer.DialHeader(ctx, "tcp", to, header)
	if err != nil {
		return err
	}
	defer server.Close()

	var wg sync.WaitGroup
	t := &talk{began: time.Now(), silence: silence}
	wg.Go(func() { t.pass(server, client) })
	t.pass(client, server)
	wg.Wait()
	return nil
}

// A talk is what a client and the server say to each other.
type talk struct {
	began   time.Time
	silence time.Duration
	heard   atomic.Int64 // a Duration since it began: when bytes have come, from whichever side
}

// pass copies one direction to its end, in the kernel where the system can (splice). One side may
// have nothing more to say and still listen: the other direction goes on. It doesn't after an
// error, nor when both sides are silent, nor when one takes nothing in.
func (t *talk) pass(to, from net.Conn) {
	for {
		start := time.Now()
		from.SetReadDeadline(start.Add(t.silence)) // or nothing would tell that bytes come
		to.SetWriteDeadline(start.Add(2 * t.silence))
		n, err := io.Copy(to, from)
		if err == nil {
			to.(interface{ CloseWrite() error }).CloseWrite()
			return
		}
		if n > 0 {
			t.heard.Store(int64(time.Since(t.began)))
		}
		quiet := time.Since(t.began) - time.Duration(t.heard.Load())
		stuck := time.Since(start) >= 2*t.silence
		if !errors.Is(err, os.ErrDeadlineExceeded) || stuck || quiet >= 2*t.silence {
			to.Close()
			from.Close()
			return
		}
	}
}
