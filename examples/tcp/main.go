// Tcp greets its clients by name before they have sent a byte, behind nginx's stream module or
// HAProxy. These send the header as soon as they connect, so it needs no Lazy: when Accept returns
// the client is known. (Behind a balancer that sends it later see examples/smtp.)
//
//	go run ./examples/tcp
//	printf 'PROXY TCP4 192.0.2.7 198.51.100.1 56324 7\r\nhello\n' | nc -N 127.0.0.1 7007
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:7007", "address to listen on")
	trust := flag.String("trust", "127.0.0.1,::1", "whose headers to believe: addresses and ranges")
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
	log.Printf("listening on %v", ln.Addr())
	log.Fatal(serve(ln, func(c net.Conn) {
		if err := echo(c); err != nil {
			log.Printf("%v: %v", c.RemoteAddr(), err)
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

// patience is how long a client may be silent.
const patience = time.Minute

// echo greets a client and sends back what it says.
func echo(c net.Conn) error {
	defer c.Close()
	if healthCheck(c) {
		return nil // of the proxy's own: it wants no greeting
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "you are %v; %s\n", c.RemoteAddr(), by(c)); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = c.SetDeadline(time.Now().Add(patience))
		}
		if err == nil {
			_, err = c.Write(buf[:n])
		}
		if err != nil {
			return err
		}
	}
}

// healthCheck reports whether the proxy has connected for itself (LOCAL). One that ends at once is
// only counted, and doesn't get here; HAProxy's "option smtpchk", say, speaks.
func healthCheck(c net.Conn) bool {
	conn, ok := proxyproto.FromConn(c)
	return ok && conn.Header() != nil && conn.Header().Command == proxyproto.Local
}

// by says what the header said, and whose socket it is.
func by(c net.Conn) string {
	conn, ok := proxyproto.FromConn(c)
	if !ok || conn.Header() == nil {
		return "no header"
	}
	return fmt.Sprintf("%v by %v", conn.Header(), conn.NetConn().RemoteAddr())
}
