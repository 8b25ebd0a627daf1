package main

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
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

// measure lets both serve a batch in turn, and the other one first every time. A batch is so
// short that most of them are left alone by whatever else the machine does.
func measure(w work, clients, rounds int) (*result, error) {
	bare, err := newLoad(false, clients)
	if err != nil {
		return nil, err
	}
	defer bare.close()
	wrapped, err := newLoad(true, clients)
	if err != nil {
		return nil, err
	}
	defer wrapped.close()

	r := new(result)
	if r.allocsBare, err = bare.allocs(w); err != nil {
		return nil, err
	}
	if r.allocsWrapped, err = wrapped.allocs(w); err != nil {
		return nil, err
	}
	for round := range rounds {
		loads, figures := []*load{bare, wrapped}, []*[]float64{&r.bare, &r.wrapped}
		for i := range loads {
			i ^= round % 2
			took, err := loads[i].run(w)
			if err != nil {
				return nil, err
			}
			*figures[i] = append(*figures[i], float64(took))
		}
	}
	return r, nil
}

// A load is a server and its clients, each of which has a socket and sends one datagram again and again:
// the payload, with a header in front if the server is a PacketConn.
type load struct {
	server    net.PacketConn
	to        netip.AddrPort
	sockets   []*net.UDPConn
	datagrams [][]byte
	buf       []byte
}

func newLoad(wrapped bool, clients int) (*load, error) {
	loopback := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0"))
	inner, err := net.ListenUDP("udp4", loopback)
	if err != nil {
		return nil, err
	}
	l := &load{server: inner, to: inner.LocalAddr().(*net.UDPAddr).AddrPort(), buf: make([]byte, 2048)}
	if wrapped {
		policy := proxyproto.Trust(netip.MustParsePrefix("127.0.0.0/8"))
		if l.server, err = proxyproto.NewPacketConn(inner, &proxyproto.Config{Policy: policy}); err != nil {
			return nil, err
		}
	}
	for i := range clients {
		socket, err := net.ListenUDP("udp4", loopback)
		if err != nil {
			return nil, err
		}
		l.sockets = append(l.sockets, socket)
		datagram := make([]byte, payload)
		if wrapped {
			h := proxyproto.Header{
				Version: proxyproto.V2, Command: proxyproto.Proxy, Protocol: proxyproto.UDP4,
				Source:      netip.AddrPortFrom(netip.MustParseAddr("192.0.2.7"), uint16(1024+i)),
				Destination: netip.MustParseAddrPort("198.51.100.1:53"),
			}
			if datagram, err = h.AppendPacket(nil, datagram, 0); err != nil {
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

// allocs returns how often the server allocates for a datagram.
func (l *load) allocs(w work) (float64, error) {
	const batches = 20
	var before, after runtime.MemStats
	if _, err := l.run(w); err != nil {
		return 0, err
	}
	runtime.ReadMemStats(&before)
	for range batches {
		if _, err := l.run(w); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / (batches * batch), nil
}
