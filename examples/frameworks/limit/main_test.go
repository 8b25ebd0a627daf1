package main

import (
	"context"
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
	"golang.org/x/net/netutil"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/examples/frameworks/internal/balancer"
)

func TestLimit(t *testing.T) {
	const limit, clients = 3, 30
	ln, err := newListener(balancer.Listen(t), &proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)}, limit)
	require.NoError(t, err)
	var now, most, found atomic.Int32
	srv := &http.Server{
		ConnContext: proxyproto.ConnContext,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n := now.Add(1)
			defer now.Add(-1)
			for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
			}
			if _, ok := proxyproto.FromContext(r.Context()); ok {
				found.Add(1)
			}
			hello(w, r)
		}),
	}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })

	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			tr := &http.Transport{
				DisableKeepAlives: true,
				DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return balancer.Dial(ctx, ln) },
			}
			resp, err := (&http.Client{Transport: tr, Timeout: time.Minute}).Get("http://example.com/")
			if !assert.NoError(t, err) {
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			assert.NoError(t, err)
			assert.Equal(t, "hello "+balancer.Client+"\n", string(body))
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, most.Load(), int32(limit))
	assert.Zero(t, found.Load(), "if FromContext finds the header through LimitListener, the example must no longer say that it doesn't")
}

// How long a client waits behind two peers that say nothing, with room for two, on either side.
func TestSilentPeersTakeNoPlace(t *testing.T) {
	const places = 2
	cfg := &proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require), HeaderTimeout: 5 * time.Second}
	for want, side := range map[time.Duration]func(inner net.Listener) (net.Listener, error){
		0: func(inner net.Listener) (net.Listener, error) { return newListener(inner, cfg, places) },
		cfg.HeaderTimeout: func(inner net.Listener) (net.Listener, error) {
			return proxyproto.NewListener(netutil.LimitListener(inner, places), cfg)
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
			go balancer.Header().WriteTo(client)

			start := time.Now()
			c, err := ln.Accept()
			require.NoError(t, err)
			defer c.Close()
			assert.Equal(t, balancer.Client, c.RemoteAddr().String())
			assert.Equal(t, want, time.Since(start))
		})
	}
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
