// Smtp greets its clients before they have sent a byte, as SMTP, FTP and MySQL servers do, behind a
// balancer that sends the header only with the client's first bytes (AWS NLB does by default).
// Without Lazy both would wait for each other.
//
//	go run ./examples/smtp
//	( sleep 1; printf 'PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\nEHLO me\r\nQUIT\r\n' ) | nc 127.0.0.1 2525
package main

import (
	"log"
	"net"
	"net/textproto"
	"strings"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	policy, err := proxyproto.ParseTrust("127.0.0.1", "::1") // your load balancer
	if err != nil {
		log.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:2525")
	if err != nil {
		log.Fatal(err)
	}
	ln, err := newListener(inner, policy)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(serve(ln))
}

func newListener(inner net.Listener, policy proxyproto.Policy) (*proxyproto.Listener, error) {
	return proxyproto.NewListener(inner, &proxyproto.Config{
		Policy: policy,
		Lazy:   true,
		// The client's time to speak, not the balancer's: RFC 5321 gives it five minutes.
		HeaderTimeout: 5 * time.Minute,
	})
}

func serve(ln net.Listener) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go session(c)
	}
}

func session(c net.Conn) {
	defer c.Close()
	text := textproto.NewConn(c)
	text.PrintfLine("220 mx.example ESMTP") // c.RemoteAddr is the balancer's
	for {
		line, err := text.ReadLine() // the first one reads the header: then it's the client's
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(line, " "); strings.ToUpper(verb) {
		case "HELO", "EHLO":
			text.PrintfLine("250 mx.example greets %v", c.RemoteAddr())
		case "QUIT":
			text.PrintfLine("221 bye")
			return
		default:
			text.PrintfLine("502 not in this example")
		}
	}
}
