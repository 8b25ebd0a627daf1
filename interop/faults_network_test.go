//go:build linux

package interop

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/netns"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// A wire joins two network namespaces, one for a proxy and one for the server behind it, and can be
// cut. Nothing of it is seen outside of them.
type wire struct {
	proxy, server *netns.Namespace
}

const (
	wireProxy  = "192.0.2.1"
	wireServer = "192.0.2.2"
)

func newWire(t *testing.T) *wire {
	t.Helper()
	w := &wire{netns.New(t, "proxy"), netns.New(t, "server")}
	netns.Join(t, w.proxy, "wire0", w.server, "wire0")
	w.proxy.IP(t, "addr add "+wireProxy+"/24 dev wire0")
	w.server.IP(t, "addr add "+wireServer+"/24 dev wire0")
	return w
}

// cutLink takes an end of the wire down, and mendLink up again.
func cutLink(t *testing.T, n *netns.Namespace)  { n.IP(t, "link set wire0 down") }
func mendLink(t *testing.T, n *netns.Namespace) { n.IP(t, "link set wire0 up") }

// dial connects from the proxy to the server.
func (w *wire) dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), proxies.Timeout)
	defer cancel()
	c, err := w.proxy.Dial(ctx, addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(proxies.Timeout)))
	return c.(*net.TCPConn)
}

// listen makes a Listener at the server's end; serve gets each connection.
func (w *wire) listen(t *testing.T, limit time.Duration,
	serve func(net.Conn)) *proxyproto.Listener {
	t.Helper()
	inner := w.server.Listen(t, wireServer+":0")
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{
		Policy:        proxyproto.Trust(netip.MustParsePrefix(wireProxy + "/32")),
		HeaderTimeout: limit,
	})
	require.NoError(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		all.Wait()
	})
	return ln
}

// lost waits until c's end has found out that nothing gets through: it has sent something again.
func lost(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		var info *unix.TCPInfo
		var err error
		require.NoError(t, raw.Control(func(fd uintptr) {
			info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		}))
		require.NoError(t, err)
		return info.Retransmits > 0 || info.Probes > 1 // probes are for a window that is closed
	}, proxies.Timeout, time.Millisecond, "nothing was sent again")
}

const wireHeader = "PROXY TCP4 198.51.100.7 198.51.100.9 1234 443\r\n"

// whoLine answers each line by the client's address and the line.
func whoLine(c net.Conn) {
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		fmt.Fprintf(c, "%v %s", c.RemoteAddr(), line)
	}
}

// The link is cut inside a header, wherever that is, and restored: the header's other half comes as
// soon as it gets through, and the connection is served.
func TestFaultLinkCutInsideHeader(t *testing.T) {
	w := newWire(t)
	ln := w.listen(t, time.Hour, whoLine)
	var conns []*net.TCPConn
	splits := []int{0, 1, 5, 6, 20, len(wireHeader) - 1, len(wireHeader)}
	for _, split := range splits {
		c := w.dial(t, ln.Addr().String())
		_, err := io.WriteString(c, wireHeader[:split])
		require.NoError(t, err)
		conns = append(conns, c)
	}
	require.Eventually(t, func() bool {
		return ln.Stats().Pending == len(splits)-1 &&
			ln.Stats().V1 == 1
	}, proxies.Timeout, time.Millisecond)
	cutLink(t, w.server)
	for i, c := range conns {
		_, err := io.WriteString(c, wireHeader[splits[i]:]+"hello\n")
		require.NoError(t, err)
	}
	for _, c := range conns {
		lost(t, c)
	}
	assert.Equal(t, len(splits)-1, ln.Stats().Pending)
	mendLink(t, w.server)
	for _, c := range conns {
		line, err := bufio.NewReader(c).ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, "198.51.100.7:1234 hello\n", line)
	}
	s := ln.Stats()
	assert.Equal(t, uint64(len(splits)), s.V1)
	assert.Zero(t, s.TotalDropped())
	assert.Zero(t, s.Pending)
}

// The link stays cut for longer than HeaderTimeout: what is left of the header comes too late, and
// is neither served nor believed. Those that come afterwards are served.
func TestFaultLinkCutForTooLong(t *testing.T) {
	w := newWire(t)
	ln := w.listen(t, time.Second, whoLine)
	var conns []*net.TCPConn
	for range 10 {
		c := w.dial(t, ln.Addr().String())
		_, err := io.WriteString(c, wireHeader[:20])
		require.NoError(t, err)
		conns = append(conns, c)
	}
	// One after the other, all are accepted before the first one's second is over, or are dropped
	// by it.
	require.Eventually(t, func() bool { return ln.Stats().Accepted == 10 }, proxies.Timeout,
		time.Millisecond)
	cutLink(t, w.server)
	for _, c := range conns {
		// which fails where the server has given up already
		io.WriteString(c, wireHeader[20:]+"hello\n")
	}
	require.Eventually(t, func() bool { return ln.Stats().Dropped[proxyproto.ReasonTimeout] == 10 },
		proxies.Timeout, time.Millisecond)
	mendLink(t, w.server)
	for _, c := range conns {
		b, _ := io.ReadAll(c)
		assert.Empty(t, b)
	}
	assert.Zero(t, ln.Stats().V1)
	c := w.dial(t, ln.Addr().String())
	_, err := io.WriteString(c, wireHeader+"hello\n")
	require.NoError(t, err)
	line, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "198.51.100.7:1234 hello\n", line)
}

// The link is cut while data is on its way, in either direction: not a byte is lost, and the client
// stays who it is.
func TestFaultLinkCutUnderTransfer(t *testing.T) {
	w := newWire(t)
	accepted, arrived, answer := make(chan *proxyproto.Conn, 1), make(chan []byte, 1),
		make(chan []byte)
	ln := w.listen(t, time.Hour, func(c net.Conn) {
		accepted <- c.(*proxyproto.Conn)
		for {
			block := make([]byte, 1<<10)
			if _, err := io.ReadFull(c, block); err != nil {
				return
			}
			arrived <- block
			c.Write(<-answer)
		}
	})
	c := w.dial(t, ln.Addr().String())
	_, err := io.WriteString(c, wireHeader)
	require.NoError(t, err)
	server := <-accepted
	block := bytes.Repeat([]byte{0, 'x', '\n', 0xff}, 1<<8)
	var sending sync.WaitGroup
	cutLink(t, w.server)
	sending.Go(func() {
		_, err := c.Write(block)
		assert.NoError(t, err)
	})
	lost(t, c)
	mendLink(t, w.server)
	sending.Wait()
	got := <-arrived
	assert.True(t, bytes.Equal(block, got), "what the server got")

	cutLink(t, w.proxy)
	answer <- got
	lost(t, server.NetConn().(*net.TCPConn))
	mendLink(t, w.proxy)
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(block, got), "what the client got")
	assert.Equal(t, "198.51.100.7:1234", server.RemoteAddr().String())
}
