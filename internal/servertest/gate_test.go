package servertest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/testenv"
)

// newPipeConn returns a Conn over a net.Pipe, and the client's end.
func newPipeConn(t testing.TB, cfg *Config) (client net.Conn, c *Conn) {
	t.Helper()
	client, server := net.Pipe()
	t.Cleanup(func() { client.Close(); server.Close() })
	c, err := NewConn(server, cfg)
	require.NoError(t, err)
	return client, c
}

// requireDrop returns the DropError inside an error of Read.
func requireDrop(t testing.TB, err error) *DropError {
	t.Helper()
	drop, ok := errors.AsType[*DropError](err)
	require.True(t, ok, "%v", err)
	op, ok := err.(*net.OpError)
	require.True(t, ok)
	assert.Equal(t, "read", op.Op)
	return drop
}

// A lazy server's user may wait for the first byte as long as he likes; from that byte on the
// header has HeaderTimeout.
func TestLazyReadWaitsForTheFirstByte(t *testing.T) {
	for _, action := range []Action{Require, Optional} {
		synctest.Test(t, func(t *testing.T) {
			client, c := newPipeConn(t, &Config{Policy: Always(action)})
			start := time.Now()
			go func() {
				time.Sleep(time.Hour)
				io.WriteString(client, testLineV1+"x")
			}()
			assert.Equal(t, "x", readString(t, c, 1))
			assert.Equal(t, time.Hour, time.Since(start))
			assertTestClient(t, c)
		})
		synctest.Test(t, func(t *testing.T) {
			client, c := newPipeConn(t, &Config{Policy: Always(action)})
			start := time.Now()
			go func() {
				time.Sleep(time.Hour)
				io.WriteString(client, testLineV1[:7])
			}()
			_, err := c.Read(make([]byte, 1))
			drop := requireDrop(t, err)
			assert.Equal(t, ReasonTimeout, drop.Reason)
			assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
			assert.True(t, err.(net.Error).Timeout())
			assert.ErrorContains(t, err,
				"no PROXY header within 5s: the peer sent only 7 bytes of it")
			assert.Equal(t, time.Hour+5*time.Second, time.Since(start))
			assertClosed(t, client)
		})
	}
}

func TestReadHeaderWaitsForHeaderTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, c := newPipeConn(t, &Config{Policy: Always(Require)})
		start := time.Now()
		err := c.ReadHeader(t.Context())
		assert.Equal(t, ReasonTimeout, requireDrop(t, err).Reason)
		assert.ErrorContains(t, err, "no PROXY header within 5s: the peer sent nothing")
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.NotErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 5*time.Second, time.Since(start))
		assertClosed(t, client)
		assert.Equal(t, err, c.ReadHeader(t.Context()))
	})
	for _, limit := range []time.Duration{-1, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			client, c := newPipeConn(t, &Config{Policy: Always(Require), HeaderTimeout: limit})
			time.AfterFunc(59*time.Second, func() { io.WriteString(client, testLineV1) })
			require.NoError(t, c.ReadHeader(t.Context()))
			assertTestClient(t, c)
		})
	}
}

// The limit of one ReadHeader isn't the next one's, nor a Read's.
func TestReadHeaderLeavesNoLimitBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, c := newPipeConn(t, &Config{Policy: Always(Require)})
		for range 4 {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			assert.ErrorIs(t, c.ReadHeader(ctx), context.DeadlineExceeded)
			cancel()
		}
		time.AfterFunc(time.Hour, func() { io.WriteString(client, testLineV1+"x") })
		assert.Equal(t, "x", readString(t, c, 1))
	})
}

// Under Optional, ReadHeader ends silence by serving the connection without a header; one that
// comes then closes it, whole or in parts, before a byte of payload is read.
func TestSilenceIsHandedOver(t *testing.T) {
	handOver := func(t *testing.T, cfg *Config) (client net.Conn, c *Conn) {
		client, c = newPipeConn(t, cfg)
		start := time.Now()
		require.NoError(t, c.ReadHeader(t.Context()))
		require.Equal(t, 5*time.Second, time.Since(start))
		return client, c
	}
	t.Run("and then is a client's", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, c := handOver(t, &Config{Policy: Always(Optional)})
			go io.WriteString(c, "220 hello\r\n")
			assert.Equal(t, "220 hello\r\n", readString(t, client, 11))
			go io.WriteString(client, "PRO tip")
			assert.Equal(t, "PRO tip", readString(t, c, 7))
			assert.Nil(t, c.Header())
			assert.Equal(t, "pipe", c.RemoteAddr().String())
		})
	})
	t.Run("a Read that waits goes on", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, c := newPipeConn(t, &Config{Policy: Always(Optional)})
			read := make(chan string)
			go func() { read <- readString(t, c, 2) }()
			synctest.Wait()
			require.NoError(t, c.ReadHeader(t.Context()))
			time.Sleep(time.Hour)
			io.WriteString(client, "hi")
			assert.Equal(t, "hi", <-read)
		})
	})
	for name, wire := range map[string]string{
		"v1": testLineV1, "v2": encode(t, testHeader()), "local": signatureV2 + "\x20\x00\x00\x00",
		"malformed": "PROXY TCP9",
	} {
		t.Run("and then sends "+name, func(t *testing.T) {
			for split := range wire {
				synctest.Test(t, func(t *testing.T) {
					cfg := &Config{Policy: Always(Optional)}
					drops := logDrops(cfg)
					client, c := handOver(t, cfg)
					go func() {
						io.WriteString(client, wire[:split])
						time.Sleep(time.Second)
						io.WriteString(client, wire[split:]+"payload")
					}()
					b, err := io.ReadAll(c)
					assert.Empty(t, b)
					assert.Equal(t, ReasonLate, requireDrop(t, err).Reason)
					assert.Equal(t, ReasonLate, drops.next(t).Reason)
					drops.empty(t)
					assert.Nil(t, c.Header())
					time.Sleep(time.Minute) // the writer's end
				})
			}
		})
	}
	t.Run("and then sends half a header", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, c := handOver(t, &Config{Policy: Always(Optional)})
			time.AfterFunc(time.Hour, func() { io.WriteString(client, "PRO") })
			start := time.Now()
			_, err := c.Read(make([]byte, 8))
			assert.Equal(t, ReasonTimeout, requireDrop(t, err).Reason)
			assert.Equal(t, time.Hour+5*time.Second, time.Since(start))
		})
	})
	t.Run("and then ends inside what may be a header", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, c := handOver(t, &Config{Policy: Always(Optional)})
			go func() {
				io.WriteString(client, "PRO")
				client.Close()
			}()
			b, err := io.ReadAll(c)
			assert.NoError(t, err)
			assert.Equal(t, "PRO", string(b))
		})
	})
}

// Ignore serves at once and takes a header off whenever it comes.
func TestIgnoreStrips(t *testing.T) {
	for name, wire := range map[string]string{
		"nothing": "", "v1": testLineV1, "v2": encode(t, testHeader()),
		"local": signatureV2 + "\x20\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			for split := range len(wire) + 1 {
				synctest.Test(t, func(t *testing.T) {
					client, c := newPipeConn(t, &Config{Policy: Always(Ignore)})
					require.NoError(t, c.ReadHeader(t.Context()))
					go func() {
						time.Sleep(time.Hour)
						io.WriteString(client, wire[:split])
						time.Sleep(time.Second)
						io.WriteString(client, wire[split:]+"hello")
					}()
					assert.Equal(t, "hello", readString(t, c, 5))
					assert.Nil(t, c.Header())
					assert.Equal(t, "pipe", c.RemoteAddr().String())
				})
			}
		})
	}
}

// A client that has sent nothing and ends its side may still wait for what the server says.
func TestHalfCloseWithoutAByte(t *testing.T) {
	for _, action := range []Action{Optional, Ignore} {
		client, server := tcpPair(t)
		c, err := NewConn(server, &Config{Policy: Always(action)})
		require.NoError(t, err)
		require.NoError(t, client.CloseWrite())
		_, err = c.Read(make([]byte, 1))
		assert.Equal(t, io.EOF, err)
		_, err = io.WriteString(c, "bye")
		require.NoError(t, err)
		require.NoError(t, c.Close())
		b, err := io.ReadAll(client)
		assert.NoError(t, err)
		assert.Equal(t, "bye", string(b), action)
	}
}

// A user's deadline that is set at whatever moment ends the Read: before the header has come,
// while it is accepted, after that.
func TestDeadlineAtTheMomentOfTheHeader(t *testing.T) {
	for range 300 {
		client, server := tcpPair(t)
		c, err := NewConn(server, &Config{Policy: Always(Require)})
		require.NoError(t, err)
		done := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 1))
			done <- err
		}()
		go io.WriteString(client, testLineV1)
		for c.Header() == nil {
			c.SetReadDeadline(time.Time{})
		}
		require.NoError(t, c.SetReadDeadline(aLongTimeAgo))
		require.ErrorIs(t, <-done, os.ErrDeadlineExceeded)
		client.Close()
		c.Close()
	}
}

// The other way round: a deadline that was cleared doesn't come back with the header, nor with
// the end of a context.
func TestClearedDeadlineStaysCleared(t *testing.T) {
	for range 300 {
		client, server := tcpPair(t)
		c, err := NewConn(server, &Config{Policy: Always(Require)})
		require.NoError(t, err)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Hour)))
		ctx, cancel := context.WithCancel(t.Context())
		var users sync.WaitGroup
		users.Go(func() { c.ReadHeader(ctx) })
		users.Go(cancel)
		users.Go(func() { io.WriteString(client, testLineV1+"x") })
		users.Go(func() { c.SetReadDeadline(time.Time{}) })
		users.Wait()
		assert.Equal(t, "x", readString(t, c, 1))
		client.Close()
		c.Close()
	}
}

// Close waits for nobody who reads the inner connection.
func TestCloseWhileTheInnerConnectionIsRead(t *testing.T) {
	_, server := tcpPair(t)
	c, err := NewConn(server, &Config{Policy: Always(Require)})
	require.NoError(t, err)
	done := make(chan error)
	go func() {
		_, err := c.NetConn().Read(make([]byte, 1))
		done <- err
	}()
	settle(t, "somebody reads", func() bool {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		return bytes.Contains(stacks, []byte("[IO wait")) &&
			bytes.Contains(stacks, []byte(t.Name()+".func"))
	})
	require.NoError(t, c.Close())
	err = <-done
	if testenv.Portable && errors.Is(err, os.ErrDeadlineExceeded) {
		return // the deadline of the last read ended it first
	}
	assert.ErrorIs(t, err, net.ErrClosed)
}

// A reset would overtake what was written: Close takes the header off first, whatever the
// deadlines say.
func TestCloseDoesntReset(t *testing.T) {
	if testenv.Portable {
		t.Skip("only where a socket can be read without waiting")
	}
	for _, action := range []Action{Require, Optional, Ignore} {
		client, server := testenv.UnixPair(t) // what is written is at the other end at once
		c, err := NewConn(server, &Config{Policy: Always(action)})
		require.NoError(t, err)
		require.NoError(t, c.SetReadDeadline(aLongTimeAgo))
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		_, err = io.WriteString(client, testLineV1)
		require.NoError(t, err)
		_, err = io.WriteString(c, "421 busy\r\n")
		require.NoError(t, err)
		require.NoError(t, c.Close())
		b, err := io.ReadAll(client)
		assert.NoError(t, err)
		assert.Equal(t, "421 busy\r\n", string(b))
	}
}

// clientHello returns the first bytes of a TLS client.
func clientHello(t testing.TB) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go tls.Client(client, &tls.Config{ServerName: "example.com"}).Handshake()
	b := make([]byte, 1<<14)
	n, err := server.Read(b)
	require.NoError(t, err)
	return b[:n]
}

// TLS inside, and a client that never reads: the server's half of the handshake is stuck in Write,
// where no read deadline ends it.
func TestReadHeaderClosesAStuckHandshake(t *testing.T) {
	certificate, _ := testCertificate(t)
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		go io.Copy(client, bytes.NewReader(clientHello(t)))
		inner := tls.Server(server, &tls.Config{Certificates: []tls.Certificate{certificate}})
		c, err := NewConn(inner, &Config{Policy: Always(Require)})
		require.NoError(t, err)
		start := time.Now()
		err = c.ReadHeader(t.Context())
		assert.Equal(t, ReasonTimeout, requireDrop(t, err).Reason)
		assert.Equal(t, 5*time.Second, time.Since(start))
	})
}

// A drop is counted and reported once, also if OnDrop panics.
func TestPanicInOnDropOfALazyRead(t *testing.T) {
	told := 0
	cfg := &Config{Policy: Always(Require), Lazy: true}
	cfg.OnDrop = func(Peer, *DropError) { told++; panic("OnDrop") }
	ln := listen(t, cfg)
	dial(t, ln, "GET / HTTP/1.0\r\n\r\n")
	c := accept(t, ln)
	assert.PanicsWithValue(t, "OnDrop", func() { c.Read(make([]byte, 1)) })
	for range 3 {
		_, err := c.Read(make([]byte, 1))
		assert.Equal(t, ReasonNoHeader, requireDrop(t, err).Reason)
	}
	assert.Equal(t, 1, told)
	assert.Equal(t, map[Reason]uint64{ReasonNoHeader: 1}, ln.Stats().Dropped)
}
