// Smtp greets its clients before they have sent a byte, as SMTP, FTP and MySQL servers do, behind a
// balancer that sends the header only with the client's first bytes (AWS NLB does by default).
// Without Lazy both would wait for each other. nginx and HAProxy send it at once: behind them
// examples/tcp shows how.
//
//	go run ./examples/smtp
//	( sleep 1; printf 'PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\nEHLO me\r\nQUIT\r\n' ) | nc 127.0.0.1 2525
package main

import (
	"bufio"
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
	listen := flag.String("listen", "127.0.0.1:2525", "address to listen on")
	trust := flag.String("trust", "127.0.0.1,::1", "whose headers to believe: addresses and ranges")
	// RFC 5321 (section 4.5.3.2) asks for five minutes. The header's own time limit begins with its
	// first byte.
	patience := flag.Duration("patience", 5*time.Minute,
		"how long a client may take for a line, its first one too, and for an answer")
	flag.Parse()

	policy, err := proxyproto.ParseTrust(strings.Split(*trust, ",")...)
	if err != nil {
		log.Fatal("-trust: ", err)
	}
	ln, err := proxyproto.Listen("tcp", *listen, &proxyproto.Config{
		Policy: policy,
		Lazy:   true,
		OnDrop: proxyproto.LogDrops(nil),
	})
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on %v", ln.Addr())
	log.Fatal(serve(ln, func(c net.Conn) {
		err := session(c, *patience)
		var drop *proxyproto.DropError
		if err != nil && !errors.As(err, &drop) { // LogDrops has that
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

// maxLine is the longest line that is read (RFC 5321, section 4.5.3.1).
const maxLine = 1000

func session(c net.Conn, patience time.Duration) error {
	defer c.Close()
	r := bufio.NewReaderSize(c, maxLine)
	answer := func(line string) error {
		if err := c.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		_, err := io.WriteString(c, line+"\r\n")
		return err
	}
	if err := answer("220 mx.example ESMTP"); err != nil { // c.RemoteAddr is the balancer's
		return err
	}
	for {
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		line, err := r.ReadSlice('\n') // the first one reads the header: then it's the client's
		switch {
		case err == io.EOF && len(line) == 0:
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			return errors.Join(errors.New("a line is too long"), answer("500 line too long"))
		case err != nil:
			return err
		}
		verb, _, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		switch strings.ToUpper(verb) {
		case "HELO", "EHLO":
			err = answer(fmt.Sprintf("250 mx.example greets %v; %s", c.RemoteAddr(), by(c)))
		case "QUIT":
			return answer("221 bye")
		default:
			err = answer("502 not in this example")
		}
		if err != nil {
			return err
		}
	}
}

// by says what the header said, and whose socket it is.
func by(c net.Conn) string {
	conn, ok := proxyproto.FromConn(c)
	if !ok || conn.Header() == nil {
		return "no header"
	}
	return fmt.Sprintf("%v by %v", conn.Header(), conn.NetConn().RemoteAddr())
}
