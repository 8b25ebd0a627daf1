package proxyhttp

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// A connection that is upgraded goes on as the client's own, and the session's end doesn't touch
// it.
func TestUpgrade(t *testing.T) {
	backend := newBackend(t, false)
	backend.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if assert.NoError(t, err) {
			defer c.Close()
			assert.Equal(t, "echo", r.Header.Get("Upgrade"))
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			io.WriteString(c, c.RemoteAddr().String()+"\n")
			io.Copy(c, c)
		}
	})
	transport := newTransport(t, nil, headerV2)
	proxy := newProxy(t, backend, transport, false)
	c, err := net.Dial("tcp", proxy.Listener.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c,
		"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	require.NoError(t, err)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, c.LocalAddr().String()+"\n", line)
	assertForgotten(t, transport) // net/http has nothing more to do with the client's connection
	transport.CloseIdleConnections()
	_, err = io.WriteString(c, "and back\n")
	require.NoError(t, err)
	line, err = r.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "and back\n", line)
}

// A tunnel that CONNECT opens begins with the client's header, and nobody gets it afterwards.
func TestConnect(t *testing.T) {
	backend := newBackend(t, false)
	backend.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			whoami(w, r)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if assert.NoError(t, err) {
			defer c.Close()
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n\r\n%s to %s\n", c.RemoteAddr(), r.Host)
			io.Copy(c, rw)
		}
	})
	transport := newTransport(t, nil, headerOf(someHeader, nil))
	up, send := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodConnect, backend.URL, up)
	require.NoError(t, err)
	req.Host = "somewhere.example:443"
	resp, err := transport.RoundTrip(req)
	require.NoError(t, err)
	r := bufio.NewReader(resp.Body)
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "192.0.2.7:1 to somewhere.example:443\n", line)

	answer, _, _ := get(t, &http.Client{Transport: transport}, backend.URL)
	assert.Equal(t, "HTTP/1.1 v2 192.0.2.7:1 192.0.2.9:2 ", answer)
	assert.Equal(t, uint64(2), backend.Stats().Accepted, "the tunnel isn't used again")

	_, err = io.WriteString(send, "through the tunnel\n")
	require.NoError(t, err)
	line, err = r.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "through the tunnel\n", line)
	require.NoError(t, resp.Body.Close())
	require.NoError(t, send.Close())
}

// A server that closes a kept connection as the next request arrives: it is sent again over a new
// one, body and all, under the same client's header.
func TestRequestIsSentAgain(t *testing.T) {
	ln, err := proxyproto.NewListener(listenTCP(t),
		&proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
	require.NoError(t, err)
	defer ln.Close()
	seen := make(chan string, 10)
	go func() {
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			for range 2 - n { // the first connection ends after its second request, unanswered
				req, err := http.ReadRequest(r)
				if err != nil {
					break
				}
				b, _ := io.ReadAll(req.Body)
				seen <- c.RemoteAddr().String() + " " + string(b)
				if n == 0 && len(seen) > 1 {
					break
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
			c.Close()
		}
	}()
	transport := newTransport(t, nil, headerOf(someHeader, nil))
	var bodies atomic.Int32
	for _, body := range []string{"first", "second"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut,
			"http://"+ln.Addr().String(), strings.NewReader(body))
		require.NoError(t, err)
		getBody := req.GetBody
		req.GetBody = func() (io.ReadCloser, error) { bodies.Add(1); return getBody() }
		req.Header.Set("Idempotency-Key", "x")
		resp, err := transport.RoundTrip(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	assert.EqualValues(t, 1, bodies.Load())
	for _, want := range []string{"first", "second", "second"} {
		assert.Equal(t, "192.0.2.7:1 "+want, <-seen)
	}
}

// A body that can't be had again isn't sent again: the request fails, and the next one has a new
// connection under the same header.
func TestBodyThatCannotBeSentAgain(t *testing.T) {
	ln, err := proxyproto.NewListener(listenTCP(t),
		&proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
	require.NoError(t, err)
	defer ln.Close()
	clients := make(chan string, 10)
	go func() {
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			clients <- c.RemoteAddr().String()
			r := bufio.NewReader(c)
			for answered := 0; ; answered++ { // the first connection answers once
				req, err := http.ReadRequest(r)
				if err != nil {
					break
				}
				if io.Copy(io.Discard, req.Body); n == 0 && answered == 1 {
					break
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
			c.Close()
		}
	}()
	transport := newTransport(t, nil, headerOf(someHeader, nil))
	for i, fails := range []bool{false, true, false} {
		body := &noteClose{Reader: strings.NewReader("once")}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut,
			"http://"+ln.Addr().String(), body)
		require.NoError(t, err)
		resp, err := transport.RoundTrip(req)
		if fails {
			require.Error(t, err, i)
			continue
		}
		require.NoError(t, err, i)
		require.NoError(t, resp.Body.Close())
	}
	assertIdle(t, transport, 1)
	for range 2 {
		assert.Equal(t, "192.0.2.7:1", <-clients)
	}
	assert.Empty(t, clients)
}

// A function that panics, and a base whose dialing does, leave no session with a request too many.
func TestPanics(t *testing.T) {
	transport := newTransport(t, nil, func(*http.Request) (*proxyproto.Header, error) {
		panic("header")
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:1/", nil)
	require.NoError(t, err)
	assert.Panics(t, func() { transport.RoundTrip(req) })
	assertForgotten(t, transport)
}

// A client that goes away while its request is under way takes the connection to the server with
// it.
func TestClientGoesAway(t *testing.T) {
	backend, conns := countedBackend(t, false)
	arrived := make(chan bool)
	backend.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-r.Context().Done()
	})
	transport := newTransport(t, nil, headerV2)
	proxy := newProxy(t, backend, transport, false)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, proxy.URL, nil)
	require.NoError(t, err)
	go func() {
		<-arrived
		cancel()
	}()
	_, err = client(t, proxy, 0).Do(req)
	assert.ErrorIs(t, err, context.Canceled)
	conns.eventuallyOpen(t, 0)
	assertForgotten(t, transport)
}
