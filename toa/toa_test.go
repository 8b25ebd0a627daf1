package toa

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/toa/internal/sockopt"
)

// These tests run with and without an agent; what an agent answers is tested where it is, in
// package toa/agent.

func listen(t testing.TB) net.Listener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { inner.Close() })
	return inner
}

func serve(t testing.TB, action proxyproto.Action) *Listener {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("package toa is for Linux")
	}
	ln, err := NewListener(listen(t), &Config{Policy: proxyproto.Always(action), WithoutAgent: true})
	require.NoError(t, err)
	return ln
}

// pair returns a client and the connection that a Listener returned for it.
func pair(t testing.TB, ln net.Listener) (client, server net.Conn) {
	t.Helper()
	client, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	server, err = ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func TestNewListenerSaysWhatIsWrong(t *testing.T) {
	policy := proxyproto.Always(proxyproto.Require)
	_, err := NewListener(nil, &Config{Policy: policy})
	assert.ErrorContains(t, err, "the inner listener is nil")
	for _, cfg := range []*Config{nil, {}} {
		_, err = NewListener(listen(t), cfg)
		assert.ErrorContains(t, err, "has no Policy")
	}
	_, err = NewListener(struct{ net.Listener }{listen(t)}, &Config{Policy: policy, WithoutAgent: true})
	assert.ErrorIs(t, err, errNoSocket)
	closed := listen(t)
	closed.Close()
	_, err = NewListener(closed, &Config{Policy: policy, WithoutAgent: true})
	if runtime.GOOS != "linux" {
		_, err = NewListener(listen(t), &Config{Policy: policy, WithoutAgent: true})
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		return
	}
	assert.ErrorContains(t, err, "use of closed network connection")
}

// put makes a value as the agent's programs do.
func put(addr netip.AddrPort, family byte) (a sockopt.Answer) {
	copy(a[sockopt.Addr:], addr.Addr().AsSlice())
	a[sockopt.Port], a[sockopt.Port+1] = byte(addr.Port()>>8), byte(addr.Port())
	a[sockopt.Family], a[sockopt.Kind], a[sockopt.Certain] = family, 254, 1
	a[sockopt.Layout] = sockopt.Version
	return a
}

func TestAnswer(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("192.0.2.7:56324"), netip.MustParseAddrPort("[2001:db8::7]:443")
	mapped := netip.MustParseAddrPort("[::ffff:192.0.2.7]:56324")
	for family, addrs := range map[byte][2]netip.AddrPort{4: {v4, v4}, 6: {v6, v6}} {
		a := put(addrs[0], family)
		o, err := optionOf(&a)
		require.NoError(t, err)
		assert.Equal(t, Option{Addr: addrs[1], Kind: 254, Certain: true}, o)
	}
	a := put(mapped, 6)
	o, err := optionOf(&a)
	require.NoError(t, err)
	assert.Equal(t, v4, o.Addr)

	a = put(v4, 0)
	o, err = optionOf(&a)
	assert.Equal(t, ErrNoOption, err)
	assert.Zero(t, o)
	assert.NoError(t, check(&a))
	a[sockopt.Layout] = 0
	assert.ErrorIs(t, check(&a), ErrNoAgent)
	a[sockopt.Layout] = 2
	assert.ErrorContains(t, check(&a), "of version 2, not 1")
}

// RemoteAddr's address can't be made to be another by who appends to its IP.
func TestRemoteAddrIsTheOptions(t *testing.T) {
	for _, s := range []string{"192.0.2.7:56324", "[2001:db8::7]:443"} {
		addr := netip.MustParseAddrPort(s)
		c := newConn(nil, Option{Addr: addr}, nil)
		remote := c.RemoteAddr().(*net.TCPAddr)
		assert.Equal(t, s, remote.String())
		_ = append(remote.IP, 1, 2, 3, 4)
		assert.Equal(t, s, c.RemoteAddr().String())
		assert.Equal(t, addr, remote.AddrPort())
	}
}

// Every Action, for a connection without the option.
func TestActions(t *testing.T) {
	for _, action := range []proxyproto.Action{proxyproto.Optional, proxyproto.Ignore} {
		ln := serve(t, action)
		client, server := pair(t, ln)
		assert.Equal(t, client.LocalAddr().String(), server.RemoteAddr().String())
		c, ok := FromConn(struct{ connWithNetConn }{connWithNetConn{server}})
		require.True(t, ok)
		_, err := c.Option()
		assert.Error(t, err)
		_, isTCP := c.NetConn().(*net.TCPConn)
		assert.True(t, isTCP)
		assert.Equal(t, Stats{Accepted: 1, Bare: 1, Dropped: map[proxyproto.Reason]uint64{}}, ln.Stats())
	}
	ln := serve(t, proxyproto.Skip)
	_, server := pair(t, ln)
	assert.IsType(t, (*net.TCPConn)(nil), server)
	_, ok := FromConn(server)
	assert.False(t, ok)
	assert.Equal(t, uint64(1), ln.Stats().Skipped)
}

type connWithNetConn struct{ net.Conn }

func (c connWithNetConn) NetConn() net.Conn { return c.Conn }

// What is dropped is closed, counted and told, and nobody else notices.
func TestDropped(t *testing.T) {
	for action, reasons := range map[proxyproto.Action][]proxyproto.Reason{
		proxyproto.Reject:      {proxyproto.ReasonRejected},
		proxyproto.Action(200): {proxyproto.ReasonRejected},
		proxyproto.Require:     {proxyproto.ReasonBroken, proxyproto.ReasonNoHeader}, // with an agent
	} {
		ln := serve(t, action)
		var dropped []*proxyproto.DropError
		var peers []proxyproto.Peer
		ln.cfg.OnDrop = func(p proxyproto.Peer, drop *proxyproto.DropError) {
			dropped, peers = append(dropped, drop), append(peers, p)
			_, err := p.Conn.Read(make([]byte, 1))
			assert.ErrorIs(t, err, net.ErrClosed)
			ln.SetPolicy(proxyproto.Always(proxyproto.Skip)) // for the next
		}
		refused, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		defer refused.Close()
		client, server := pair(t, ln)
		assert.Equal(t, client.LocalAddr().String(), server.RemoteAddr().String())
		require.Len(t, dropped, 1)
		assert.Contains(t, reasons, dropped[0].Reason)
		assert.Equal(t, refused.LocalAddr().String(), peers[0].Addr.String())
		assert.Equal(t, ln.Addr().String(), peers[0].Local.String())
		_, err = refused.Read(make([]byte, 1))
		assert.Error(t, err)
		assert.Equal(t, uint64(1), ln.Stats().Dropped[dropped[0].Reason])
	}
}

// A callback that panics costs its connection, and the Listener goes on.
func TestCallbackPanics(t *testing.T) {
	ln := serve(t, proxyproto.Reject)
	ln.cfg.OnDrop = func(proxyproto.Peer, *proxyproto.DropError) { panic("on drop") }
	policies := []proxyproto.Policy{
		func(proxyproto.Peer) proxyproto.Action { panic("policy") }, nil,
	}
	for _, policy := range policies {
		ln.SetPolicy(policy)
		client, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		defer client.Close()
		assert.Panics(t, func() { ln.Accept() })
		_, err = client.Read(make([]byte, 1))
		assert.Error(t, err, "it is closed")
	}
	ln.SetPolicy(proxyproto.Always(proxyproto.Skip))
	pair(t, ln)
}

func TestClose(t *testing.T) {
	ln := serve(t, proxyproto.Optional)
	result := make(chan error)
	go func() {
		_, err := ln.Accept()
		result <- err
	}()
	require.NoError(t, ln.Close())
	assert.ErrorIs(t, <-result, net.ErrClosed)

	// One that is judged when Close is called isn't returned.
	ln = serve(t, proxyproto.Optional)
	ln.SetPolicy(func(proxyproto.Peer) proxyproto.Action {
		ln.Close()
		return proxyproto.Optional
	})
	client, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	_, err = ln.Accept()
	assert.ErrorIs(t, err, net.ErrClosed)
	_, err = client.Read(make([]byte, 1))
	assert.Error(t, err)
	assert.Equal(t, uint64(1), ln.Stats().Dropped[proxyproto.ReasonClosed])
}

// Connections that aren't TCP have no option, whoever's they are.
func TestNotTCP(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("package toa is for Linux")
	}
	inner, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	require.NoError(t, err)
	defer inner.Close()
	var dropped error
	ln, err := NewListener(inner, &Config{
		Policy: proxyproto.Always(proxyproto.Require), WithoutAgent: true,
		OnDrop: func(_ proxyproto.Peer, drop *proxyproto.DropError) {
			dropped = drop.Err
			inner.Close()
		},
	})
	require.NoError(t, err)
	client, err := net.Dial("unix", inner.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	_, err = ln.Accept()
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.ErrorContains(t, dropped, "the inner connection is a *net.UnixConn")
}

func TestNetTest(t *testing.T) {
	for name, swap := range map[string]bool{"client": false, "server": true} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				ln := serve(t, proxyproto.Optional)
				c1, c2 = pair(t, ln)
				if swap {
					c1, c2 = c2, c1
				}
				return c1, c2, func() { c1.Close(); c2.Close(); ln.Close() }, nil
			})
		})
	}
}

// Half-close, a file by ReadFrom, and copies from one connection to another, in all ways that io has.
func TestAsAbleAsTCP(t *testing.T) {
	ln := serve(t, proxyproto.Optional)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, sent, 0o600))
	for name, copy := range map[string]func(dst *Conn, src *Conn) (int64, error){
		"Copy":  func(dst, src *Conn) (int64, error) { return io.Copy(dst, src) },
		"CopyN": func(dst, src *Conn) (int64, error) { return io.CopyN(dst, src, int64(len(sent))) },
		"file": func(dst, _ *Conn) (int64, error) {
			f, err := os.Open(path)
			require.NoError(t, err)
			defer f.Close()
			return io.Copy(dst, f)
		},
	} {
		t.Run(name, func(t *testing.T) {
			from, src := pair(t, ln)
			to, dst := pair(t, ln)
			go func() {
				from.Write(sent)
				from.(*net.TCPConn).CloseWrite()
			}()
			copied := make(chan error, 1)
			go func() {
				n, err := copy(dst.(*Conn), src.(*Conn))
				assert.EqualValues(t, len(sent), n)
				dst.(interface{ CloseWrite() error }).CloseWrite()
				copied <- err
			}()
			got, err := io.ReadAll(to)
			assert.NoError(t, err)
			assert.NoError(t, <-copied)
			assert.True(t, bytes.Equal(sent, got))
			_, err = to.Write([]byte("still open the other way"))
			assert.NoError(t, err)
		})
	}
	// What is left of a LimitedReader that ends too early.
	from, src := pair(t, ln)
	to, dst := pair(t, ln)
	go io.Copy(io.Discard, to)
	from.Write([]byte("short"))
	from.(*net.TCPConn).CloseWrite()
	limited := &io.LimitedReader{R: src, N: 9}
	n, err := dst.(*Conn).ReadFrom(limited)
	assert.NoError(t, err)
	assert.EqualValues(t, 5, n)
	assert.EqualValues(t, 4, limited.N)
}

// A proxy in Go passes on the client that the option names.
func TestHeaderForOption(t *testing.T) {
	ln := serve(t, proxyproto.Optional)
	_, server := pair(t, ln)
	c := newConn(server.(*Conn).TCPConn, Option{Addr: netip.MustParseAddrPort("192.0.2.7:56324")}, nil)
	h, err := proxyproto.HeaderFor(c, proxyproto.V2)
	require.NoError(t, err)
	assert.Equal(t, "192.0.2.7:56324", h.Source.String())
}
