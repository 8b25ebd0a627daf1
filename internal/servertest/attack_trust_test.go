package servertest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
)

// addrConn is a connection whose ends have any address.
type addrConn struct {
	net.Conn
	remote, local net.Addr
}

func (c addrConn) RemoteAddr() net.Addr { return c.remote }
func (c addrConn) LocalAddr() net.Addr  { return c.local }

// textAddr is an address that says nothing but its text.
type textAddr string

func (a textAddr) Network() string { return "tcp" }
func (a textAddr) String() string  { return string(a) }

// Trust is in the address, not in how it is written, and never in one that is missing.
func TestAttackTrustByAnotherSpelling(t *testing.T) {
	trusts := func(prefixes []string, peer net.Addr) bool {
		t.Helper()
		policy, err := ParseTrust(prefixes...)
		require.NoError(t, err)
		client, server := net.Pipe()
		defer client.Close()
		c, err := NewConn(addrConn{server, peer, tcpAddr("192.0.2.1:80")}, &Config{Policy: policy})
		if err != nil {
			var drop *DropError
			require.ErrorAs(t, err, &drop)
			require.Equal(t, ReasonRejected, drop.Reason)
			return false
		}
		c.Close()
		return true
	}
	// 16 bytes, as from a dual-stack socket
	mapped := &net.TCPAddr{IP: net.ParseIP("::ffff:10.0.0.1"), Port: 1}
	require.Len(t, mapped.IP, 16)
	for _, row := range []struct {
		prefixes []string
		peer     net.Addr
		want     bool
	}{
		{[]string{"10.0.0.0/8"}, tcpAddr("10.0.0.1:1"), true},
		{[]string{"10.0.0.0/8"}, mapped, true},
		{[]string{"10.0.0.0/8"}, tcpAddr("[::ffff:10.0.0.1]:1"), true},
		{[]string{"10.0.0.0/8"}, tcpAddr("[::ffff:10.0.0.1%eth0]:1"), true},
		{[]string{"::ffff:10.0.0.0/104"}, tcpAddr("10.0.0.1:1"), true},
		{[]string{"::ffff:10.0.0.1"}, tcpAddr("10.0.0.1:1"), true},
		{[]string{"::ffff:0:0/96"}, tcpAddr("10.0.0.1:1"), true},
		{[]string{"fe80::/10"}, tcpAddr("[fe80::1%eth0]:1"), true},
		{[]string{"fe80::1"}, tcpAddr("[fe80::1%eth0]:1"), true},
		{[]string{"10.1.2.3/8"}, tcpAddr("10.0.0.1:1"), true}, // bits behind the length don't count
		{[]string{"0.0.0.0"}, tcpAddr("0.0.0.0:1"), true},
		{[]string{"::"}, tcpAddr("[::]:1"), true},

		{[]string{"10.0.0.0/8"}, tcpAddr("11.0.0.1:1"), false},
		{[]string{"10.0.0.0/8"}, tcpAddr("[::ffff:11.0.0.1]:1"), false},
		{[]string{"10.0.0.0/8"}, tcpAddr("[::10.0.0.1]:1"), false},        // IPv4-compatible
		{[]string{"10.0.0.0/8"}, tcpAddr("[64:ff9b::10.0.0.1]:1"), false}, // NAT64
		{[]string{"10.0.0.0/8"}, tcpAddr("[2002:a00:1::]:1"), false},      // 6to4
		{[]string{"10.0.0.0/8"}, tcpAddr("[a00:1::]:1"), false},           // the same first bits
		{[]string{"0.0.0.0/0"}, tcpAddr("[2001:db8::1]:1"), false},
		{[]string{"0.0.0.0/0"}, tcpAddr("[::1]:1"), false},
		{[]string{"::/0"}, tcpAddr("10.0.0.1:1"), false},
		{[]string{"::/0"}, mapped, false},
		{[]string{"::/64"}, mapped, false},
		{[]string{"127.0.0.0/8"}, tcpAddr("[::1]:1"), false},
		{[]string{"::1"}, tcpAddr("127.0.0.1:1"), false},
		{[]string{"0.0.0.0"}, tcpAddr("10.0.0.1:1"), false}, // unspecified doesn't stand for any
		{[]string{"0.0.0.0"}, tcpAddr("[::]:1"), false},
		{[]string{"::"}, tcpAddr("0.0.0.0:1"), false},
		{[]string{"::"}, tcpAddr("10.0.0.1:1"), false},

		{[]string{"0.0.0.0/0", "::/0"}, &net.UnixAddr{Name: "/run/x", Net: "unix"}, false},
		{[]string{"0.0.0.0/0", "::/0"}, textAddr("10.0.0.1:1"), false}, // nobody vouches for a text
		{[]string{"0.0.0.0/0", "::/0"}, nil, false},
		{[]string{"0.0.0.0/0", "::/0"}, (*net.TCPAddr)(nil), false},
		{[]string{"0.0.0.0/0", "::/0"}, &net.TCPAddr{Port: 1}, false},
		{[]string{"0.0.0.0/0", "::/0"}, &net.TCPAddr{IP: net.IP{10, 0, 0}, Port: 1}, false},
		{nil, tcpAddr("127.0.0.1:1"), false},
	} {
		assert.Equal(t, row.want, trusts(row.prefixes, row.peer), "%v trust %v",
			row.prefixes, row.peer)
	}
	for _, bad := range []string{"", "10.0.0.0/33", "10.0.0", "fe80::1%eth0", "fe80::%eth0/10",
		"010.0.0.1", "10.0.0.0/-1", "localhost", "10.0.0.1-10.0.0.9"} {
		_, err := ParseTrust(bad)
		assert.Error(t, err, "%q", bad)
	}
}

// forbidden is a Validate for servers whose local clients have privileges.
func forbidden(_ Peer, h *Header) error {
	ip := h.Source.Addr().Unmap()
	if ip.IsValid() && (ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified()) {
		return errors.New("no client can have this address")
	}
	return nil
}

// No spelling of a loopback, link-local or unspecified source gets past a Validate that forbids it,
// by whichever way the connection is served.
func TestAttackClaimedLocalSource(t *testing.T) {
	var wires []string
	for _, source := range []string{"127.0.0.1", "127.255.255.254", "169.254.169.254", "0.0.0.0",
		"::1", "::", "fe80::1", "febf::1", "::ffff:127.0.0.1", "::ffff:169.254.1.1",
		"::ffff:0.0.0.0", "0:0:0:0:0:FFFF:7F00:1"} {
		addr := netip.MustParseAddr(source)
		family, any := "TCP4", netip.MustParseAddr("192.0.2.1")
		protocols := []Protocol{TCP4, UDP4}
		if addr.Is6() {
			family, any = "TCP6", netip.MustParseAddr("2001:db8::1")
			protocols = []Protocol{TCP6, UDP6}
		}
		wires = append(wires, fmt.Sprintf("PROXY %s %s %s 1 1\r\n", family, source, any))
		for _, p := range protocols {
			wires = append(wires, encode(t, Header{Version: V2, Command: Proxy, Protocol: p,
				Source: netip.AddrPortFrom(addr, 1), Destination: netip.AddrPortFrom(any, 1)}))
		}
	}
	for _, action := range []Action{Require, Optional} {
		for _, lazy := range []bool{false, true} {
			cfg := &Config{Policy: Always(action), Validate: forbidden, Lazy: lazy}
			drops := logDrops(cfg)
			ln := listen(t, cfg)
			var accepted atomic.Int32
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					accepted.Add(1)
					n, err := c.Read(make([]byte, 1))
					assert.Zero(t, n)
					assert.Error(t, err)
					assert.Nil(t, c.(*Conn).Header())
					assert.Equal(t, c.(*Conn).NetConn().RemoteAddr(), c.RemoteAddr())
				}
			}()
			for _, wire := range wires {
				client := dial(t, ln, wire+"hi")
				drop := drops.next(t)
				assert.Equal(t, ReasonInvalid, drop.Reason, "%q", wire)
				assert.ErrorContains(t, drop, "no client can have this address")
				assertClosed(t, client)
			}
			assert.Equal(t, uint64(len(wires)), ln.Stats().Dropped[ReasonInvalid])
			if !lazy {
				assert.Zero(t, accepted.Load())
			}
			ln.Close()
		}
	}
}

// SetPolicy under load: every connection is judged once, by a Policy that was in force between its
// dial and its end.
func TestAttackPolicyChangedUnderLoad(t *testing.T) {
	const workers, each = 8, 150
	type judgement struct {
		generation int64
		action     Action
		times      int
	}
	var mu sync.Mutex
	judged := map[netip.AddrPort]judgement{}
	policy := func(generation int64) Policy {
		action := []Action{Require, Reject, Skip}[generation%3]
		return func(p Peer) Action {
			mu.Lock()
			defer mu.Unlock()
			judged[p.Addr] = judgement{generation, action, judged[p.Addr].times + 1}
			return action
		}
	}
	ln := listen(t, &Config{Policy: policy(0)})
	// The last generation that SetPolicy was called with, and has returned for.
	var begun, inForce atomic.Int64
	stop := make(chan struct{})
	var changing sync.WaitGroup
	changing.Go(func() {
		for g := int64(1); ; g++ {
			select {
			case <-stop:
				return
			default:
			}
			begun.Store(g)
			ln.SetPolicy(policy(g))
			inForce.Store(g)
		}
	})
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				conn, ok := c.(*Conn)
				if !ok { // skipped: the header is payload
					c.Read(make([]byte, len(testLineV1)))
				}
				fmt.Fprintf(c, "%v %v", ok && conn.Header() != nil, c.RemoteAddr())
			}()
		}
	}()
	var served, rejected, skipped atomic.Int64
	var clients sync.WaitGroup
	for range workers {
		clients.Go(func() {
			for range each {
				oldest := inForce.Load()
				c, err := net.Dial("tcp", ln.Addr().String())
				if !assert.NoError(t, err) {
					return
				}
				io.WriteString(c, testLineV1) // which fails if it was rejected
				answer, _ := io.ReadAll(c)
				newest := begun.Load()
				self := c.LocalAddr().(*net.TCPAddr).AddrPort()
				c.Close()
				mu.Lock()
				j := judged[self]
				delete(judged, self) // the port may be used again
				mu.Unlock()
				assert.Equal(t, 1, j.times)
				assert.True(t, oldest <= j.generation && j.generation <= newest,
					"judged by %d, not %d to %d", j.generation, oldest, newest)
				switch j.action {
				case Require:
					served.Add(1)
					assert.Equal(t, "true "+testSource, string(answer))
				case Skip:
					skipped.Add(1)
					assert.Equal(t, "false "+self.String(), string(answer))
				default:
					rejected.Add(1)
					assert.Empty(t, answer)
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	changing.Wait()
	t.Logf("%d policies, %d connections: %d served, %d rejected, %d skipped",
		begun.Load(), workers*each, served.Load(), rejected.Load(), skipped.Load())
	s := ln.Stats()
	assert.Equal(t, uint64(served.Load()), s.V1)
	assert.Equal(t, uint64(skipped.Load()), s.Skipped)
	assert.Equal(t, uint64(rejected.Load()), s.Dropped[ReasonRejected])
	assert.Equal(t, uint64(workers*each), s.Accepted)
}
