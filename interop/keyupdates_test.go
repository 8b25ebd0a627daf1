package interop

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/program"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// A TLS peer that asks for a key update with each byte of its header, and reads no answer, makes
// the reading of the header wait in a Write. It is evicted, and Close ends it, as any other.
func TestKeyUpdatesWithoutReading(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	const peers = 3
	ca := proxies.NewCA(t, proxies.P256)
	small := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			for _, option := range []int{syscall.SO_RCVBUF, syscall.SO_SNDBUF} {
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, option, 4096)
			}
		})
	}}
	inner, err := small.Listen(context.Background(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	dropped := make(chan proxyproto.Reason, peers+1)
	config := &tls.Config{Certificates: []tls.Certificate{ca.Server(t, serverName)}}
	ln, err := proxyproto.NewListener(tls.NewListener(inner, config), &proxyproto.Config{
		Policy:        proxyproto.Trust(netip.MustParsePrefix("127.0.0.0/8")),
		MaxHeaderSize: 1 << 16,
		MaxPending:    peers,
		HeaderTimeout: time.Hour,
		OnDrop: func(_ proxyproto.Peer, drop *proxyproto.DropError) {
			dropped <- drop.Reason
		},
	})
	require.NoError(t, err)
	defer ln.Close()
	go ln.Accept()

	for range peers {
		getStuck(t, inner.Addr().String())
	}
	assert.Equal(t, peers, ln.Stats().Pending)
	silent, err := net.Dial("tcp", inner.Addr().String())
	require.NoError(t, err)
	defer silent.Close()
	assert.Equal(t, proxyproto.ReasonEvicted, <-dropped)

	require.NoError(t, ln.Close())
	assert.Eventually(t, func() bool {
		return ln.Stats().Pending == 0 && runtime.NumGoroutine() <= goroutines+2*peers+1
	}, proxies.Timeout, time.Millisecond, "two for each program of a peer, and this one")
	assert.Equal(t, uint64(peers), ln.Stats().Dropped[proxyproto.ReasonClosed])
}

// getStuck returns once a peer's connection takes nothing more.
func getStuck(t *testing.T, addr string) {
	host, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	python := proxies.Need(t, "python3")
	cmd := exec.Command(python, "testdata/keyupdates.py", host, port)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var failed strings.Builder
	cmd.Stderr = &failed
	wait, err := program.Begin(cmd)
	require.NoError(t, err)
	t.Cleanup(func() {
		stdin.Close()
		wait()
	})
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	require.Equal(t, "stuck\n", line, "%s", failed.String())
}
