// Tlsproxy ends its clients' TLS and passes what is in it on to a server, which it tells by a PROXY
// header whose connection it is and what it knows of the TLS: the protocol and the server name that
// the client asked for, the cipher, and whose certificate it has shown.
//
//	go run "$(go env GOROOT)/src/crypto/tls/generate_cert.go" -host localhost
//	go run ./examples/https
//	go run ./examples/tlsproxy -to localhost:8443 -cert cert.pem -key key.pem
//	curl -k https://localhost:9443/
//
// With -clients ca.pem those who have a certificate of that authority are known by name.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
	"github.com/seed2e8fe8ee/proxyproto/proxytls"
)

func main() {
	listen := flag.String("listen", "localhost:9443", "address to listen on")
	to := flag.String("to", "localhost:8443", "address of the server")
	cert := flag.String("cert", "cert.pem", "certificate")
	key := flag.String("key", "key.pem", "its key")
	clients := flag.String("clients", "", "certificates of the authorities that name clients")
	trust := flag.String("trust", "", "the proxies in front, which must send headers:\n"+
		"addresses and ranges; none if it is empty: then clients connect directly")
	silence := flag.Duration("silence", 5*time.Minute,
		"after which, on both sides, a connection is closed; and for which a side may take "+
			"nothing in")
	flag.Parse()

	policy := proxyproto.Always(proxyproto.Skip)
	if *trust != "" {
		var err error
		if policy, err = proxyproto.ParseTrust(strings.Split(*trust, ",")...); err != nil {
			log.Fatal("-trust: ", err)
		}
	}
	p, err := newProxy(*to, *cert, *key, *clients)
	if err != nil {
		log.Fatal(err)
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
		if err := p.relay(client, *silence); err != nil {
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

type proxy struct {
	to     string
	tls    *tls.Config
	own    proxytls.Details
	dialer proxyproto.Dialer
}

func newProxy(to, cert, key, clients string) (*proxy, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	p := &proxy{
		to:  to,
		own: proxytls.Details{Certificate: pair.Leaf},
		tls: &tls.Config{
			Certificates: []tls.Certificate{pair},
			NextProtos:   []string{"h2", "http/1.1"}, // the server must speak both
		},
	}
	if clients != "" {
		pem, err := os.ReadFile(clients)
		if err != nil {
			return nil, err
		}
		p.tls.ClientCAs = x509.NewCertPool()
		if !p.tls.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New(clients + " has no certificate")
		}
		p.tls.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return p, nil
}

// relay connects a client with the server until both have ended.
func (p *proxy) relay(inner net.Conn, silence time.Duration) error {
	client := tls.Server(inner, p.tls)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := client.HandshakeContext(ctx); err != nil {
		return err
	}
	header, err := proxyproto.HeaderFor(client, proxyproto.V2)
	if err != nil {
		return err
	}
	// In place of what a proxy in front may have said: its TLS isn't this client's.
	state := client.ConnectionState()
	if header.TLVs, err = p.own.SetTLVs(header.TLVs, &state); err != nil {
		return err
	}
	server, err := p.dialer.DialHeader(ctx, "tcp", p.to, header)
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

// pass copies one direction to its end. One side may have nothing more to say and still listen: the
// other direction goes on. It doesn't after an error, nor when both sides are silent, nor when one
// takes nothing in.
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
