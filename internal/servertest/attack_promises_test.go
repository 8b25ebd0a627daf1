package servertest

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
)

// Validate may keep its Header, which is the connection's own. (The race detector finds who writes
// to it.)
func TestValidateKeepsItsHeader(t *testing.T) {
	kept := make(chan *Header, 1)
	ln := listen(t, &Config{Policy: Always(Require), Validate: func(_ Peer, h *Header) error {
		kept <- h
		time.Sleep(10 * time.Millisecond) // whoever gets it reads it now
		return nil
	}})
	read := make(chan bool)
	go func() {
		h := <-kept
		assert.Equal(t, testSource, h.Source.String())
		close(read)
	}()
	dial(t, ln, testLineV1)
	accept(t, ln)
	<-read
}

// What Validate has kept stays, also if the connection is dropped afterwards.
func TestValidateKeepsTheHeaderOfADropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kept *Header
		a := acceptAll(t, &Config{Policy: Always(Require), Validate: func(_ Peer, h *Header) error {
			kept = h
			time.Sleep(6 * time.Second)
			return nil
		}})
		defer a.Close()
		io.WriteString(a.inner.dial(), testLineV1)
		assert.Equal(t, ReasonTimeout, a.drops.next(t).Reason)
		assert.Equal(t, testSource, kept.Source.String())
	})
}

// Optional does without a header if the client has ended its side, and the connection stays open.
func TestReadHeaderOfTheHalfClosed(t *testing.T) {
	client, server := tcpPair(t)
	c, err := NewConn(server, &Config{Policy: Always(Optional)})
	require.NoError(t, err)
	require.NoError(t, client.CloseWrite())
	assert.NoError(t, c.ReadHeader(t.Context()))
	_, err = io.WriteString(c, "bye")
	assert.NoError(t, err)
}

// slowTimeout is a connection whose Read takes a moment to notice that its deadline has passed.
type slowTimeout struct{ net.Conn }

func (c slowTimeout) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		time.Sleep(time.Millisecond)
	}
	return n, err
}

// A Read without deadline waits for the first byte, also if the context of a ReadHeader beside it
// ends as the hand-over comes.
func TestReadAtTheHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		c, err := NewConn(slowTimeout{server}, &Config{Policy: Always(Optional)})
		require.NoError(t, err)
		read := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			read <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second+time.Microsecond)
		defer cancel()
		c.ReadHeader(ctx)
		time.Sleep(time.Second)
		go io.WriteString(client, "x")
		assert.NoError(t, <-read)
	})
}

// The same on sockets, four hundred times, with a context that has the same limit as HeaderTimeout.
func TestReadsBesideReadHeaders(t *testing.T) {
	const conns = 400
	var failed atomic.Int64
	var wg sync.WaitGroup
	for range conns {
		client, server := tcpPair(t)
		c, err := NewConn(server,
			&Config{Policy: Always(Optional), HeaderTimeout: 50 * time.Millisecond})
		require.NoError(t, err)
		wg.Go(func() {
			defer c.Close()
			_, err := c.Read(make([]byte, 1))
			if err != nil {
				failed.Add(1)
			}
		})
		wg.Go(func() {
			time.Sleep(time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			c.ReadHeader(ctx)
			time.Sleep(50 * time.Millisecond)
			io.WriteString(client, "x")
		})
	}
	wg.Wait()
	assert.Zero(t, failed.Load(), "of %d Reads without a deadline timed out", conns)
}

// A LOCAL header is valid on a connection that knows no deadlines (as those of x/crypto/ssh).
func TestLocalWithoutDeadlines(t *testing.T) {
	for _, noDeadlines := range []error{errors.New("no deadlines")} {
		t.Run("", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := acceptAll(t, &Config{Policy: Always(Require)})
				defer a.Close()
				client, server := net.Pipe()
				a.inner.conns <- undead{server, noDeadlines}
				io.WriteString(client, localV2)
				time.Sleep(3 * time.Second)
				select {
				case c := <-a.conns:
					assert.Equal(t, Local, c.(*Conn).Header().Command)
				case drop := <-a.drops.c:
					assert.NoError(t, drop)
				}
			})
		})
	}
}

// timeoutWithBytes is a connection whose Read can return bytes with the error of the deadline.
type timeoutWithBytes struct {
	net.Conn
	bytes string
}

func (c *timeoutWithBytes) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		n = copy(p, c.bytes)
		c.bytes = c.bytes[n:]
	}
	return n, err
}

// Bytes that a Read returns with its timeout are held back until they are decided, as any others.
func TestBytesWithATimeoutAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := acceptAll(t, &Config{Policy: Always(Optional)})
		defer a.Close()
		client, server := net.Pipe()
		defer client.Close()
		a.inner.conns <- &timeoutWithBytes{server, testLineV1[:10]}
		time.AfterFunc(6*time.Second, func() { io.WriteString(client, testLineV1[10:]+"payload") })
		c := <-a.conns
		assertTestClient(t, c) // it had begun in time
		assert.Equal(t, "payload", readString(t, c, 7))
	})
}

// itself is a connection whose NetConn returns itself. To keep the test alive it gives up after a
// thousand calls.
type itself struct {
	net.Conn
	calls *atomic.Int64
}

func (c itself) NetConn() net.Conn {
	if c.calls.Add(1) > 1000 {
		return nil
	}
	return c
}

// A NetConn that returns its own connection ends neither a drop, nor NewConn, nor FromConn in a
// loop.
func TestNetConnThatReturnsItself(t *testing.T) {
	t.Run("timeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := acceptAll(t, &Config{Policy: Always(Require)})
			defer a.Close()
			client, server := net.Pipe()
			defer client.Close()
			c := itself{server, new(atomic.Int64)}
			a.inner.conns <- c
			time.Sleep(6 * time.Second)
			assert.Less(t, c.calls.Load(), int64(1000))
		})
	})
	t.Run("reject", func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		c := itself{server, new(atomic.Int64)}
		NewConn(c, &Config{Policy: Always(Reject)})
		assert.Less(t, c.calls.Load(), int64(1000))
	})
	t.Run("FromConn", func(t *testing.T) {
		c := itself{nil, new(atomic.Int64)}
		FromConn(c)
		assert.Less(t, c.calls.Load(), int64(1000))
	})
}

// When nobody calls Accept nothing is accepted from the inner listener, but for one connection that
// was waited for already: a dropped one isn't replaced.
func TestNothingIsAcceptedForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newPipeListener()
		var reject atomic.Bool
		ln, err := NewListener(inner, &Config{Policy: func(Peer) Action {
			if reject.Load() {
				return Reject
			}
			return Require
		}})
		require.NoError(t, err)
		defer ln.Close()
		go func() { io.WriteString(inner.dial(), testLineV1) }()
		_, err = ln.Accept()
		require.NoError(t, err)
		reject.Store(true)
		go func() {
			for range 100 {
				client, server := net.Pipe()
				client.Close()
				select {
				case inner.conns <- server:
				case <-inner.closed:
				}
			}
		}()
		synctest.Wait()
		assert.LessOrEqual(t, ln.Stats().Accepted, uint64(2), "nobody calls Accept")
	})
}

// Connections under Optional that are stuck in TLS count as pending until they are closed.
func TestMaxPendingHoldsForStuckHandshakes(t *testing.T) {
	certificate, _ := testCertificate(t)
	config := &tls.Config{Certificates: []tls.Certificate{certificate}}
	synctest.Test(t, func(t *testing.T) {
		hello := clientHello(t)
		inner := newPipeListener()
		ln, err := NewListener(tls.NewListener(inner, config),
			&Config{Policy: Always(Optional), MaxPending: 5})
		require.NoError(t, err)
		defer ln.Close()
		go func() {
			for {
				if _, err := ln.Accept(); err != nil {
					return
				}
			}
		}()
		for range 200 {
			go inner.dial().Write(hello)
			synctest.Wait()
		}
		s := ln.Stats()
		open := s.Accepted - s.TotalDropped() - s.Bare
		assert.LessOrEqual(t, open, uint64(2*5), "%+v", s)
	})
}

// ReadHeader blocks no longer than its context allows.
func TestReadHeaderEndsWithItsContext(t *testing.T) {
	certificate, _ := testCertificate(t)
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		hello := clientHello(t)
		go client.Write(hello)
		inner := tls.Server(server, &tls.Config{Certificates: []tls.Certificate{certificate}})
		c, err := NewConn(inner, &Config{Policy: Always(Require), HeaderTimeout: time.Hour})
		require.NoError(t, err)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c.ReadHeader(ctx)
		assert.LessOrEqual(t, time.Since(start), 10*time.Second)
	})
}

// Accept goes on after a Policy that ends its goroutine (t.FailNow in a test's Policy).
func TestGoexitInPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var exit atomic.Bool
		a := acceptAll(t, &Config{Policy: func(Peer) Action {
			if exit.CompareAndSwap(true, false) {
				runtime.Goexit()
			}
			return Require
		}})
		defer a.Close()
		a.inner.dial() // one waits
		synctest.Wait()
		exit.Store(true)
		a.inner.dial()
		synctest.Wait()
		client, server := net.Pipe()
		select {
		case a.inner.conns <- server:
			io.WriteString(client, testLineV1)
			<-a.conns
		case <-time.After(time.Minute):
			assert.Fail(t, "nobody accepts any more")
		}
	})
}

// A connection that was told to give way and comes back is not one more than MaxPending.
func TestMaxPendingHoldsForThoseThatComeBack(t *testing.T) {
	for _, wire := range []string{localV2, "PROXY "} {
		t.Run("", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := acceptAll(t, &Config{Policy: Always(Optional), MaxPending: 5})
				defer a.Close()
				dial := func() net.Conn {
					client, server := net.Pipe()
					a.inner.conns <- undead{server, nil} // it takes its time to notice the deadline
					synctest.Wait()
					return client
				}
				var clients []net.Conn
				for range 5 {
					clients = append(clients, dial())
				}
				if wire != localV2 {
					time.Sleep(5 * time.Second) // they are silent for too long
				}
				for range 5 {
					dial()
				}
				for _, client := range clients {
					io.WriteString(client, wire)
				}
				synctest.Wait()
				assert.LessOrEqual(t, a.Stats().Pending, 5)
			})
		})
	}
}

// Each ReadHeader has HeaderTimeout from its own call, also beside another that began before.
func TestOverlappingReadHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, c := newPipeConn(t, &Config{Policy: Always(Require)})
		first, cancel := context.WithTimeout(t.Context(), 4900*time.Millisecond)
		defer cancel()
		go c.ReadHeader(first)
		time.Sleep(4800 * time.Millisecond)
		time.AfterFunc(time.Second, func() { io.WriteString(client, testLineV1) })
		assert.NoError(t, c.ReadHeader(t.Context()))
		time.Sleep(time.Second)
	})
}
