package udp

import (
	"fmt"
	"net"
	"testing"

	"github.com/fatedier/frp/pkg/msg"
	frp "github.com/fatedier/frp/pkg/proto/udp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

// frp's own forwarder sends the header in a client's first datagram only. With sessions all of them
// are the client's, and without all but the first are dropped.
func TestFRPSendsFirstHeaderOnly(t *testing.T) {
	const clients, datagrams = 20, 5
	for _, sessions := range []int{0, clients} {
		t.Run(fmt.Sprintf("%d sessions", sessions), func(t *testing.T) {
			inner, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			require.NoError(t, err)
			defer inner.Close()
			server, err := proxyudp.NewPacketConn(inner, &proxyudp.Config{
				Policy:   proxyproto.Always(proxyproto.Require),
				Sessions: sessions,
			})
			require.NoError(t, err)
			go func() { // it answers with whom it takes the sender for
				b := make([]byte, 100)
				for {
					n, addr, err := server.ReadFrom(b)
					if err != nil {
						return
					}
					server.WriteTo(fmt.Appendf(nil, "%s %v", b[:n], addr), addr)
				}
			}()
			to, from := make(chan *msg.UDPPacket), make(chan msg.Message, clients*datagrams)
			defer close(to)
			frp.Forwarder(inner.LocalAddr().(*net.UDPAddr), to, from, 1500, "v2")
			for k := range datagrams {
				for i := range clients {
					client := &net.UDPAddr{IP: net.IPv4(192, 0, 2, byte(i)), Port: 1000 + i}
					to <- frp.NewUDPPacket(fmt.Append(nil, k), nil, client)
				}
				if sessions == 0 && k > 0 {
					continue // nobody answers
				}
				for range clients {
					reply := (<-from).(*msg.UDPPacket)
					answer, err := frp.GetContent(reply)
					require.NoError(t, err)
					assert.Equal(t, fmt.Sprintf("%d %v", k, reply.RemoteAddr), string(answer))
				}
			}
			if sessions > 0 {
				assert.EqualValues(t, clients*datagrams, server.Stats().V2)
				assert.Zero(t, dropped(server.Stats()))
			} else {
				assert.EqualValues(t, clients, server.Stats().V2)
			}
		})
	}
}
