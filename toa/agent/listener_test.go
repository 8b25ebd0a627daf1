package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/toa"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// listen returns a socket that listens.
func listen(t testing.TB, network, addr string, mptcp bool) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(mptcp)
	inner, err := lc.Listen(context.Background(), network, addr)
	require.NoError(t, err)
	t.Cleanup(func() { inner.Close() })
	return inner
}

// wrap puts a Listener around inner that believes everybody's option.
func wrap(t testing.TB, inner net.Listener) *toa.Listener {
	t.Helper()
	return wrapAs(t, inner, proxyproto.Optional)
}

func wrapAs(t testing.TB, inner net.Listener, action proxyproto.Action) *toa.Listener {
	t.Helper()
	ln, err := toa.NewListener(inner, &toa.Config{Policy: proxyproto.Always(action)})
	require.NoError(t, err)
	return ln
}

// accept returns the next connection, and closes it when the test ends.
func accept(t testing.TB, ln *toa.Listener) *toa.Conn {
	t.Helper()
	accepted, err := ln.Accept()
	require.NoError(t, err)
	c, ok := toa.FromConn(accepted)
	require.True(t, ok, "%T", accepted)
	c.SetLinger(0)
	t.Cleanup(func() { c.Close() })
	return c
}

// one connects once, and returns the server's end.
func (s *sender) one(t testing.TB, ln *toa.Listener, option []byte, how byte, mptcp bool) *toa.Conn {
	t.Helper()
	client, err := s.dial("tcp", ln.Addr().String(), option, how, mptcp)
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	return accept(t, ln)
}

// wantClient checks that a connection has the address that its option had, or none if that is the
// zero AddrPort.
func wantClient(t testing.TB, want netip.AddrPort, c *toa.Conn, what string) {
	t.Helper()
	o, err := c.Option()
	if !want.IsValid() {
		assert.ErrorIs(t, err, toa.ErrNoOption, what)
		assert.Zero(t, o, what)
		assert.Equal(t, c.NetConn().RemoteAddr(), c.RemoteAddr(), what)
		return
	}
	assert.NoError(t, err, what)
	assert.Equal(t, want, o.Addr, what)
	assert.Equal(t, want.String(), c.RemoteAddr().String(), what)
}

var none netip.AddrPort

// Many connect at once, each with an address of its own that it also sends as data.
func TestMatrix(t *testing.T) {
	for _, tc := range []struct {
		name, network, addr, dial string
		option6, server, client   bool // an IPv6 option; MPTCP
	}{
		{name: "IPv4", network: "tcp4", addr: "127.0.0.1:0"},
		{name: "IPv6", network: "tcp6", addr: "[::1]:0", option6: true},
		{name: "dual stack, IPv4 client", network: "tcp", addr: "[::]:0", dial: "127.0.0.1"},
		{name: "NAT64: IPv4 balancer, IPv6 option", network: "tcp4", addr: "127.0.0.1:0", option6: true},
		{name: "IPv6 balancer, IPv4 option", network: "tcp6", addr: "[::1]:0"},
		{name: "MPTCP server, TCP client", network: "tcp", addr: "[::]:0", dial: "127.0.0.1", server: true},
		{name: "MPTCP server and client", network: "tcp4", addr: "127.0.0.1:0", server: true, client: true},
		{name: "TCP server, MPTCP client", network: "tcp4", addr: "127.0.0.1:0", client: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.server || tc.client {
				requireMPTCP(t)
			}
			require.NoError(t, attach(t, all).MPTCP)
			s := newSender(t, cgroup)
			inner := listen(t, tc.network, tc.addr, tc.server)
			addr := inner.Addr().String()
			if tc.dial != "" {
				addr = net.JoinHostPort(tc.dial, fmt.Sprint(inner.Addr().(*net.TCPAddr).Port))
			}
			// An IPv6 option and MPTCP's own leave no room for another.
			ln, err := toa.NewListener(inner, &toa.Config{
				Policy: proxyproto.Always(proxyproto.Optional), Uncertain: true,
			})
			require.NoError(t, err)
			const clients = 1000
			got := make(chan served, clients)
			go serve(ln, got)
			connectMany(t, clients, func(i int) (*net.TCPConn, netip.AddrPort, error) {
				a, kind := claim4(i), uint8(254)
				if tc.option6 {
					a, kind = claim6(i), 253
				}
				c, err := s.dial("tcp", addr, option(kind, a), sendAll, tc.client)
				return c, a, err
			})
			wrong := 0
			for range clients {
				if c := <-got; c.remote != c.said {
					wrong++
					t.Logf("got %s, sent %s", c.remote, c.said)
				}
			}
			// MPTCP fills the header of a data packet. In one that overtakes the bare ACK, or comes
			// when that is lost, there is no room for the option.
			if tc.client && tc.server {
				assert.Less(t, wrong, clients/100)
				return
			}
			assert.Zero(t, wrong)
		})
	}
}

// served is what a connection's RemoteAddr was, and what it should have been.
type served struct{ remote, said string }

func serve(ln *toa.Listener, got chan<- served) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			said, err := io.ReadAll(c)
			if err != nil {
				said = []byte(err.Error())
			}
			got <- served{c.RemoteAddr().String(), string(said)}
		}()
	}
}

// connectMany has each client connect and say who it is, 64 at a time.
func connectMany(t *testing.T, clients int, dial func(i int) (*net.TCPConn, netip.AddrPort, error)) {
	t.Helper()
	var wg sync.WaitGroup
	places := make(chan struct{}, 64)
	for i := range clients {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			c, claim, err := dial(i)
			if !assert.NoError(t, err) {
				return
			}
			defer c.Close()
			io.WriteString(c, claim.String())
			c.CloseWrite()
			io.Copy(io.Discard, c)
		})
	}
	wg.Wait()
}

// Which kinds and lengths are read, and from which packet.
func TestFormatsAreRead(t *testing.T) {
	attach(t, "dpvs,253/20,tencent")
	s := newSender(t, cgroup)
	ln := wrap(t, listen(t, "tcp4", "127.0.0.1:0", false))
	for _, kind := range []uint8{254, 200} {
		c := s.one(t, ln, option(kind, claim4(7)), sendOnce, false)
		wantClient(t, claim4(7), c, fmt.Sprint(kind))
		o, _ := c.Option()
		assert.Equal(t, toa.Option{Addr: claim4(7), Kind: kind, Certain: true}, o)
	}
	wantClient(t, none, s.one(t, ln, option(251, claim4(7)), sendOnce, false), "another kind")
	wantClient(t, none, s.one(t, ln, option(200, claim6(7)), sendOnce, false), "another length")
	wantClient(t, none, s.one(t, ln, nil, 0, false), "no option")
	wantClient(t, none, s.one(t, ln, option(254, claim4(7)), sendOnce|sendSYN, false), "in the SYN only")
	wantClient(t, claim4(7), s.one(t, ln, option(254, claim4(7)), sendSYN, false), "in the SYN too")
}

// Which listening sockets the agent covers.
func TestListenerOlderAndYoungerThanAgent(t *testing.T) {
	s := newSender(t, cgroup)
	o := option(254, claim4(3))
	older := listen(t, "tcp4", "127.0.0.1:0", false)
	early, err := s.dial("tcp4", older.Addr().String(), o, sendAll, false)
	require.NoError(t, err)
	defer early.Close()
	attach(t, all)
	ln := wrap(t, older)
	wantClient(t, none, accept(t, ln), "connected before the agent")
	wantClient(t, claim4(3), s.one(t, ln, o, sendOnce, false), "older")
	younger := wrap(t, listen(t, "tcp4", "127.0.0.1:0", false))
	wantClient(t, claim4(3), s.one(t, younger, o, sendOnce, false), "younger")
}

// A socket belongs to the cgroup that its process was in when it made it.
func TestChildCgroup(t *testing.T) {
	attach(t, all)
	s := newSender(t, cgroup)
	child := filepath.Join(cgroup, "child")
	require.NoError(t, os.Mkdir(child, 0o755))
	defer os.Remove(child)
	require.NoError(t, enter(child))
	below := listen(t, "tcp4", "127.0.0.1:0", false)
	require.NoError(t, enter(elsewhere))
	foreign := listen(t, "tcp4", "127.0.0.1:0", false)
	require.NoError(t, enter(cgroup))
	wantClient(t, claim4(3), s.one(t, wrap(t, below), option(254, claim4(3)), sendOnce, false), "below")
	_, err := toa.NewListener(foreign, &toa.Config{Policy: proxyproto.Always(proxyproto.Require)})
	assert.ErrorIs(t, err, toa.ErrNoAgent)
}
