package servertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
)

// Each test here is named after something that has bitten users of other implementations.

func TestPitfallSilentPeerStallsAccept(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require)})
	for range 3 {
		dial(t, ln, "")
		dial(t, ln, "PROXY TC")
	}
	dial(t, ln, testLineV1)
	assertTestClient(t, accept(t, ln))
}

func TestPitfallRemoteAddrBlocks(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require), Lazy: true})
	client := dial(t, ln, "")
	assertSocket(t, accept(t, ln), client)
}

// badCloser is a connection whose Close fails.
type badCloser struct{ net.Conn }

func (c badCloser) Close() error {
	c.Conn.Close()
	return errors.New("close failed")
}

type badCloserListener struct{ net.Listener }

func (ln badCloserListener) Accept() (net.Conn, error) {
	c, err := ln.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return badCloser{c}, nil
}

func TestPitfallPeerErrorEscapesAccept(t *testing.T) {
	for _, wrap := range []func(net.Listener) net.Listener{
		func(ln net.Listener) net.Listener { return ln },
		func(ln net.Listener) net.Listener { return badCloserListener{ln} },
	} {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		good := netip.MustParseAddr("127.0.0.1")
		ln, err := NewListener(wrap(inner), &Config{
			Policy: func(p Peer) Action {
				if p.Addr.Addr() != good {
					return Reject
				}
				return Require
			},
			Validate: func(_ Peer, h *Header) error {
				if h.Protocol == TCP6 {
					return errors.New("no IPv6 here")
				}
				return nil
			},
		})
		require.NoError(t, err)
		defer ln.Close()

		dial(t, ln, "")                                       // silent
		dial(t, ln, "").Close()                               // a probe
		reset(t, dial(t, ln, ""))                             // another
		reset(t, dial(t, ln, "PROXY TCP4 1."))                // broken
		dial(t, ln, "PROXY TCP4 1.").CloseWrite()             // incomplete
		dial(t, ln, "GET / HTTP/1.1\r\n\r\n")                 // no header
		dial(t, ln, "PROXY TCP4 1.2.3.4 1.2.3.4 0 x\r\n")     // malformed
		dial(t, ln, "PROXY TCP6 ::1 ::1 0 0\r\n")             // not valid here
		dial(t, ln, "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff") // too large
		other := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		rejected, err := other.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		defer rejected.Close()
		dial(t, ln, testLineV1)
		assertTestClient(t, accept(t, ln))
	}
}

func TestPitfallEndlessLine(t *testing.T) {
	cfg := &Config{Policy: Always(Require)}
	drops := logDrops(cfg)
	ln := listen(t, cfg)
	go ln.Accept()
	client := dial(t, ln, "PROXY UNKNOWN ")
	for err := error(nil); err == nil; { // until the connection is closed under it
		_, err = client.Write(bytes.Repeat([]byte("a"), 1<<16))
	}
	drop := drops.next(t)
	var fault *FormatError
	require.ErrorAs(t, drop, &fault)
	assert.Equal(t, 105, fault.Offset)
	assert.Len(t, drop.Bytes, 16)
}

func TestPitfallNoHeaderTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newPipeListener()
		cfg := &Config{Policy: Always(Require)}
		drops := logDrops(cfg)
		ln, err := NewListener(inner, cfg)
		require.NoError(t, err)
		defer ln.Close()
		go ln.Accept()

		start := time.Now()
		client := inner.dial()
		go io.WriteString(client, "PROXY TCP4 192.0.")
		drop := drops.next(t)
		assert.Equal(t, 5*time.Second, time.Since(start))
		assert.Equal(t, ReasonTimeout, drop.Reason)
		assert.True(t, drop.Timeout())
		assertClosed(t, client)
		assert.Equal(t, uint64(1), ln.Stats().Dropped[ReasonTimeout])
	})
}

func TestPitfallTrustMissesMappedAddress(t *testing.T) {
	inner, err := net.Listen("tcp", "[::]:0") // dual-stack: an IPv4 client's address is mapped
	require.NoError(t, err)
	ln, err := NewListener(inner, &Config{Policy: Trust(netip.MustParsePrefix("127.0.0.0/8"))})
	require.NoError(t, err)
	defer ln.Close()
	_, port, err := net.SplitHostPort(inner.Addr().String())
	require.NoError(t, err)
	client, err := net.Dial("tcp4", "127.0.0.1:"+port)
	require.NoError(t, err)
	defer client.Close()
	_, err = io.WriteString(client, testLineV1)
	require.NoError(t, err)
	c := accept(t, ln)
	assertTestClient(t, c)
}

func TestPitfallDeadlinesMixedUp(t *testing.T) {
	newLazy := func(t *testing.T) (client net.Conn, c *Conn) {
		client, server := net.Pipe()
		c, err := NewConn(server, &Config{Policy: Always(Require)})
		require.NoError(t, err)
		return client, c
	}
	t.Run("a later deadline doesn't extend the header's time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, c := newLazy(t)
			start := time.Now()
			go io.WriteString(client, "P")
			var server sync.WaitGroup
			server.Go(func() {
				for range 9 { // as one does that moves its deadline all the time
					c.SetReadDeadline(time.Now().Add(time.Hour))
					time.Sleep(time.Second)
				}
			})
			defer server.Wait()
			_, err := c.Read(make([]byte, 1))
			assert.Equal(t, 5*time.Second, time.Since(start))
			var drop *DropError
			require.ErrorAs(t, err, &drop)
			assert.Equal(t, ReasonTimeout, drop.Reason)
			_, err = client.Write([]byte("P"))
			assert.Error(t, err, "the connection must be closed")
		})
	})
	t.Run("no deadline doesn't end the header's time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, c := newLazy(t)
			start := time.Now()
			go io.WriteString(client, "P")
			time.AfterFunc(time.Second, func() { c.SetReadDeadline(time.Time{}) })
			_, err := c.Read(make([]byte, 1))
			assert.Error(t, err)
			assert.Equal(t, 5*time.Second, time.Since(start))
		})
	})
	t.Run("a deadline stays when the header has come", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, c := newLazy(t)
			start := time.Now()
			require.NoError(t, c.SetReadDeadline(start.Add(7*time.Second)))
			go io.WriteString(client, testLineV1)
			_, err := c.Read(make([]byte, 1))
			assert.Equal(t, 7*time.Second, time.Since(start))
			timeout, ok := err.(net.Error)
			assert.True(t, ok && timeout.Timeout())
			assertTestClient(t, c)
		})
	})
	t.Run("a deadline during the header is recoverable", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, c := newLazy(t)
			for i := range testLineV1 {
				require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Millisecond)))
				if i > 0 {
					go io.WriteString(client, testLineV1[i-1:i])
				}
				_, err := c.Read(make([]byte, 1))
				timeout, ok := err.(net.Error)
				require.True(t, ok && timeout.Timeout(), "%v", err)
			}
			assert.Nil(t, c.Header())
			require.NoError(t, c.SetReadDeadline(time.Time{}))
			go io.WriteString(client, testLineV1[len(testLineV1)-1:]+"x")
			assert.Equal(t, "x", readString(t, c, 1))
			assertTestClient(t, c)
		})
	})
}

func TestPitfallHalfCloseLost(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require)})
	client := dial(t, ln, testLineV1)
	c := accept(t, ln).(*Conn)
	_, err := io.WriteString(c, "response")
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	got, err := io.ReadAll(client)
	require.NoError(t, err)
	assert.Equal(t, "response", string(got))
	_, err = io.WriteString(client, "still here")
	require.NoError(t, err)
	assert.Equal(t, "still here", readString(t, c, 10))

	pipe, _ := net.Pipe()
	c, err = NewConn(pipe, &Config{Policy: Always(Skip)})
	require.NoError(t, err)
	assert.ErrorIs(t, c.CloseWrite(), errors.ErrUnsupported)
}

func TestPitfallResponseCutOffByReset(t *testing.T) {
	// The server answers before it has read the request's body, and closes. Only a half-close and a
	// wait before keep the reset that the unread bytes cause from overtaking the answer.
	answer := strings.Repeat("a", 1<<20)
	ln := listen(t, &Config{Policy: Always(Require)})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		io.WriteString(w, answer)
	})}
	go server.Serve(ln)
	defer server.Close()
	client := dial(t, ln,
		testLineV1+"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
	io.CopyN(client, strings.NewReader(strings.Repeat("b", 1<<20)), 1<<20)
	got, err := io.ReadAll(client)
	assert.NoError(t, err)
	assert.True(t, strings.HasSuffix(string(got), answer), "%d bytes came", len(got))
}

func TestPitfallDeadlineRace(t *testing.T) {
	// The race detector is the judge.
	ln := listen(t, &Config{Policy: Always(Require), Lazy: true})
	for range 50 {
		client := dial(t, ln, "")
		c := accept(t, ln)
		var all sync.WaitGroup
		for _, f := range []func(){
			func() { io.WriteString(client, testLineV1+"x") },
			func() { c.SetDeadline(time.Now().Add(time.Hour)) },
			func() { c.SetReadDeadline(time.Now().Add(time.Hour)) },
			func() { c.SetWriteDeadline(time.Now().Add(time.Hour)) },
			func() { c.Read(make([]byte, 1)) },
			func() { c.(*Conn).ReadHeader(context.Background()) },
			func() { _ = c.RemoteAddr().String() + c.LocalAddr().String() },
			func() { c.(*Conn).Header() },
			func() { c.Write([]byte("y")) },
		} {
			all.Go(f)
		}
		all.Wait()
		assertTestClient(t, c)
		c.Close()
	}
}

func TestPitfallHealthChecksLogged(t *testing.T) {
	cfg := &Config{Policy: Always(Require)}
	drops := logDrops(cfg)
	ln := listen(t, cfg)
	var logged bytes.Buffer
	server := &http.Server{ErrorLog: log.New(&logged, "", 0)}
	go server.Serve(ln)
	const checks = 20
	for i := range checks {
		c := dial(t, ln, "")
		if i%2 == 0 {
			reset(t, c)
		} else {
			c.Close()
		}
	}
	for ln.Stats().Probes < checks {
		time.Sleep(time.Millisecond)
	}
	server.Close()
	drops.empty(t)
	assert.Zero(t, ln.Stats().TotalDropped())
	assert.Empty(t, logged.String())
}

func TestPitfallServerSpeaksFirst(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require), Lazy: true})
	client := dial(t, ln, "")
	c := accept(t, ln)
	_, err := io.WriteString(c, "220 ready\r\n")
	require.NoError(t, err)
	readString(t, client, 11) // only then does the client speak, and the balancer with it
	_, err = io.WriteString(client, testLineV1+"EHLO x\r\n")
	require.NoError(t, err)
	assert.Equal(t, "EHLO x\r\n", readString(t, c, 8))
	assertTestClient(t, c)
}
