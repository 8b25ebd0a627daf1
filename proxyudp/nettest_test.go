package proxyudp

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"

	"github.com/seed2e8fe8ee/proxyproto"
)

// datagramPipe is one end of a connection made of datagrams to a single peer, so that what
// nettest asks of connections can be asked of a PacketConn: blocking, deadlines, Close, and use by
// many goroutines. An empty datagram says that the peer has closed.
type datagramPipe struct {
	net.PacketConn
	peer   net.Addr
	prefix []byte // put before each datagram
}

func (p *datagramPipe) Read(b []byte) (int, error) {
	n, _, err := p.ReadFrom(b)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

func (p *datagramPipe) Write(b []byte) (int, error) {
	n, err := p.WriteTo(append(p.prefix[:len(p.prefix):len(p.prefix)], b...), p.peer)
	return max(0, n-len(p.prefix)), err
}

func (p *datagramPipe) RemoteAddr() net.Addr { return p.peer }

func (p *datagramPipe) Close() error {
	p.SetWriteDeadline(time.Now().Add(time.Second))
	p.Write(nil)
	if err := p.PacketConn.Close(); !errors.Is(err, net.ErrClosed) { // which stop may have done meanwhile
		return err
	}
	return nil
}

// There is no nettest for PacketConns. Datagrams of Unix sockets are neither lost nor
// reordered, and wait for their reader, so that all of TestConn applies to them.
func TestPacketConnConformance(t *testing.T) {
	for _, action := range []proxyproto.Action{proxyproto.Require, proxyproto.Skip} {
		for _, end := range []string{"first", "second"} {
			t.Run(action.String()+" as the "+end, func(t *testing.T) {
				nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
					server, proxy, err := unixPipe(t, action)
					if err != nil {
						return nil, nil, nil, err
					}
					stop = func() { server.PacketConn.Close(); proxy.PacketConn.Close() }
					if end == "first" {
						return server, proxy, stop, nil
					}
					return proxy, server, stop, nil
				})
			})
		}
	}
}

// unixPipe returns a PacketConn that has got one datagram, and the socket which that came from.
func unixPipe(t *testing.T, action proxyproto.Action) (server, proxy *datagramPipe, err error) {
	dir, err := os.MkdirTemp("", "packetconn") // t.TempDir's path is too long for a socket
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	listen := func(name string) net.PacketConn {
		c, listenErr := net.ListenPacket("unixgram", filepath.Join(dir, name))
		if listenErr != nil {
			err = listenErr
		}
		return c
	}
	inner, outer := listen("server"), listen("proxy")
	if err != nil {
		return nil, nil, err
	}
	pc, err := NewPacketConn(inner, &Config{Policy: proxyproto.Always(action)})
	require.NoError(t, err)
	proxy = &datagramPipe{PacketConn: outer, peer: inner.LocalAddr()}
	if action != proxyproto.Skip {
		proxy.prefix = []byte(packet(t, testHeader(), ""))
	}
	if _, err := proxy.Write([]byte("hello")); err != nil {
		return nil, nil, err
	}
	_, addr, err := pc.ReadFrom(make([]byte, 100))
	return &datagramPipe{PacketConn: pc, peer: addr}, proxy, err
}
