package main

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

const (
	payload = 100 // bytes
	batch   = 64  // datagrams that the server's socket can hold, whatever its buffer
)

// work is what a server does with a datagram.
type work struct {
	name  string
	reply bool
}

var works = []work{{"read", false}, {"read and reply", true}}

// A socket is a way to serve datagrams.
type socket struct {
	name    string
	bind    string
	wrapped bool
}

var sockets = []socket{
	{"bare", "127.0.0.1", false},
	{"PacketConn", "127.0.0.1", true},
	{"PacketConn on every address", "0.0.0.0", true},
}

func compareDatagrams(rounds int) error {
	fmt.Println()
	fmt.Println("| 100-byte payloads | server | datagrams a second | by a bare socket's (quartiles) " +
		"| by a PacketConn's on one address | allocations and bytes a datagram |")
	fmt.Println("|---|---|---:|---:|---:|---:|")
	for k, w := range works {
		took, garbage, err := measure(w, 64, rounds)
		if err != nil {
			return err
		}
		for i, s := range sockets {
			fmt.Printf("| %s | %s | %s | %s | %s | %.2f and %.0f |\n", w.name, s.name,
				perSecond(quantile(took[i], 0.5)), ratios(took[0], took[i]), ratios(took[1], took[i]),
				garbage[i].allocs, garbage[i].bytes)
		}
		progress("datagrams", k+1, len(works))
	}
	return nil
}

// perSecond is the rate of batches that take ns, in thousands.
func perSecond(ns float64) string {
	n := int(batch*1e9/ns/1000 + 0.5)
	if n < 1000 {
		return fmt.Sprintf("%d,000", n)
	}
	return fmt.Sprintf("%d,%03d,000", n/1000, n%1000)
}

// measure lets each socket serve a batch in turn, and another one first every time. A batch is so
// short that most of them are left alone by whatever else the machine does.
func measure(w work, clients, rounds int) (took [][]float64, garbage []garbage, err error) {
	var loads []*load
	for _, s := range sockets {
		l, err := newLoad(s, clients)
		if err != nil {
			return nil, nil, err
		}
		defer l.close()
		loads = append(loads, l)
		g, err := l.garbage(w)
		if err != nil {
			return nil, nil, err
		}
		garbage = append(garbage, g)
	}
	took = make([][]float64, len(loads))
	for round := range rounds {
		for i := range loads {
			i = (i + round) % len(loads)
			d, err := loads[i].run(w)
			if err != nil {
				return nil, nil, err
			}
			took[i] = append(took[i], float64(d))
		}
	}
	return took, garbage, nil
}

// A load is a server and its clients, each of which has a socket and sends one datagram again and
// again: the payload, with a header in front if the server is a PacketConn.
type load struct {
	server    net.PacketConn
	to        netip.AddrPort
	sockets   []*net.UDPConn
	datagrams [][]byte
	buf       []byte
}

func newLoad(s socket, clients int) (*load, error) {
	inner, err := net.ListenPacket("udp4", s.bind+":0")
	if err != nil {
		return nil, err
	}
	l := &load{server: inner, buf: make([]byte, 2048)}
	port := inner.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	l.to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	if s.wrapped {
		l.server, err = proxyudp.NewPacketConn(inner, &proxyudp.Config{
			Policy: proxyproto.Trust(netip.MustParsePrefix("127.0.0.0/8")),
		})
		if err != nil {
			return nil, err
		}
	}
	for i := range clients {
		client, err := net.ListenUDP("udp4", loopback)
		if err != nil {
			return nil, err
		}
		l.sockets = append(l.sockets, client)
		datagram := make([]byte, payload)
		if s.wrapped {
			h := proxyproto.Header{
				Version: proxyproto.V2, Command: proxyproto.Proxy, Protocol: proxyproto.UDP4,
				Source:      netip.AddrPortFrom(netip.MustParseAddr("192.0.2.7"), uint16(1024+i)),
				Destination: netip.MustParseAddrPort("198.51.100.1:53"),
			}
			if datagram, err = proxyudp.AppendPacket(nil, &h, datagram, 0); err != nil {
				return nil, err
			}
		}
		l.datagrams = append(l.datagrams, datagram)
	}
	return l, nil
}

func (l *load) close() {
	l.server.Close()
	for _, s := range l.sockets {
		s.Close()
	}
}

// run lets the server serve a batch and returns how long it took. What the clients do isn't
// counted.
func (l *load) run(w work) (time.Duration, error) {
	for i := range batch {
		i %= len(l.sockets)
		if _, err := l.sockets[i].WriteToUDPAddrPort(l.datagrams[i], l.to); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	if err := l.serve(w, batch); err != nil {
		return 0, err
	}
	took := time.Since(start)
	if w.reply {
		for i := range batch {
			if _, _, err := l.sockets[i%len(l.sockets)].ReadFromUDPAddrPort(l.buf); err != nil {
				return 0, err
			}
		}
	}
	return took, nil
}

func (l *load) serve(w work, datagrams int) error {
	for range datagrams {
		n, addr, err := l.server.ReadFrom(l.buf)
		if err == nil && n != payload {
			err = fmt.Errorf("%d bytes came from %v", n, addr)
		}
		if err == nil && w.reply {
			_, err = l.server.WriteTo(l.buf[:n], addr)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// garbage is what a server allocates for a datagram.
type garbage struct{ allocs, bytes float64 }

func (l *load) garbage(w work) (g garbage, err error) {
	const batches = 100
	var before, after runtime.MemStats
	if _, err := l.run(w); err != nil {
		return g, err
	}
	runtime.ReadMemStats(&before)
	for range batches {
		if _, err := l.run(w); err != nil {
			return g, err
		}
	}
	runtime.ReadMemStats(&after)
	g.allocs = float64(after.Mallocs-before.Mallocs) / (batches * batch)
	g.bytes = float64(after.TotalAlloc-before.TotalAlloc) / (batches * batch)
	return g, nil
}
