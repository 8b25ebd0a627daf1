package servertest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
)

// Ignore serves a connection at once, also one whose client has ended its side before Accept looks.
func TestIgnoreServesTheHalfClosed(t *testing.T) {
	for _, early := range []bool{false, true} {
		ln := listen(t, &Config{Policy: Always(Ignore)})
		served := make(chan bool, 2)
		accepted := make(chan bool)
		serve := func() {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			served <- true
			<-accepted
			io.ReadAll(c)
			io.WriteString(c, "bye")
			c.Close()
		}
		client := dial(t, ln, "")
		if early {
			require.NoError(t, client.CloseWrite())
			time.Sleep(10 * time.Millisecond)
			go serve()
		} else {
			go serve()
			<-served
			require.NoError(t, client.CloseWrite())
		}
		close(accepted)
		b, err := io.ReadAll(client)
		assert.NoError(t, err)
		assert.Equal(t, "bye", string(b), "ended early: %v, %+v", early, ln.Stats())
	}
}

// A peer that is gone is an error and no panic: the socket of net.FileConn (inetd, socket
// activation) has no RemoteAddr if the peer had reset the connection before.
func TestFileConnOfAPeerThatIsGone(t *testing.T) {
	client, server := tcpPair(t)
	file, err := server.File()
	require.NoError(t, err)
	defer file.Close()
	reset(t, client)
	time.Sleep(10 * time.Millisecond)
	inner, err := net.FileConn(file)
	if err != nil {
		t.Skip(err)
	}
	defer inner.Close()
	c, err := NewConn(inner, &Config{Policy: Always(Require)})
	require.NoError(t, err)
	t.Log(inner.RemoteAddr())
	assert.NotPanics(t, func() { t.Log(c.ReadHeader(t.Context())) })
}

// stuckWriter takes a byte, once it is let.
type stuckWriter struct{ entered, leave chan bool }

func (w stuckWriter) Write(p []byte) (int, error) {
	close(w.entered)
	<-w.leave
	return 1, io.ErrClosedPipe
}

// After Close a Read returns an error, and none of the bytes that came with the header.
func TestReadAfterClose(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require)})
	dial(t, ln, testLineV1+"payload")
	c := accept(t, ln)
	w := stuckWriter{make(chan bool), make(chan bool)}
	done := make(chan bool)
	go func() { io.Copy(w, c); close(done) }()
	<-w.entered
	require.NoError(t, c.Close())
	close(w.leave)
	<-done
	n, err := c.Read(make([]byte, 10))
	assert.Error(t, err, "%d bytes", n)
}

// The same for a lazy one that is closed while Validate looks at its header.
func TestReadAfterCloseOfLazy(t *testing.T) {
	client, server := tcpPair(t)
	entered, leave := make(chan bool), make(chan bool)
	c, err := NewConn(server, &Config{Policy: Always(Require), Validate: func(Peer, *Header) error {
		close(entered)
		<-leave
		return nil
	}})
	require.NoError(t, err)
	io.WriteString(client, testLineV1+"payload")
	done := make(chan bool)
	go func() { c.ReadHeader(t.Context()); close(done) }()
	<-entered
	require.NoError(t, c.Close())
	close(leave)
	<-done
	n, err := c.Read(make([]byte, 10))
	assert.Error(t, err, "%d bytes", n)
}

// pumped is a connection that reads ahead: its Read ends with its own Close, not with that of the
// connection which its NetConn returns.
type pumped struct {
	net.Conn
	closed chan bool
	once   *sync.Once
}

func (c pumped) Read([]byte) (int, error) { <-c.closed; return 0, net.ErrClosed }
func (c pumped) NetConn() net.Conn        { return c.Conn }
func (c pumped) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// The whole chain of NetConn is closed, since the innermost one's Close doesn't end the Read of a
// wrapper that has its bytes from somewhere else.
func TestEndOfAConnectionThatItsWrapperPumps(t *testing.T) {
	for _, end := range []string{"timeout", "Close", "ReadHeader"} {
		t.Run(end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				defer client.Close()
				c := pumped{server, make(chan bool), new(sync.Once)}
				defer c.Close()
				if end == "ReadHeader" {
					conn, err := NewConn(c, &Config{Policy: Always(Require)})
					require.NoError(t, err)
					done := make(chan error, 1)
					go func() { done <- conn.ReadHeader(t.Context()) }()
					time.Sleep(time.Minute)
					select {
					case err := <-done:
						assert.Error(t, err)
					default:
						assert.Fail(t, "ReadHeader waits after HeaderTimeout")
					}
					return
				}
				a := acceptAll(t, &Config{Policy: Always(Require)})
				a.inner.conns <- c
				if end == "Close" {
					synctest.Wait()
					a.Close()
				}
				time.Sleep(time.Minute)
				a.Close()
				synctest.Wait()
				assert.Equal(t, uint64(1), a.Stats().TotalDropped(), "%s: %+v", end, a.Stats())
			})
		})
	}
}

// slowClose is a connection whose Close takes its time.
type slowClose struct {
	net.Conn
	leave chan bool
}

func (c slowClose) Close() error { <-c.leave; return c.Conn.Close() }

// Listener.Close closes the inner listener before connections whose own Close may block.
func TestInnerListenerIsClosedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newPipeListener()
		ln, err := NewListener(inner, &Config{Policy: Always(Require)})
		require.NoError(t, err)
		leave := make(chan bool)
		go ln.Accept()
		client, server := net.Pipe()
		inner.conns <- slowClose{server, leave}
		synctest.Wait()
		go ln.Close()
		synctest.Wait()
		select {
		case <-inner.closed:
		default:
			assert.Fail(t, "the inner listener isn't closed")
		}
		close(leave)
		client.Close()
	})
}

// No peer delays another: neither a rejected connection whose Close is slow, nor one whose time is
// over.
func TestSlowCloseDelaysNobody(t *testing.T) {
	t.Run("reject", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var first atomic.Bool
			a := acceptAll(t, &Config{Policy: func(Peer) Action {
				if first.CompareAndSwap(false, true) {
					return Reject
				}
				return Require
			}})
			leave := make(chan bool)
			time.AfterFunc(time.Minute, func() { close(leave) })
			client, server := net.Pipe()
			defer client.Close()
			a.inner.conns <- slowClose{server, leave}
			start := time.Now()
			io.WriteString(a.inner.dial(), testLineV1)
			<-a.conns
			assert.Less(t, time.Since(start), time.Second)
			a.Close()
			time.Sleep(time.Minute) // until the first one is closed
		})
	})
	t.Run("timeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := acceptAll(t, &Config{Policy: Always(Require)})
			leave := make(chan bool)
			time.AfterFunc(time.Minute, func() { close(leave) })
			client, server := net.Pipe()
			defer client.Close()
			a.inner.conns <- slowClose{server, leave}
			a.inner.dial()
			time.Sleep(10 * time.Second)
			assert.Len(t, a.drops.c, 1)
			time.Sleep(time.Minute)
			a.Close()
		})
	})
}

// Connections that the Listener's user closes are counted as ReasonClosed, and not reported to
// OnDrop.
func TestCloseIsOnlyCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := acceptAll(t, &Config{Policy: Always(Optional)})
		client, server := net.Pipe()
		defer client.Close()
		a.inner.conns <- slowTimeout{server}
		time.Sleep(5*time.Second + time.Microsecond) // the Read is about to end
		a.Close()
		time.Sleep(time.Second)
		a.drops.empty(t)
		assert.Equal(t, map[Reason]uint64{ReasonClosed: 1}, a.Stats().Dropped)
	})
}

// closeCounter is a connection that counts its Close, as for a gauge of open connections.
type closeCounter struct {
	net.Conn
	closes *atomic.Int64
}

func (c closeCounter) Close() error { c.closes.Add(1); return c.Conn.Close() }

// A connection that the Listener drops is closed once: io.Closer leaves open what a second Close
// does.
func TestDroppedConnectionsAreClosedOnce(t *testing.T) {
	for _, how := range []string{"timeout", "eviction", "Close", "ready and Close"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := &Config{Policy: Always(Require), MaxPending: 1}
				if how == "ready and Close" {
					cfg.Policy, cfg.HeaderTimeout = Always(Optional), time.Second
				}
				inner := newPipeListener()
				ln, err := NewListener(inner, cfg)
				require.NoError(t, err)
				defer ln.Close()
				go ln.Accept()
				c := closeCounter{closes: new(atomic.Int64)}
				client, server := net.Pipe()
				defer client.Close()
				c.Conn = server
				switch how {
				case "timeout":
					inner.conns <- c
					time.Sleep(6 * time.Second)
				case "eviction":
					inner.conns <- c
					inner.dial()
				case "Close":
					inner.conns <- c
					synctest.Wait()
					ln.Close()
				case "ready and Close":
					inner.dial() // gives way and is served
					inner.conns <- c
					time.Sleep(2 * time.Second)
					ln.Close()
				}
				synctest.Wait()
				assert.Equal(t, int64(1), c.closes.Load())
			})
		})
	}
}
