package proxyhttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

var someHeader = proxyproto.NewHeader(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 1},
	&net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 2}, proxyproto.V2)

// noteClose is a body that says whether it is closed. It has no GetBody.
type noteClose struct {
	io.Reader
	closed bool
}

func (b *noteClose) Close() error {
	b.closed = true
	return nil
}

// A request that isn't sent is an error, never a panic, and its body is closed, as
// http.RoundTripper asks: whatever is wrong with it.
func TestRequestsThatAreNotSent(t *testing.T) {
	none := errors.New("none")
	for name, header := range map[string]func(*http.Request) (*proxyproto.Header, error){
		"error":      headerOf(nil, none),
		"no header":  headerOf(nil, nil),
		"bad header": headerOf(&proxyproto.Header{Version: 9}, nil),
		"bad TLVs":   headerOf(&proxyproto.Header{Version: proxyproto.V2, TLVs: []byte{1, 2}}, nil),
		"no client":  headerV2,
	} {
		t.Run(name, func(t *testing.T) {
			transport := newTransport(t, nil, header)
			for _, url := range []string{"", "http://127.0.0.1:1/"} {
				body := &noteClose{Reader: strings.NewReader("x")}
				r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:1/", body)
				if url == "" {
					r.URL = nil // as in a Request that is made by hand
				}
				_, err := transport.RoundTrip(r)
				assert.Error(t, err)
				assert.True(t, body.closed)
			}
			assertForgotten(t, transport)
		})
	}
}

// What a response has besides its body is http.Transport's: trailers, the request it is for.
func TestResponseIsWhole(t *testing.T) {
	backend := newBackend(t, false)
	backend.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hello")
		w.(http.Flusher).Flush()
		w.Header().Set(http.TrailerPrefix+"Late", "yes")
	})
	transport := newTransport(t, nil, headerOf(someHeader, nil))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, backend.URL, nil)
	require.NoError(t, err)
	resp, err := transport.RoundTrip(r)
	require.NoError(t, err)
	assert.Same(t, r, resp.Request)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(b))
	assert.Equal(t, "yes", resp.Trailer.Get("Late"))
	require.NoError(t, resp.Body.Close())
	require.NoError(t, resp.Body.Close(), "twice")
}

// A large body waits for the server's 100, and isn't sent if that refuses.
func TestExpectContinue(t *testing.T) {
	backend := newBackend(t, false)
	backend.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %d", r.RemoteAddr, n)
	})
	transport := newTransport(t, &http.Transport{ExpectContinueTimeout: time.Hour}, headerV2)
	proxy := newProxy(t, backend, transport, false)
	for _, path := range []string{"/", "/refused", "/"} {
		continued, from := false, ""
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got100Continue: func() { continued = true },
			GotConn: func(info httptrace.GotConnInfo) {
				from = info.Conn.LocalAddr().String()
			},
		})
		body := &noteClose{Reader: strings.NewReader(strings.Repeat("x", 1<<20))}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, proxy.URL+path, body)
		require.NoError(t, err)
		r.Header.Set("Expect", "100-continue")
		c := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Hour}}
		defer c.CloseIdleConnections()
		resp, err := c.Do(r)
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		if path == "/" {
			assert.Equal(t, from+" 1048576", string(b))
		} else {
			assert.Equal(t, http.StatusExpectationFailed, resp.StatusCode)
		}
		assert.Equal(t, path == "/", continued)
	}
}

// A connection that takes less of the header than there is, and says that all is well, isn't used.
func TestHeaderIsSentWhole(t *testing.T) {
	backend := newBackend(t, false)
	closed := 0
	base := new(http.Transport)
	base.DialContext = func(_ context.Context, network, address string) (net.Conn, error) {
		c, err := net.Dial(network, address)
		return &short{&noted{Conn: c, closed: func() { closed++ }}}, err
	}
	transport := newTransport(t, base, headerOf(someHeader, nil))
	_, err := (&http.Client{Transport: transport}).Get(backend.URL)
	assert.ErrorIs(t, err, io.ErrShortWrite)
	assert.Equal(t, 1, closed)
	assertIdle(t, transport, 0)
}

type short struct{ net.Conn }

func (c *short) Write(b []byte) (int, error) { return c.Conn.Write(b[:min(10, len(b))]) }

// assertIdle checks that no session has a request, and how many connections they come to have.
func assertIdle(t *testing.T, transport *Transport, want int) {
	t.Helper()
	require.Eventually(t, func() bool {
		transport.sessions.mu.Lock()
		defer transport.sessions.mu.Unlock()
		requests, conns := 0, 0
		for _, s := range transport.sessions.byHeader {
			requests += s.requests
			conns += len(s.conns)
		}
		return requests == 0 && conns == want
	}, time.Minute, time.Millisecond)
}

// A base that speaks HTTP/2 in the clear does so after the header, with many requests of one client
// on a connection and none of another's.
func TestUnencryptedHTTP2(t *testing.T) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	ts := httptest.NewUnstartedServer(http.HandlerFunc(whoami))
	ln, err := proxyproto.NewListener(ts.Listener,
		&proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
	require.NoError(t, err)
	ts.Listener = ln
	ts.Config.ConnContext, ts.Config.Protocols = proxyproto.ConnContext, protocols
	ts.Start()
	defer ts.Close()
	transport := newTransport(t, &http.Transport{Protocols: protocols}, headerV2)
	var wg sync.WaitGroup
	const clients, requests = 10, 20
	for n := range clients * requests {
		if n == clients {
			wg.Wait() // each has its connection
		}
		_, r := clientOf(t, n%clients, ts.URL)
		wg.Go(func() {
			resp, err := transport.RoundTrip(r)
			if !assert.NoError(t, err) {
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			assert.NoError(t, err)
			assert.Equal(t, "HTTP/2.0 v2 "+r.RemoteAddr+" 10.0.0.1:80 ", string(b))
		})
	}
	wg.Wait()
	assert.EqualValues(t, clients, ln.Stats().Accepted)
}

// A negative idle time is no limit, as http.Transport has it, over HTTP/2 too, where that would
// close connections at once.
func TestNoIdleTimeLimit(t *testing.T) {
	for _, withTLS := range []bool{false, true} {
		backend := newBackend(t, withTLS)
		base := baseOf(backend)
		base.IdleConnTimeout = -1
		transport := newTransport(t, base, headerOf(someHeader, nil))
		assert.Zero(t, transport.base.IdleConnTimeout)
		for range 3 {
			get(t, &http.Client{Transport: transport}, backend.URL)
		}
		assert.EqualValues(t, 1, backend.Stats().Accepted)
	}
}

// An upgraded connection is in use until it is closed, and each of its ends can be closed alone.
func TestUpgradedIsInUse(t *testing.T) {
	backend, conns := countedBackend(t, false)
	backend.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if assert.NoError(t, err) {
			defer c.Close()
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n"+
				"Connection: Upgrade\r\nUpgrade: last\r\n\r\n")
			b, err := io.ReadAll(rw)
			assert.NoError(t, err)
			c.Write(b)
		}
	})
	transport := newTransport(t, &http.Transport{MaxIdleConns: 1}, headerV2)
	client, r := clientOf(t, 1, backend.URL)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "last")
	resp, err := transport.RoundTrip(r)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	transport.CloseIdleConnections()
	transport.ConnState(client, http.StateHijacked)
	c := resp.Body.(interface {
		io.ReadWriteCloser
		CloseWrite() error
	})
	_, err = io.WriteString(c, "said before the end")
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	b, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.Equal(t, "said before the end", string(b))
	require.NoError(t, c.Close())
	assertForgotten(t, transport)
	conns.eventuallyOpen(t, 0)
}
