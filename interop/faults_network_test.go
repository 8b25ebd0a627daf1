//go:build linux

package interop

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// A wire joins two network namespaces, one for a proxy and one for the server behind it, and can be
// cut. Nothing of it is seen outside of them.
type wire struct {
	proxy, server namespace
}

type namespace struct {
	name string
	file *os.File
}

const (
	wireProxy  = "192.0.2.1"
	wireServer = "192.0.2.2"
)

func newWire(t *testing.T) *wire {
	t.Helper()
	ip(t, "-V")
	if os.Getuid() != 0 {
		if ci, _ := strconv.ParseBool(os.Getenv("CI")); ci {
			t.Fatal("only root can make network namespaces")
		}
		t.Skip("only root can make network namespaces")
	}
	w := &wire{newNamespace(t, "proxy"), newNamespace(t, "server")}
	ip(t, "-n", w.proxy.name, "link", "add", "wire0", "type", "veth", "peer", "name", "wire0", "netns", w.server.name)
	for n, addr := range map[string]string{w.proxy.name: wireProxy, w.server.name: wireServer} {
		ip(t, "-n", n, "addr", "add", addr+"/24", "dev", "wire0")
		ip(t, "-n", n, "link", "set", "lo", "up")
		ip(t, "-n", n, "link", "set", "wire0", "up")
	}
	return w
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.Command(proxies.Need(t, "ip"), args...).CombinedOutput()
	require.NoError(t, err, "ip %v: %s", args, out)
}

func newNamespace(t *testing.T, name string) namespace {
	t.Helper()
	n := namespace{name: fmt.Sprintf("proxyproto-%d-%s", os.Getpid(), name)}
	ip(t, "netns", "add", n.name)
	t.Cleanup(func() { ip(t, "netns", "del", n.name) })
	file, err := os.Open("/run/netns/" + n.name)
	require.NoError(t, err)
	t.Cleanup(func() { file.Close() })
	n.file = file
	return n
}

// cut takes an end of the wire down, and mend up again.
func (n namespace) cut(t *testing.T)  { ip(t, "-n", n.name, "link", "set", "wire0", "down") }
func (n namespace) mend(t *testing.T) { ip(t, "-n", n.name, "link", "set", "wire0", "up") }

// do calls f on a thread in the namespace: what sockets f makes stay there.
func (n namespace) do(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err)
		}
		f()
	}()
	<-done
}

// dial connects from the proxy to the server.
func (w *wire) dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	var c net.Conn
	var err error
	w.proxy.do(func() { c, err = net.DialTimeout("tcp", addr, proxies.Timeout) })
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(proxies.Timeout)))
	return c.(*net.TCPConn)
}

// listen makes a Listener at the server's end; serve gets each connection.
func (w *wire) listen(t *testing.T, limit time.Duration, serve func(net.Conn)) *proxyproto.Listener {
	t.Helper()
	var inner net.Listener
	var err error
	w.server.do(func() { inner, err = net.Listen("tcp", wireServer+":0") })
	require.NoError(t, err)
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
	require.Eventually(t, func() bool { return ln.Stats().Pending == len(splits)-1 && ln.Stats().V1 == 1 }, proxies.Timeout, time.Millisecond)
	w.server.cut(t)
	for i, c := range conns {
		_, err := io.WriteString(c, wireHeader[splits[i]:]+"hello\n")
		require.NoError(t, err)
	}
	for _, c := range conns {
		lost(t, c)
	}
	assert.Equal(t, len(splits)-1, ln.Stats().Pending)
	w.server.mend(t)
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

// The link stays cut for longer than HeaderTimeout: what is left of the header comes too late, and is
// neither served nor believed. Those that come afterwards are served.
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
	// One after the other, all are accepted before the first one's second is over, or are dropped by it.
	require.Eventually(t, func() bool { return ln.Stats().Accepted == 10 }, proxies.Timeout, time.Millisecond)
	w.server.cut(t)
	for _, c := range conns {
		io.WriteString(c, wireHeader[20:]+"hello\n") // which fails where the server has given up already
	}
	require.Eventually(t, func() bool { return ln.Stats().Dropped[proxyproto.ReasonTimeout] == 10 }, proxies.Timeout, time.Millisecond)
	w.server.mend(t)
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
	accepted, arrived, answer := make(chan *proxyproto.Conn, 1), make(chan []byte, 1), make(chan []byte)
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
	w.server.cut(t)
	sending.Go(func() {
		_, err := c.Write(block)
		assert.NoError(t, err)
	})
	lost(t, c)
	w.server.mend(t)
	sending.Wait()
	got := <-arrived
	assert.True(t, bytes.Equal(block, got), "what the server got")

	w.proxy.cut(t)
	answer <- got
	lost(t, server.NetConn().(*net.TCPConn))
	w.proxy.mend(t)
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(block, got), "what the client got")
	assert.Equal(t, "198.51.100.7:1234", server.RemoteAddr().String())
}
