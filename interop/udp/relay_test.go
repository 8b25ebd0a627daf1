package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

// relay is a proxy for UDP as simple as one can be: each client has a socket of its own towards
// the server, each of its datagrams gets a header there, and what comes back goes to the client.
type relay struct {
	front  *net.UDPConn
	server *net.UDPAddr
	junk   bool // before each datagram comes one without a header

	mu      sync.Mutex
	clients map[netip.AddrPort]*proxyudp.Sender
	noted   []string
	wg      sync.WaitGroup

	toServer, toClients atomic.Uint64 // datagrams
}

func startRelay(t *testing.T, server net.Addr, junk bool) *relay {
	t.Helper()
	front, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
	require.NoError(t, err)
	front.SetReadBuffer(4 << 20)
	r := &relay{front: front, server: server.(*net.UDPAddr), junk: junk,
		clients: map[netip.AddrPort]*proxyudp.Sender{}}
	r.wg.Go(r.forward)
	t.Cleanup(func() {
		front.Close()
		r.mu.Lock()
		for _, c := range r.clients {
			c.Close()
		}
		r.mu.Unlock()
		r.wg.Wait()
		assert.Empty(t, r.noted, "what went wrong at the relay")
	})
	return r
}

func (r *relay) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noted = append(r.noted, fmt.Sprintf(format, args...))
}

// forward sends what clients send on to the server.
func (r *relay) forward() {
	b := make([]byte, 2048)
	for {
		n, client, err := r.front.ReadFromUDPAddrPort(b)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				r.note("reading from clients: %v", err)
			}
			return
		}
		out, err := r.socket(client)
		if err != nil {
			r.note("%v: %v", client, err)
			continue
		}
		if r.junk {
			out.NetPacketConn().(*net.UDPConn).Write([]byte("junk"))
		}
		if _, err := out.Write(b[:n]); err == nil {
			r.toServer.Add(1)
		}
	}
}

// socket returns the client's socket towards the server.
func (r *relay) socket(client netip.AddrPort) (*proxyudp.Sender, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if out, ok := r.clients[client]; ok {
		return out, nil
	}
	socket, err := net.DialUDP("udp4", nil, r.server)
	if err != nil {
		return nil, err
	}
	socket.SetReadBuffer(4 << 20)
	out, err := proxyudp.NewSender(socket, &proxyproto.Header{
		Version: proxyproto.V2, Command: proxyproto.Proxy, Protocol: proxyproto.UDP4,
		Source: client, Destination: r.front.LocalAddr().(*net.UDPAddr).AddrPort(),
	}, 1500)
	if err != nil {
		socket.Close()
		return nil, err
	}
	r.clients[client] = out
	r.wg.Go(func() { r.back(out, client) })
	return out, nil
}

// back sends what the server replies to the client.
func (r *relay) back(out *proxyudp.Sender, client netip.AddrPort) {
	b := make([]byte, 2048)
	for {
		n, err := out.Read(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the server has gone: its port is unreachable
		}
		if _, err := r.front.WriteToUDPAddrPort(b[:n], client); err == nil {
			r.toClients.Add(1)
		}
	}
}

// forget closes the sockets of all clients, as a proxy does when they have been idle for a while:
// the next datagram of each goes out through another.
func (r *relay) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for client, out := range r.clients {
		out.Close()
		delete(r.clients, client)
	}
}
