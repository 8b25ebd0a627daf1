package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

const header = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 80\r\n"

func TestLimit(t *testing.T) {
	const most, clients = 3, 30
	ln := newLimiter(program.Listen(t), most)
	var now, seen, found atomic.Int32
	srv := &http.Server{
		ConnContext: proxyproto.ConnContext,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n := now.Add(1)
			defer now.Add(-1)
			for top := seen.Load(); n > top && !seen.CompareAndSwap(top, n); top = seen.Load() {
			}
			if _, ok := proxyproto.HeaderFromContext(r.Context()); ok {
				found.Add(1)
			}
			hello(w, r)
		}),
	}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			c, err := program.Client(i).Dial("tcp", ln.Addr().String())
			if !assert.NoError(t, err) {
				return
			}
			defer c.Close()
			io.WriteString(c, header+"GET / HTTP/1.0\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if !assert.NoError(t, err) {
				return
			}
			body, err := io.ReadAll(resp.Body)
			assert.NoError(t, err)
			assert.Contains(t, string(body), "hello 192.0.2.7:56324\nthe header says v1 ")
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, seen.Load(), int32(most))
	assert.EqualValues(t, clients, found.Load(), "headers found through the limiter")
}

// How long a client waits after two peers that say nothing, with room for two, on either side.
func TestSilentPeersTakeNoPlace(t *testing.T) {
	const places = 2
	cfg := &proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require), HeaderTimeout: 5 * time.Second}
	for want, side := range map[time.Duration]func(inner net.Listener) (net.Listener, error){
		0: func(inner net.Listener) (net.Listener, error) {
			ln, err := proxyproto.NewListener(inner, cfg)
			return newLimiter(ln, places), err
		},
		cfg.HeaderTimeout: func(inner net.Listener) (net.Listener, error) {
			return proxyproto.NewListener(newLimiter(inner, places), cfg)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			inner := pipes{conns: make(chan net.Conn, places+1), closed: make(chan struct{})}
			ln, err := side(inner)
			require.NoError(t, err)
			defer ln.Close()
			for range places {
				silent, server := net.Pipe()
				defer silent.Close()
				inner.conns <- server
			}
			client, server := net.Pipe()
			defer client.Close()
			inner.conns <- server
			go io.WriteString(client, header)

			start := time.Now()
			c, err := ln.Accept()
			require.NoError(t, err)
			defer c.Close()
			assert.Equal(t, "192.0.2.7:56324", c.RemoteAddr().String())
			assert.Equal(t, want, time.Since(start))
		})
	}
}

// What waits for a place ends with the listener, and a failed Accept takes none.
func TestLimiterCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := pipes{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		ln := newLimiter(inner, 1)
		_, server := net.Pipe()
		inner.conns <- server
		c, err := ln.Accept()
		require.NoError(t, err)
		ended := make(chan error)
		go func() {
			_, err := ln.Accept()
			ended <- err
		}()
		synctest.Wait()
		require.NoError(t, ln.Close())
		assert.ErrorIs(t, <-ended, net.ErrClosed)
		require.NoError(t, c.Close())
		assert.NoError(t, c.Close(), "a second Close gives no second place")
		assert.Empty(t, ln.places)

		_, err = ln.Accept()
		assert.True(t, errors.Is(err, net.ErrClosed))
		assert.Empty(t, ln.places)
	})
}

// pipes is a listener whose connections are net.Pipe's: with them synctest's time passes.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error {
	close(p.closed)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }
