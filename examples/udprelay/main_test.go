package main

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/program"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

func TestMain(m *testing.M) { program.Main(m) }

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
	to := program.Start(t, "-to", inner.LocalAddr().String(), "-silence", "200ms", "-limit", "100")

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
