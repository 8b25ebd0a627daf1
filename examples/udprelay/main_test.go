package main

import (
	"bufio"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

// Clients reach a server through the relay, which is told who they are, and get its replies. After
// a client's silence its next datagram comes from another socket.
func TestRelay(t *testing.T) {
	inner, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer inner.Close()
	server, err := proxyudp.NewPacketConn(inner, &proxyudp.Config{
		Policy: proxyproto.Always(proxyproto.Require),
	})
	require.NoError(t, err)
	peers := make(chan string, 100)
	go func() {
		b := make([]byte, 1500)
		for {
			_, addr, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			r, _ := proxyudp.RouteOf(addr)
			peers <- r.Peer.String()
			server.WriteTo([]byte(addr.String()), addr)
		}
	}()
	to := startRelay(t, "-to", inner.LocalAddr().String(), "-silence", "200ms", "-limit", "100")

	var clients []net.Conn
	for range 3 {
		c, err := net.Dial("udp", to)
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(30*time.Second)))
		clients = append(clients, c)
	}
	var first string
	for range 3 {
		for _, c := range clients {
			_, err := c.Write(make([]byte, 73)) // too long with its header: dropped
			require.NoError(t, err)
			_, err = c.Write([]byte("hello"))
			require.NoError(t, err)
			b := make([]byte, 100)
			n, err := c.Read(b)
			require.NoError(t, err)
			assert.Equal(t, c.LocalAddr().String(), string(b[:n]))
			if peer := <-peers; first == "" {
				first = peer
			}
		}
	}
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		time.Sleep(300 * time.Millisecond) // the client's silence
		_, err := clients[0].Write([]byte("hello again"))
		require.NoError(t, err)
		assert.NotEqual(t, first, <-peers)
	}, 30*time.Second, time.Millisecond)
}

// startRelay starts the relay and returns the address that it listens on.
func startRelay(t *testing.T, args ...string) string {
	binary := filepath.Join(t.TempDir(), "udprelay")
	out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	c := exec.Command(binary, append(args, "-listen", "127.0.0.1:0")...)
	log, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	lines := bufio.NewReader(log)
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	_, addr, found := strings.Cut(strings.TrimSpace(line), "listening on ")
	require.True(t, found, line)
	go func() { // so that it never waits for us
		for err == nil {
			_, err = lines.ReadString('\n')
		}
	}()
	return addr
}
