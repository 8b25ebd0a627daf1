// Udprelay passes the datagrams of UDP clients on to a server, and tells it with a PROXY header in
// front of each whose they are. ../dns and ../http3 are such servers.
//
//	go run ./examples/udprelay -listen 127.0.0.1:9053 -to 127.0.0.1:5353
//
// Each client has a socket of its own towards the server, for replies say nothing about the client
// but the port that they are sent to. It is closed after the client's silence. -limit is for paths
// that carry less than the relay's own network: a datagram that is longer with its header is
// dropped.
package main

import (
	"errors"
	"flag"
	"log"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9053", "address to listen on")
	to := flag.String("to", "127.0.0.1:5353", "address of the server")
	silence := flag.Duration("silence", time.Minute, "after which a client's socket is closed")
	clients := flag.Int("clients", 1000, "how many have a socket at most; others are dropped")
	limit := flag.Int("limit", 1472, "the longest datagram to the server, with its header")
	flag.Parse()
	if *silence <= 0 || *clients <= 0 {
		log.Fatal("-silence and -clients: nobody would be served")
	}

	server, err := net.ResolveUDPAddr("udp", *to)
	if err != nil {
		log.Fatal(err)
	}
	inner, err := net.ListenPacket("udp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	// Clients connect directly. What this adds is that replies leave from where they sent to.
	front, err := proxyudp.NewPacketConn(inner, &proxyudp.Config{
		Policy: proxyproto.Always(proxyproto.Skip),
	})
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on %v", front.LocalAddr())
	r := &relay{
		front: front, server: server, silence: *silence, most: *clients, limit: *limit,
		clients: make(map[netip.AddrPort]*client),
	}
	log.Fatal(r.run())
}

type relay struct {
	front       net.PacketConn
	server      *net.UDPAddr
	silence     time.Duration
	most, limit int

	mu      sync.Mutex
	clients map[netip.AddrPort]*client

	// What complain has logged last, and how much it hasn't since.
	complained time.Time
	unsaid     int
}

// A client is one with a socket towards the server.
type client struct {
	addr   *net.UDPAddr
	heard  time.Time // guarded by the relay's mu
	sender *proxyudp.Sender
}

// run passes on what clients send.
func (r *relay) run() error {
	b := make([]byte, 1<<16)
	for {
		n, addr, err := r.front.ReadFrom(b)
		if err != nil {
			return err
		}
		c, err := r.client(addr.(*net.UDPAddr))
		if err == nil {
			_, err = c.sender.Write(b[:n])
		}
		if err != nil {
			r.complain(addr, err)
		}
	}
}

// complain logs what is wrong with a client, once a second at most: anybody can send datagrams,
// from any address.
func (r *relay) complain(client net.Addr, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.complained) < time.Second {
		r.unsaid++
		return
	}
	log.Printf("client %v: %v (and %d before)", client, err, r.unsaid)
	r.complained, r.unsaid = time.Now(), 0
}

// client returns the client at addr, which was just heard of.
func (r *relay) client(addr *net.UDPAddr) (*client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.clients[addr.AddrPort()]; ok {
		c.heard = time.Now()
		return c, nil
	}
	if len(r.clients) >= r.most {
		return nil, errors.New("too many clients")
	}
	socket, err := net.DialUDP("udp", nil, r.server)
	if err != nil {
		return nil, err
	}
	header := proxyproto.NewHeader(addr, r.front.LocalAddr(), proxyproto.V2)
	sender, err := proxyudp.NewSender(socket, header, r.limit)
	if err != nil {
		socket.Close()
		return nil, err
	}
	c := &client{addr, time.Now(), sender}
	r.clients[addr.AddrPort()] = c
	go r.back(c)
	return c, nil
}

// back passes on what the server replies, until the client has been silent.
func (r *relay) back(c *client) {
	defer c.sender.Close()
	b := make([]byte, 1<<16)
	for wait := r.silence; ; {
		c.sender.SetReadDeadline(time.Now().Add(wait))
		n, err := c.sender.Read(b)
		switch {
		case err == nil:
			if _, err := r.front.WriteTo(b[:n], c.addr); err != nil {
				r.complain(c.addr, err)
			}
		case errors.Is(err, syscall.ECONNREFUSED): // the server is away
		case !errors.Is(err, os.ErrDeadlineExceeded):
			r.complain(c.addr, err)
			wait = 0
		}
		if wait = r.left(c, wait); wait <= 0 {
			return
		}
	}
}

// left returns for how long the client may still be silent. If it may not it is forgotten.
func (r *relay) left(c *client, wait time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if wait > 0 {
		wait = r.silence - time.Since(c.heard)
	}
	if wait <= 0 {
		delete(r.clients, c.addr.AddrPort())
	}
	return wait
}
