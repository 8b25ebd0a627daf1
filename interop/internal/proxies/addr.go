package proxies

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The loopback network 127.0.0.0/8 is shared out so that no address can be taken for another one:
//
//	127.0.0.1       proxies dial from here, backends listen here
//	127.16.0.0/12   clients
//	127.64.0.0/10   proxies listen here, each test process on an address of its own
const (
	// Proxy is the address that a proxy dials its backend from.
	Proxy = "127.0.0.1"
	// Clients is the network that ClientAddr takes addresses from.
	Clients = "127.16.0.0/12"
	// ClientAddrs is the number of different addresses that ClientAddr gives.
	ClientAddrs = 512
)

// Timeout is for whatever takes no time when it works: it ends a test that hangs, and never
// decides one that doesn't.
const Timeout = time.Minute

// ClientAddr is the address of the client with index i: one of ClientAddrs, spread over Clients.
func ClientAddr(i int) netip.Addr {
	n := uint32(i%ClientAddrs) * 2039 // odd, so that the low bytes differ too
	return netip.AddrFrom4([4]byte{127, 16 | byte(n>>16)&15, byte(n >> 8), byte(n)})
}

// Dial connects to addr as the client with index i. The connection has a deadline.
func Dial(i int, addr string) (net.Conn, error) {
	return DialFrom(ClientAddr(i), addr)
}

// DialFrom connects to addr from the given address. The connection has a deadline.
func DialFrom(from netip.Addr, addr string) (net.Conn, error) {
	d := net.Dialer{
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)),
		Timeout:   Timeout,
	}
	c, err := d.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(Timeout)); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

var listen = struct {
	sync.Mutex
	host netip.Addr
	used map[string]bool
}{
	host: netip.AddrFrom4([4]byte{127, 64 + byte(rand.N(64)), byte(rand.N(256)), 1 + byte(rand.N(254))}),
	used: map[string]bool{},
}

// FreeAddr returns a loopback address and port for a program that can't be handed a socket. It
// stays free: the IP belongs to this process, which gives no port of it away twice.
func FreeAddr(t testing.TB) string {
	t.Helper()
	listen.Lock()
	defer listen.Unlock()
	for {
		addr := freePort(t, listen.host.String())
		if !listen.used[addr] {
			listen.used[addr] = true
			return addr
		}
	}
}

// FreeAddr6 is FreeAddr for [::1], of which there is only one: another process may take the port
// before the program does, if it asks for that very one. Where there is no IPv6 it skips.
func FreeAddr6(t testing.TB) string {
	t.Helper()
	probe, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	probe.Close()
	return freePort(t, "::1")
}

func freePort(t testing.TB, host string) string {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}
