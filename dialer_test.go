package proxyproto

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// recordedConn notes what is written to it and how it ends.
type recordedConn struct {
	net.Conn
	writes []string
	err    error // of Write
	closed bool
}

func (c *recordedConn) Write(p []byte) (int, error) {
	c.writes = append(c.writes, string(p))
	return len(p), c.err
}

func (c *recordedConn) Close() error {
	c.closed = true
	return nil
}

// dialFunc is an inner dialer.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func (f dialFunc) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return f(ctx, network, address)
}

// to is an inner dialer whose connections are all c.
func to(c net.Conn) dialFunc {
	return func(context.Context, string, string) (net.Conn, error) { return c, nil }
}

// nowhere is an inner dialer that mustn't be asked.
func nowhere(t *testing.T) dialFunc {
	return func(context.Context, string, string) (net.Conn, error) {
		assert.Fail(t, "a connection was made")
		return nil, errors.New("not to be dialed")
	}
}

func TestDialerSendsHeaderInOneWrite(t *testing.T) {
	v1, v2 := testHeader(), testHeader()
	v1.Version = V1
	summed := testHeader(3, 0, 4, 0, 0, 0, 0)
	long := testHeader(append([]byte{0xe0, 0x10, 0}, make([]byte, 0x1000)...)...)
	for name, h := range map[string]Header{
		"v1": v1, "v2": v2, "checksum": summed, "long": long,
		"LOCAL": {Version: V2}, "UNKNOWN": {Version: V1, Command: Proxy},
	} {
		t.Run(name, func(t *testing.T) {
			inner := new(recordedConn)
			d := Dialer{Inner: to(inner)}
			c, err := d.DialContext(WithHeader(t.Context(), &h), "tcp", "backend:1")
			require.NoError(t, err)
			assert.Same(t, inner, c)
			assert.Equal(t, []string{encode(t, h)}, inner.writes)
			assert.False(t, inner.closed)
			got, n, err := Parse([]byte(inner.writes[0]))
			require.NoError(t, err)
			assert.Equal(t, len(inner.writes[0]), n)
			assert.Equal(t, h.Source, got.Source)
		})
	}
}

func TestDialerZeroValue(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require)})
	h := testHeader()
	var d Dialer
	c, err := d.DialContext(WithHeader(t.Context(), &h), "tcp", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	assert.IsType(t, new(net.TCPConn), c)
	accepted := accept(t, ln)
	assertTestClient(t, accepted)
	_, err = io.WriteString(c, "payload")
	require.NoError(t, err)
	assert.Equal(t, "payload", readString(t, accepted, 7))
}

func TestDialerHeaderFunction(t *testing.T) {
	type key struct{}
	h, other := testHeader(), Header{Version: V2}
	inner := new(recordedConn)
	d := Dialer{Inner: to(inner), Header: func(ctx context.Context, network, address string) (*Header, error) {
		assert.Equal(t, "asked", ctx.Value(key{}))
		assert.Equal(t, "tcp4", network)
		assert.Equal(t, "backend:1", address)
		return &h, nil
	}}
	ctx := WithHeader(context.WithValue(t.Context(), key{}, "asked"), &other)
	_, err := d.DialContext(ctx, "tcp4", "backend:1")
	require.NoError(t, err)
	assert.Equal(t, []string{encode(t, h)}, inner.writes)
}

func TestDialerWithoutHeaderMakesNoConnection(t *testing.T) {
	failure := errors.New("nobody knows this client")
	v1TLVs := testHeader(4, 0, 0)
	v1TLVs.Version = V1
	good := testHeader()
	function := func(h *Header, err error) func(context.Context, string, string) (*Header, error) {
		return func(context.Context, string, string) (*Header, error) { return h, err }
	}
	for _, test := range []struct {
		name    string
		h       *Header
		dialer  Dialer
		network string
		matches error
		says    string
	}{
		{"nothing", nil, Dialer{}, "tcp", nil, "no header for the connection to backend:1"},
		{"nothing from the function", &good, Dialer{Header: function(nil, nil)}, "tcp", nil, "no header for the connection to backend:1"},
		{"an error from the function", &good, Dialer{Header: function(&good, failure)}, "tcp", failure, "backend:1"},
		{"no wire form", &v1TLVs, Dialer{}, "tcp", ErrMalformed, "TLVs"},
		{"no version", &Header{}, Dialer{}, "tcp", ErrMalformed, "version"},
		{"UDP", &good, Dialer{}, "udp4", nil, "datagrams"},
		{"Unix datagrams", &good, Dialer{}, "unixgram", nil, "datagrams"},
		{"IP", &good, Dialer{}, "ip4:icmp", nil, "datagrams"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.dialer.Inner = nowhere(t)
			ctx := t.Context()
			if test.h != nil {
				ctx = WithHeader(ctx, test.h)
			}
			c, err := test.dialer.DialContext(ctx, test.network, "backend:1")
			assert.Nil(t, c)
			require.ErrorContains(t, err, test.says)
			if test.matches != nil {
				assert.ErrorIs(t, err, test.matches)
			}
		})
	}
	_, err := new(Dialer).DialContext(WithHeader(t.Context(), nil), "tcp", "127.0.0.1:1")
	assert.ErrorContains(t, err, "no header")
}

// The header that a connection came with isn't what is sent on unless somebody says so.
func TestDialerIgnoresAcceptedConnection(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require)})
	dial(t, ln, testLineV1)
	ctx := ConnContext(t.Context(), accept(t, ln))
	_, ok := FromContext(ctx)
	require.True(t, ok)
	_, err := (&Dialer{Inner: nowhere(t)}).DialContext(ctx, "tcp", "backend:1")
	assert.ErrorContains(t, err, "no header")

	h := testHeader()
	_, ok = FromContext(WithHeader(t.Context(), &h))
	assert.False(t, ok)
}

func TestDialerPassesOnInnerError(t *testing.T) {
	failure := &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	h := testHeader()
	d := Dialer{Inner: dialFunc(func(context.Context, string, string) (net.Conn, error) { return nil, failure })}
	c, err := d.DialContext(WithHeader(t.Context(), &h), "tcp", "backend:1")
	assert.Nil(t, c)
	assert.Same(t, failure, err)
}

func TestDialerClosesWhenHeaderIsNotSent(t *testing.T) {
	h := testHeader()
	inner := &recordedConn{err: io.ErrClosedPipe}
	c, err := (&Dialer{Inner: to(inner)}).DialContext(WithHeader(t.Context(), &h), "tcp", "backend:1")
	assert.Nil(t, c)
	assert.ErrorIs(t, err, io.ErrClosedPipe)
	assert.ErrorContains(t, err, "sending the header to backend:1")
	assert.True(t, inner.closed)
}

// Nobody reads at the other end, so that only the context ends the Write.
func TestDialerContextEndsWrite(t *testing.T) {
	h := testHeader()
	t.Run("deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			start := time.Now()
			c, err := (&Dialer{Inner: to(client)}).DialContext(WithHeader(ctx, &h), "tcp", "backend:1")
			assert.Nil(t, c)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			var timeout net.Error
			require.ErrorAs(t, err, &timeout)
			assert.True(t, timeout.Timeout())
			assert.Equal(t, time.Minute, time.Since(start))
			assertClosed(t, server)
		})
	})
	t.Run("cancel", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				synctest.Wait()
				cancel()
			}()
			c, err := (&Dialer{Inner: to(client)}).DialContext(WithHeader(ctx, &h), "tcp", "backend:1")
			assert.Nil(t, c)
			assert.ErrorIs(t, err, context.Canceled)
			assertClosed(t, server)
		})
	})
}

func TestDialerContextEndsAfterwards(t *testing.T) {
	h := testHeader()
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go io.CopyN(io.Discard, server, int64(len(encode(t, h))))
		c, err := (&Dialer{Inner: to(client)}).DialContext(WithHeader(ctx, &h), "tcp", "backend:1")
		require.NoError(t, err)
		time.Sleep(time.Hour)
		go io.WriteString(c, "later")
		assert.Equal(t, "later", readString(t, server, 5))
	})
}

// A health check in version 1 has the connection's own addresses, as there is no LOCAL.
func TestDialerLocal(t *testing.T) {
	for _, host := range []string{"127.0.0.1:0", "[::1]:0"} {
		inner, err := net.Listen("tcp", host)
		if err != nil {
			t.Logf("not on this machine: %v", err)
			continue
		}
		ln, err := NewListener(inner, &Config{Policy: Always(Require)})
		require.NoError(t, err)
		defer ln.Close()
		for _, version := range []Version{V1, V2} {
			ctx := WithHeader(t.Context(), &Header{Version: version, Command: Local})
			c, err := new(Dialer).DialContext(ctx, "tcp", ln.Addr().String())
			require.NoError(t, err)
			defer c.Close()
			accepted := accept(t, ln).(*Conn)
			assertSocket(t, accepted, c)
			h := accepted.Header()
			require.NotNil(t, h)
			if version == V2 {
				assert.Equal(t, Header{Version: V2, Command: Local}, *h)
				continue
			}
			assert.Equal(t, c.LocalAddr(), h.SourceAddr())
			assert.Equal(t, c.RemoteAddr(), h.DestinationAddr())
		}
	}
}

func TestDialerLocalOverUnixSocket(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	defer ln.Close()
	ctx := WithHeader(t.Context(), &Header{Version: V1, Command: Local})
	c, err := new(Dialer).DialContext(ctx, "unix", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	server, err := ln.Accept()
	require.NoError(t, err)
	defer server.Close()
	assert.Equal(t, "PROXY UNKNOWN\r\n", readString(t, server, 15))
}

// With a tls.Dialer inside, the header is the first that comes out of TLS.
func TestDialerInsideTLS(t *testing.T) {
	certificate, roots := testCertificate(t)
	inner, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	require.NoError(t, err)
	ln, err := NewListener(inner, &Config{Policy: Always(Require)})
	require.NoError(t, err)
	defer ln.Close()
	h := testHeader()
	dialed := make(chan error, 1)
	go func() {
		d := Dialer{Inner: &tls.Dialer{Config: &tls.Config{RootCAs: roots}}}
		c, err := d.DialContext(WithHeader(t.Context(), &h), "tcp", ln.Addr().String())
		if err == nil {
			c.Close()
		}
		dialed <- err
	}()
	assertTestClient(t, accept(t, ln))
	assert.NoError(t, <-dialed)
}
