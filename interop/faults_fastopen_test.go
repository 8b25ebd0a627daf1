//go:build linux

package interop

import (
	"context"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/netns"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// With TCP Fast Open a Dialer's header travels in the segment that asks for the connection, and a
// Listener finds it there when it accepts.
func TestHeaderInFastOpen(t *testing.T) {
	w := newWire(t)
	const clientsAndServers = "3"
	w.proxy.Sysctl(t, clientsAndServers, "ipv4.tcp_fastopen")
	w.server.Sysctl(t, clientsAndServers, "ipv4.tcp_fastopen")
	var inner net.Listener
	var err error
	w.server.Do(func() {
		lc := net.ListenConfig{Control: control(unix.TCP_FASTOPEN, 16)}
		inner, err = lc.Listen(t.Context(), "tcp", wireServer+":0")
	})
	require.NoError(t, err)
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{
		Policy: proxyproto.Trust(netip.MustParsePrefix(wireProxy + "/32")),
	})
	require.NoError(t, err)
	defer ln.Close()

	h := proxyproto.NewHeader(tcp("192.0.2.77:56324"), tcp("198.51.100.9:443"), proxyproto.V2)
	d := proxyproto.Dialer{Inner: &net.Dialer{Control: control(unix.TCP_FASTOPEN_CONNECT, 1)}}
	const dials = 10
	for range dials {
		ctx, cancel := context.WithTimeout(t.Context(), proxies.Timeout)
		defer cancel()
		var c net.Conn
		w.proxy.Do(func() { c, err = d.DialHeader(ctx, "tcp", ln.Addr().String(), h) })
		require.NoError(t, err)
		defer c.Close()
		accepted, err := ln.Accept()
		require.NoError(t, err)
		assert.Equal(t, "192.0.2.77:56324", accepted.RemoteAddr().String())
		require.NoError(t, accepted.Close())
	}
	assert.Equal(t, uint64(dials), ln.Stats().V2)
	// The first asks for the cookie, the others use it.
	assert.Equal(t, dials-1, fastOpens(t, w.server), "headers that came with the first segment")
}

func control(option, value int) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) (err error) {
		controlErr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, value)
		})
		if controlErr != nil {
			return controlErr
		}
		return err
	}
}

// fastOpens is how many connections the namespace has accepted with data in their first segment.
func fastOpens(t *testing.T, n *netns.Namespace) int {
	t.Helper()
	var out []byte
	var err error
	n.Do(func() { out, err = os.ReadFile("/proc/thread-self/net/netstat") })
	require.NoError(t, err)
	lines := regexp.MustCompile(`(?m)^TcpExt: (.*)$`).FindAllStringSubmatch(string(out), 2)
	require.Len(t, lines, 2)
	fields := regexp.MustCompile(`\S+`)
	names, values := fields.FindAllString(lines[0][1], -1), fields.FindAllString(lines[1][1], -1)
	require.Len(t, values, len(names))
	for i, name := range names {
		if name == "TCPFastOpenPassive" {
			n, err := strconv.Atoi(values[i])
			require.NoError(t, err)
			return n
		}
	}
	require.Fail(t, "the kernel doesn't count them")
	return 0
}
