package servertest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/testenv"
)

// accepted is what Accept returns.
type accepted struct {
	conn net.Conn
	err  error
}

// scriptedListener returns what it is told to.
type scriptedListener struct {
	*pipeListener
	errs chan error
}

func (ln *scriptedListener) Accept() (net.Conn, error) {
	select {
	case err := <-ln.errs:
		return nil, err
	default:
	}
	select {
	case err := <-ln.errs:
		return nil, err
	case c := <-ln.conns:
		return c, nil
	case <-ln.closed:
		return nil, net.ErrClosed
	}
}

func TestInnerErrorsArePassedOn(t *testing.T) {
	for _, pending := range []bool{false, true} { // accepting in Accept, and aside
		synctest.Test(t, func(t *testing.T) {
			inner := &scriptedListener{newPipeListener(), make(chan error)}
			ln, err := NewListener(inner, &Config{Policy: Always(Require)})
			require.NoError(t, err)
			results := make(chan accepted)
			go func() {
				for range 7 {
					c, err := ln.Accept()
					results <- accepted{conn: c, err: err}
				}
			}()
			if pending {
				defer inner.dial().Close()
				synctest.Wait()
				assert.Equal(t, 1, ln.Stats().Pending)
			}
			for range 2 {
				temporary := &net.OpError{Op: "accept", Err: syscall.EMFILE}
				inner.errs <- temporary
				assert.Equal(t, accepted{err: temporary}, <-results)
				io.WriteString(inner.dial(), testLineV1)
				r := <-results
				require.NoError(t, r.err)
				assertTestClient(t, r.conn)
			}
			inner.errs <- fmt.Errorf("gone: %w", net.ErrClosed)
			for range 3 {
				r := <-results
				assert.Nil(t, r.conn)
				assert.ErrorIs(t, r.err, net.ErrClosed)
				assert.ErrorContains(t, r.err, "gone")
			}
		})
	}
}

// timedOutConn is a connection that TCP has given up.
type timedOutConn struct{ net.Conn }

func (timedOutConn) Read([]byte) (int, error) {
	return 0, &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}
}

// A timeout that nobody has asked for ends a connection, and doesn't leave it behind.
func TestTimeoutOfTheConnectionItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newPipeListener()
		cfg := &Config{Policy: Always(Require)}
		drops := logDrops(cfg)
		ln, err := NewListener(inner, cfg)
		require.NoError(t, err)
		go ln.Accept()
		client, server := net.Pipe()
		inner.conns <- timedOutConn{server}
		drop := drops.next(t)
		assert.Equal(t, ReasonBroken, drop.Reason)
		assert.ErrorIs(t, drop, syscall.ETIMEDOUT)
		assertClosed(t, client)
		ln.Close()
	})
}

func TestCloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The bubble fails if a goroutine is left when the test ends.
		inner := newPipeListener()
		cfg := &Config{Policy: Always(Require)}
		drops := logDrops(cfg)
		ln, err := NewListener(inner, cfg)
		require.NoError(t, err)
		var callers sync.WaitGroup
		for range 5 {
			callers.Go(func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						assert.ErrorIs(t, err, net.ErrClosed)
						return
					}
					c.Close()
				}
			})
		}
		var clients []net.Conn
		for range 10 {
			clients = append(clients, inner.dial())
		}
		io.WriteString(clients[0], "PROXY ")
		synctest.Wait()
		assert.Equal(t, 10, ln.Stats().Pending)
		require.NoError(t, ln.Close())
		callers.Wait()
		for _, c := range clients {
			assertClosed(t, c)
		}
		synctest.Wait()
		assert.Zero(t, ln.Stats().Pending)
		assert.Equal(t, uint64(10), ln.Stats().Dropped[ReasonClosed])
		drops.empty(t)
		_, err = ln.Accept()
		assert.ErrorIs(t, err, net.ErrClosed)
	})
}

func TestCloseClosesWhatNobodyTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newPipeListener()
		ln, err := NewListener(inner, &Config{Policy: Always(Require)})
		require.NoError(t, err)
		first, second := make(chan net.Conn), make(chan net.Conn)
		go func() {
			c, _ := ln.Accept()
			first <- c
		}()
		a, b := inner.dial(), inner.dial()
		io.WriteString(a, testLineV1)
		assertTestClient(t, <-first)
		io.WriteString(b, testLineV1) // ready, and nobody is there
		synctest.Wait()
		ln.Close()
		assertClosed(t, b)
		go func() {
			c, _ := ln.Accept()
			second <- c
		}()
		assert.Nil(t, <-second)
		a.Close()
	})
}

func TestNothingToWrap(t *testing.T) {
	cfg := &Config{Policy: Always(Require), HeaderTimeout: -1}
	_, err := NewListener(nil, cfg)
	assert.ErrorContains(t, err, "needs a listener")
	_, err = NewConn(nil, cfg)
	assert.ErrorContains(t, err, "needs a connection")
}

func TestListen(t *testing.T) {
	ln, err := Listen("tcp", "127.0.0.1:0", &Config{Policy: Always(Require)})
	require.NoError(t, err)
	defer ln.Close()
	dial(t, ln, testLineV1)
	assertTestClient(t, accept(t, ln))
	_, err = Listen("tcp", "127.0.0.1:0", &Config{})
	assert.ErrorContains(t, err, "no Policy")
	_, err = Listen("tcp", ln.Addr().String(), &Config{Policy: Always(Require)})
	assert.Error(t, err)
}

// Once Close has returned Accept returns no connection, not even one that it was just looking at,
// and no error that isn't net.ErrClosed; nor does the connection stay open.
func TestCloseWhileAcceptLooks(t *testing.T) {
	for _, aside := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			inner := newPipeListener()
			looks, release := make(chan bool), make(chan bool)
			// Whether a connection waits for its header while Accept looks at the next.
			waits := aside
			ln, err := NewListener(inner, &Config{Policy: func(Peer) Action {
				if waits {
					waits = false
					return Require
				}
				looks <- true
				<-release
				return Skip
			}})
			require.NoError(t, err)
			result := make(chan accepted, 1)
			go func() {
				c, err := ln.Accept()
				result <- accepted{conn: c, err: err}
			}()
			synctest.Wait()
			closed := uint64(1)
			if aside {
				defer inner.dial().Close()
				synctest.Wait()
				assert.Equal(t, 1, ln.Stats().Pending)
				closed++
			}
			client := inner.dial()
			<-looks
			require.NoError(t, ln.Close())
			release <- true
			r := <-result
			assert.Nil(t, r.conn)
			assert.ErrorIs(t, r.err, net.ErrClosed)
			assertClosed(t, client)
			_, err = ln.Accept()
			assert.ErrorIs(t, err, net.ErrClosed)
			synctest.Wait()
			assert.Equal(t, map[Reason]uint64{ReasonClosed: closed}, ln.Stats().Dropped)
		})
	}
}

// rudeListener has an error of its own when it is closed, and no address.
type rudeListener struct{ *pipeListener }

func (rudeListener) Addr() net.Addr { return nil }

func (ln rudeListener) Accept() (net.Conn, error) {
	c, err := ln.pipeListener.Accept()
	if err != nil {
		err = errors.New("the server has gone home")
	}
	return c, err
}

func TestCloseOfARudeListener(t *testing.T) {
	ln, err := NewListener(rudeListener{newPipeListener()}, &Config{Policy: Always(Require)})
	require.NoError(t, err)
	result := make(chan error)
	go func() {
		_, err := ln.Accept()
		result <- err
	}()
	require.NoError(t, ln.Close())
	assert.ErrorIs(t, <-result, net.ErrClosed)
}

// A function of the Config that panics in Accept costs its connection, and no later one.
func TestPanicInAccept(t *testing.T) {
	for name, cfg := range map[string]*Config{
		"Policy": {Policy: func(Peer) Action { panic("Policy") }},
		"Validate": {Policy: Always(Require),
			Validate: func(Peer, *Header) error { panic("Validate") }},
		"OnDrop": {Policy: Always(Reject), OnDrop: func(Peer, *DropError) { panic("OnDrop") }},
	} {
		if testenv.Portable && name == "Validate" {
			continue // no header is there in Accept
		}
		ln := listen(t, cfg)
		clients := []net.Conn{dial(t, ln, testLineV1), dial(t, ln, testLineV1)}
		// Another caller of Accept waits meanwhile, and must not for ever.
		results := make(chan any, 2)
		for range 2 {
			go func() {
				defer func() { results <- recover() }()
				ln.Accept()
			}()
		}
		for _, client := range clients {
			assert.Equal(t, name, <-results)
			assertClosed(t, client)
		}
		assert.Equal(t, uint64(2), ln.Stats().Accepted)
	}
}

// Functions of the Config may call the Listener.
func TestCallbacksMayCallTheListener(t *testing.T) {
	var ln *Listener
	call := func() {
		ln.Stats()
		ln.Addr()
		ln.SetPolicy(Always(Require))
	}
	cfg := &Config{
		Policy:   func(Peer) Action { call(); return Require },
		Validate: func(Peer, *Header) error { call(); return nil },
		OnDrop:   func(Peer, *DropError) { call(); ln.Close() },
	}
	ln = listen(t, cfg)
	dial(t, ln, testLineV1)
	assertTestClient(t, accept(t, ln))
	dial(t, ln, "GET /")
	_, err := ln.Accept()
	assert.ErrorIs(t, err, net.ErrClosed)
}

// What Validate does to its Header has no effect: RemoteAddr and Header agree.
func TestValidateCantChangeTheHeader(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require), Validate: func(_ Peer, h *Header) error {
		h.Source = netip.MustParseAddrPort("10.0.0.1:1")
		h.Protocol = Unspec
		return nil
	}})
	dial(t, ln, testLineV1)
	c := accept(t, ln)
	assertTestClient(t, c)
	assert.Equal(t, testSource, c.(*Conn).Header().Source.String())
}
