package servertest

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

	. "github.com/seed2e8fe8ee/proxyproto"
)

// recordedConn notes what is written to it and how it ends.
type recordedConn struct {
	net.Conn
	writes []string
	short  bool  // Write takes less than it is given, and says so by its number alone
	err    error // of Write
	closed bool
}

func (c *recordedConn) Write(p []byte) (int, error) {
	c.writes = append(c.writes, string(p))
	if c.short {
		return len(p) - 1, nil
	}
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

// to is a Dialer whose connections are all c.
func to(c net.Conn) *Dialer {
	return &Dialer{Inner: dialFunc(func(context.Context, string, string) (net.Conn, error) {
		return c, nil
	})}
}

func TestDialerSendsHeaderInOneWrite(t *testing.T) {
	v1 := testHeader()
	v1.Version = V1
	for name, h := range map[string]Header{
		"v1": v1, "v2": testHeader(), "checksum": testHeader(3, 0, 4, 0, 0, 0, 0),
		"long":  testHeader(append([]byte{0xe0, 0x10, 0}, make([]byte, 0x1000)...)...),
		"LOCAL": {Version: V2}, "UNKNOWN": {Version: V1, Command: Proxy},
	} {
		t.Run(name, func(t *testing.T) {
			inner := new(recordedConn)
			before := h.Clone()
			c, err := to(inner).DialHeader(t.Context(), "tcp", "backend:1", &h)
			require.NoError(t, err)
			assert.Same(t, inner, c)
			assert.Equal(t, []string{encode(t, h)}, inner.writes)
			assert.False(t, inner.closed)
			assert.Equal(t, *before, h)
		})
	}
}

// A client that came by UDP, as one of HTTP/3, is a stream's on a stream.
func TestDialerSendsUDPAsTCP(t *testing.T) {
	for udp, tcp := range map[Protocol]Protocol{UDP4: TCP4, UDP6: TCP6} {
		h, want := testHeader(), testHeader()
		if udp == UDP6 {
			h, want = ipv6(h, UDP6), ipv6(want, TCP6)
		}
		h.Protocol, want.Protocol = udp, tcp
		inner := new(recordedConn)
		_, err := to(inner).DialHeader(t.Context(), "tcp", "backend:1", &h)
		require.NoError(t, err)
		assert.Equal(t, []string{encode(t, want)}, inner.writes)
		assert.Equal(t, udp, h.Protocol, "the caller's header has changed")
	}
}

func TestDialerZeroValue(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require)})
	c, err := new(Dialer).DialHeader(t.Context(), "tcp", ln.Addr().String(), new(testHeader()))
	require.NoError(t, err)
	defer c.Close()
	assert.IsType(t, new(net.TCPConn), c)
	accepted := accept(t, ln)
	assertTestClient(t, accepted)
	_, err = io.WriteString(c, "payload")
	require.NoError(t, err)
	assert.Equal(t, "payload", readString(t, accepted, 7))
}

func TestDialerWithoutHeaderMakesNoConnection(t *testing.T) {
	v1TLVs := testHeader(4, 0, 0)
	v1TLVs.Version = V1
	good := testHeader()
	for _, test := range []struct {
		name    string
		h       *Header
		network string
		says    string
	}{
		{"nothing", nil, "tcp", "backend:1: no header"},
		{"no wire form", &v1TLVs, "tcp", "TLVs"},
		{"no version", &Header{}, "tcp", "version"},
		{"UDP", &good, "udp4", "a Dialer is for streams"},
		{"Unix datagrams", &good, "unixgram", "a Dialer is for streams"},
		{"IP", &good, "ip4:icmp", "a Dialer is for streams"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := Dialer{Inner: dialFunc(func(context.Context, string, string) (net.Conn, error) {
				assert.Fail(t, "a connection was made")
				return nil, errors.New("not to be dialed")
			})}
			c, err := d.DialHeader(t.Context(), test.network, "backend:1", test.h)
			assert.Nil(t, c)
			require.ErrorContains(t, err, test.says)
			for _, sentinel := range []error{ErrMalformed, ErrNoHeader, ErrIncomplete} {
				assert.NotErrorIs(t, err, sentinel)
			}
		})
	}
}

func TestDialerPassesOnInnerError(t *testing.T) {
	failure := &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	d := Dialer{Inner: dialFunc(func(context.Context, string, string) (net.Conn, error) {
		return nil, failure
	})}
	c, err := d.DialHeader(t.Context(), "tcp", "backend:1", new(testHeader()))
	assert.Nil(t, c)
	assert.Same(t, failure, err)

	c, err = to(nil).DialHeader(t.Context(), "tcp", "backend:1", new(testHeader()))
	assert.Nil(t, c)
	assert.ErrorContains(t, err, "neither a connection nor an error")
}

func TestDialerClosesWhenHeaderIsNotSent(t *testing.T) {
	for name, test := range map[string]struct {
		inner   recordedConn
		matches error
	}{
		"error":       {recordedConn{err: io.ErrClosedPipe}, io.ErrClosedPipe},
		"short write": {recordedConn{short: true}, io.ErrShortWrite},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := to(&test.inner).DialHeader(t.Context(), "tcp", "backend:1", new(testHeader()))
			assert.Nil(t, c)
			assert.ErrorIs(t, err, test.matches)
			assert.ErrorContains(t, err, "sending the header to backend:1")
			assert.Len(t, test.inner.writes, 1)
			assert.True(t, test.inner.closed)
		})
	}
}

// Nobody reads at the other end, so that only the context ends the Write.
func TestDialerContextEndsWrite(t *testing.T) {
	t.Run("deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			start := time.Now()
			c, err := to(client).DialHeader(ctx, "tcp", "backend:1", new(testHeader()))
			assert.Nil(t, c)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			timeout, ok := errors.AsType[net.Error](err)
			require.True(t, ok)
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
			c, err := to(client).DialHeader(ctx, "tcp", "backend:1", new(testHeader()))
			assert.Nil(t, c)
			assert.ErrorIs(t, err, context.Canceled)
			assertClosed(t, server)
		})
	})
}

func TestDialerContextEndsAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		h := testHeader()
		go io.CopyN(io.Discard, server, int64(len(encode(t, h))))
		c, err := to(client).DialHeader(ctx, "tcp", "backend:1", &h)
		require.NoError(t, err)
		time.Sleep(time.Hour)
		go io.WriteString(c, "later")
		assert.Equal(t, "later", readString(t, server, 5))
	})
}

// A health check in version 1 has the connection's own addresses, as there is no LOCAL.
func TestDialerLocal(t *testing.T) {
	for _, host := range []string{"127.0.0.1:0", "[::1]:0"} {
		ln, err := Listen("tcp", host, &Config{Policy: Always(Require)})
		if err != nil && os.Getenv("CI") == "" {
			t.Logf("not on this machine: %v", err)
			continue
		}
		require.NoError(t, err)
		defer ln.Close()
		for _, version := range []Version{V1, V2} {
			h := &Header{Version: version, Command: Local}
			c, err := new(Dialer).DialHeader(t.Context(), "tcp", ln.Addr().String(), h)
			require.NoError(t, err)
			defer c.Close()
			accepted := accept(t, ln).(*Conn)
			assertSocket(t, accepted, c)
			got := accepted.Header()
			require.NotNil(t, got)
			if version == V2 {
				assert.Equal(t, *h, *got)
				continue
			}
			assert.Equal(t, c.LocalAddr(), got.SourceAddr())
			assert.Equal(t, c.RemoteAddr(), got.DestinationAddr())
		}
	}
}

func TestDialerLocalOverUnixSocket(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	defer ln.Close()
	h := &Header{Version: V1, Command: Local}
	c, err := new(Dialer).DialHeader(t.Context(), "unix", ln.Addr().String(), h)
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
	inner, err := tls.Listen("tcp", "127.0.0.1:0",
		&tls.Config{Certificates: []tls.Certificate{certificate}})
	require.NoError(t, err)
	ln, err := NewListener(inner, &Config{Policy: Always(Require)})
	require.NoError(t, err)
	defer ln.Close()
	dialed := make(chan error, 1)
	go func() {
		d := Dialer{Inner: &tls.Dialer{Config: &tls.Config{RootCAs: roots}}}
		c, err := d.DialHeader(t.Context(), "tcp", ln.Addr().String(), new(testHeader()))
		if err == nil {
			c.Close()
		}
		dialed <- err
	}()
	assertTestClient(t, accept(t, ln))
	assert.NoError(t, <-dialed)
}
