package servertest

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"

	. "github.com/seed2e8fe8ee/proxyproto"
)

// The ways in which a Conn comes to its user.
var connKinds = map[string]func(t testing.TB, server net.Conn) *Conn{
	"accepted": func(t testing.TB, server net.Conn) *Conn { // with its header read
		c, err := NewConn(server, &Config{Policy: Always(Require)})
		require.NoError(t, err)
		require.NoError(t, c.ReadHeader(t.Context()))
		return c
	},
	"lazy": func(t testing.TB, server net.Conn) *Conn { // with its header unread
		c, err := NewConn(server, &Config{Policy: Always(Require)})
		require.NoError(t, err)
		return c
	},
	"skipped": func(t testing.TB, server net.Conn) *Conn { // without one
		c, err := NewConn(server, &Config{Policy: Always(Skip)})
		require.NoError(t, err)
		return c
	},
	"ignored": func(t testing.TB, server net.Conn) *Conn { // before it's known whether one comes
		c, err := NewConn(server, &Config{Policy: Always(Ignore)})
		require.NoError(t, err)
		return c
	},
	"optional": func(t testing.TB, server net.Conn) *Conn {
		c, err := NewConn(server, &Config{Policy: Always(Optional)})
		require.NoError(t, err)
		return c
	},
	"handed over": func(t testing.TB, server net.Conn) *Conn { // after silence
		inner := newPipeListener()
		cfg := &Config{Policy: Always(Optional), HeaderTimeout: time.Millisecond}
		ln, err := NewListener(inner, cfg)
		require.NoError(t, err)
		defer ln.Close()
		go func() { inner.conns <- server }()
		c, err := ln.Accept()
		require.NoError(t, err)
		return c.(*Conn)
	},
}

// tcpPair returns the two ends of a connection.
func tcpPair(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	s, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func TestConnConformance(t *testing.T) {
	for kind, wrap := range connKinds {
		for _, end := range []string{"first", "second"} {
			t.Run(kind+" as the "+end, func(t *testing.T) {
				nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
					client, server := tcpPair(t)
					if kind != "skipped" && kind != "handed over" {
						if _, err := io.WriteString(client, testLineV1); err != nil {
							return nil, nil, nil, err
						}
					}
					c := wrap(t, server)
					stop = func() { client.Close(); c.Close() }
					if end == "first" {
						return c, client, stop, nil
					}
					return client, c, stop, nil
				})
			})
		}
	}
}

func TestConnConformanceWithoutSockets(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		client, server := net.Pipe()
		go io.WriteString(client, testLineV1)
		c := connKinds["accepted"](t, server)
		return c, client, func() { client.Close(); c.Close() }, nil
	})
}

// What came with the header is read first, whatever the size of the reads, and then what follows.
func TestPayloadBehindHeader(t *testing.T) {
	payload := strings.Repeat("0123456789", 50)
	for kind, wrap := range connKinds {
		if kind == "skipped" || kind == "handed over" {
			continue
		}
		for _, size := range []int{1, 7, len(payload), 1 << 14} {
			client, server := tcpPair(t)
			_, err := io.WriteString(client, testLineV1+payload)
			require.NoError(t, err)
			c := wrap(t, server)
			var got strings.Builder
			b := make([]byte, size)
			for got.Len() < len(payload) {
				n, err := c.Read(b)
				require.NoError(t, err)
				got.Write(b[:n])
			}
			assert.Equal(t, payload, got.String())
			_, err = io.WriteString(client, "more")
			require.NoError(t, err)
			require.NoError(t, client.CloseWrite())
			rest, err := io.ReadAll(c)
			require.NoError(t, err)
			assert.Equal(t, "more", string(rest))
		}
	}
}

func TestClosedConnKeepsNothing(t *testing.T) {
	client, server := tcpPair(t)
	_, err := io.WriteString(client, testLineV1+"payload")
	require.NoError(t, err)
	c := connKinds["accepted"](t, server)
	require.NoError(t, c.Close())
	n, err := c.Read(make([]byte, 10))
	assert.Zero(t, n)
	assert.ErrorIs(t, err, net.ErrClosed)
	assertTestClient(t, c)
}

func TestAddressKinds(t *testing.T) {
	unix, err := NewUnixAddrs("/run/client.sock", "@server")
	require.NoError(t, err)
	v4, v6 := netip.MustParseAddrPort(testSource), netip.MustParseAddrPort("[2001:db8::7]:1")
	mapped := netip.AddrPortFrom(netip.AddrFrom16(v4.Addr().As16()), v4.Port())
	for _, row := range []struct {
		h    Header
		want net.Addr
	}{
		{Header{Protocol: TCP4, Source: v4, Destination: v4}, net.TCPAddrFromAddrPort(v4)},
		{Header{Protocol: TCP6, Source: v6, Destination: v6}, net.TCPAddrFromAddrPort(v6)},
		{Header{Protocol: TCP6, Source: mapped, Destination: v6}, net.TCPAddrFromAddrPort(v4)},
		{Header{Protocol: UDP4, Source: v4, Destination: v4}, net.UDPAddrFromAddrPort(v4)},
		{Header{Protocol: UDP6, Source: v6, Destination: v6}, net.UDPAddrFromAddrPort(v6)},
		{Header{Protocol: UnixStream, Unix: unix},
			&net.UnixAddr{Name: "/run/client.sock", Net: "unix"}},
		{Header{Protocol: UnixDatagram, Unix: unix},
			&net.UnixAddr{Name: "/run/client.sock", Net: "unixgram"}},
	} {
		row.h.Version, row.h.Command = V2, Proxy
		client, server := tcpPair(t)
		_, err := row.h.WriteTo(client)
		require.NoError(t, err)
		c := connKinds["accepted"](t, server)
		assert.Equal(t, row.want, c.RemoteAddr())
		assert.Equal(t, row.h.DestinationAddr().String(), c.LocalAddr().String())
		assert.Equal(t, row.h, *c.Header())
	}
}

func TestReadHeaderContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		c := connKinds["lazy"](t, server)
		go io.WriteString(client, testLineV1[:10])
		for i := range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			start := time.Now()
			assert.ErrorIs(t, c.ReadHeader(ctx), context.DeadlineExceeded)
			assert.Equal(t, time.Second, time.Since(start), "call %d", i)
			assert.ErrorIs(t, c.ReadHeader(ctx), context.DeadlineExceeded)
			cancel()
		}
		canceled, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		assert.ErrorIs(t, c.ReadHeader(canceled), context.Canceled)
		go io.WriteString(client, testLineV1[10:])
		assert.NoError(t, c.ReadHeader(t.Context()))
		assert.NoError(t, c.ReadHeader(canceled), "it is there")
		assertTestClient(t, c)

		go func() { // the deadline of a context doesn't outlive it
			time.Sleep(time.Hour)
			io.WriteString(client, "x")
		}()
		assert.Equal(t, "x", readString(t, c, 1))
	})
}

// A reader whose context ends while another one reads doesn't wait for that one, nor end it.
func TestReadHeaderInTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		c := connKinds["lazy"](t, server)
		var readers sync.WaitGroup
		read := make(chan string, 10)
		for range 10 {
			readers.Go(func() {
				b := make([]byte, 1)
				n, err := c.Read(b)
				assert.NoError(t, err)
				read <- string(b[:n])
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		assert.ErrorIs(t, c.ReadHeader(ctx), context.DeadlineExceeded)
		assert.Equal(t, time.Second, time.Since(start))
		io.WriteString(client, testLineV1+"0123456789")
		readers.Wait()
		assert.Len(t, read, 10)
	})
}

func TestPanicInValidate(t *testing.T) {
	client, server := tcpPair(t)
	_, err := io.WriteString(client, testLineV1)
	require.NoError(t, err)
	c, err := NewConn(server, &Config{
		Policy:   Always(Require),
		Validate: func(Peer, *Header) error { panic("bug") },
	})
	require.NoError(t, err)
	for range 2 {
		assert.PanicsWithValue(t, "bug", func() { c.Read(make([]byte, 1)) })
	}
	assert.Nil(t, c.Header())
	assert.NoError(t, c.Close())
}

func TestCloseEndsLazyRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		c := connKinds["lazy"](t, server)
		time.AfterFunc(time.Second, func() { c.Close() })
		_, err := c.Read(make([]byte, 1))
		assert.Error(t, err)
		assert.Nil(t, c.Header())
	})
}

func TestNewConnAsksThePolicy(t *testing.T) {
	client, server := tcpPair(t)
	cfg := &Config{Policy: Always(Reject)}
	drops := logDrops(cfg)
	c, err := NewConn(server, cfg)
	assert.Nil(t, c)
	var drop *DropError
	require.ErrorAs(t, err, &drop)
	assert.Equal(t, ReasonRejected, drop.Reason)
	assert.Equal(t, drop, drops.next(t))
	assertClosed(t, client)

	client, server = tcpPair(t)
	c, err = NewConn(server, &Config{Policy: Always(Skip)})
	require.NoError(t, err)
	assert.Same(t, server, c.NetConn())
	_, err = io.WriteString(client, testLineV1)
	require.NoError(t, err)
	assert.Equal(t, testLineV1, readString(t, c, len(testLineV1)))
	assertSocket(t, c, client)
	assert.NoError(t, c.ReadHeader(t.Context()))
}

func TestFromConn(t *testing.T) {
	_, server := tcpPair(t)
	c := connKinds["skipped"](t, server)
	for _, outer := range []net.Conn{c, tls.Server(c, nil), tls.Server(tls.Server(c, nil), nil)} {
		got, ok := FromConn(outer)
		assert.True(t, ok)
		assert.Same(t, c, got)
	}
	for _, other := range []net.Conn{nil, server, tls.Server(server, nil)} {
		_, ok := FromConn(other)
		assert.False(t, ok)
	}
}
