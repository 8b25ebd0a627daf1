package proxyhttp

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// addressed is a connection to a server of which only the addresses matter.
type addressed struct {
	net.Conn
	remote, local net.Addr
}

func (c addressed) RemoteAddr() net.Addr { return c.remote }
func (c addressed) LocalAddr() net.Addr  { return c.local }

// clientOf is client n's connection, and a request that came on it.
func clientOf(t testing.TB, n int, url string) (addressed, *http.Request) {
	t.Helper()
	c := addressed{
		remote: &net.TCPAddr{IP: net.IPv4(10, 1, byte(n>>8), byte(n)), Port: 1000},
		local:  &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 80},
	}
	ctx := context.WithValue(t.Context(), http.LocalAddrContextKey, c.local)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	r.RemoteAddr = c.remote.String()
	return c, r
}

// baseOf is a base for a backend, which speaks HTTP/2 if that does.
func baseOf(b backend) *http.Transport {
	base := b.Client().Transport.(*http.Transport).Clone()
	base.ForceAttemptHTTP2 = true
	return base
}

// A connection of HTTP/2 goes when its client does, though a stream's end is still being written.
func TestHTTP2EndsWithTheClient(t *testing.T) {
	backend, conns := countedBackend(t, true)
	backend.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		if r.URL.Path == "/canceled" {
			<-r.Context().Done()
		}
		io.WriteString(w, strings.Repeat("x", 1000))
	})
	for _, path := range []string{"/read", "/canceled"} {
		t.Run(path, func(t *testing.T) {
			transport := newTransport(t, baseOf(backend), headerV2)
			for i := range 100 {
				c, r := clientOf(t, i, backend.URL+path)
				ctx, cancel := context.WithCancel(r.Context())
				resp, err := transport.RoundTrip(r.WithContext(ctx))
				require.NoError(t, err)
				require.Equal(t, 2, resp.ProtoMajor)
				transport.ConnState(c, http.StateClosed)
				if path == "/canceled" {
					cancel()
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				cancel()
			}
			conns.eventuallyOpen(t, 0)
			assertForgotten(t, transport)
		})
	}
}

// A lazy listener's connections have the client's address only after their first byte: net/http
// gives requests the socket's.
func TestConnectionsOfALazyListenersClients(t *testing.T) {
	backend, conns := countedBackend(t, false)
	transport := newTransport(t, nil, headerV2)
	ln, err := proxyproto.NewListener(listenTCP(t),
		&proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require), Lazy: true})
	require.NoError(t, err)
	srv := &http.Server{
		Handler:     reverseProxy(t, backend, transport),
		ConnContext: proxyproto.ConnContext, ConnState: transport.ConnState,
	}
	go srv.Serve(ln)
	defer srv.Close()
	c := &http.Client{Transport: newTransport(t, nil, headerOf(someHeader, nil))}
	answer, _, _ := get(t, c, "http://"+ln.Addr().String())
	assert.Equal(t, "HTTP/1.1 v2 192.0.2.7:1 192.0.2.9:2 ", answer)
	conns.eventuallyOpen(t, 1)
	c.CloseIdleConnections()
	conns.eventuallyOpen(t, 0)
	assertForgotten(t, transport)
}

// Connections of no address, as net/http serves them too, and those of Unix sockets, which all have
// the same one, say nothing about other clients.
func TestConnStateWithoutAddress(t *testing.T) {
	backend, conns := countedBackend(t, false)
	transport := newTransport(t, nil, headerOf(someHeader, nil))
	_, r := clientOf(t, 1, backend.URL)
	r.RemoteAddr = "@"
	resp, err := transport.RoundTrip(r)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	transport.ConnState(addressed{}, http.StateClosed)
	transport.ConnState(addressed{remote: &net.UnixAddr{Name: "@", Net: "unix"}}, http.StateClosed)
	transport.sessions.mu.Lock()
	assert.Len(t, transport.sessions.byHeader, 1)
	transport.sessions.mu.Unlock()
	conns.eventuallyOpen(t, 1)
}

// A connection that comes about when its client is gone is closed, though its dialer knows no
// context.
func TestLateConnectionIsClosed(t *testing.T) {
	for _, withTLS := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %t", withTLS), func(t *testing.T) {
			backend := newBackend(t, withTLS)
			backend.Config.ErrorLog = log.New(io.Discard, "", 0)
			dialing, dial := make(chan bool, 1), make(chan bool)
			closed := make(chan bool)
			base := baseOf(backend)
			base.DialContext = func(_ context.Context, network, address string) (net.Conn, error) {
				dialing <- true
				<-dial
				c, err := net.Dial(network, address)
				return &noted{Conn: c, closed: sync.OnceFunc(func() { close(closed) })}, err
			}
			transport := newTransport(t, base, headerV2)
			c, r := clientOf(t, 1, backend.URL)
			ctx, cancel := context.WithCancel(r.Context())
			ended := make(chan error)
			go func() {
				_, err := transport.RoundTrip(r.WithContext(ctx))
				ended <- err
			}()
			<-dialing
			cancel()
			assert.ErrorIs(t, <-ended, context.Canceled)
			transport.ConnState(c, http.StateClosed)
			close(dial)
			<-closed
			assertForgotten(t, transport)
		})
	}
}

// The same when its dialer has just returned it as the last request ends.
func TestConnectionOfAnEndedSession(t *testing.T) {
	var all sessions
	all.init(1, time.Minute)
	s := all.acquire([]byte("x"), "client",
		func(*session) *http.Transport { return new(http.Transport) })
	require.NoError(t, all.add(&conn{of: s, all: &all}))
	assert.Len(t, s.conns, 1)
	all.retire("client")
	require.NoError(t, all.add(&conn{Conn: addressed{}, of: s, all: &all}), "there is a request")
	clear(s.conns)
	all.release(s)
	assert.ErrorIs(t, all.add(&conn{of: s, all: &all}), errOver)
	assert.Empty(t, s.conns)
}

// noted calls a function when it is closed.
type noted struct {
	net.Conn
	closed func()
}

func (c *noted) Close() error {
	c.closed()
	return c.Conn.Close()
}

// However many clients come, their connections are no more than they are promised to be.
func TestManyClientsAreBounded(t *testing.T) {
	backend := newBackend(t, false)
	const clients, workers, most = 3_000, 20, 100
	var open, peak atomic.Int64
	base := &http.Transport{MaxIdleConns: most}
	base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		for now := open.Add(1); ; {
			before := peak.Load()
			if before >= now || peak.CompareAndSwap(before, now) {
				break
			}
		}
		return &noted{Conn: c, closed: sync.OnceFunc(func() { open.Add(-1) })}, nil
	}
	transport := newTransport(t, base, headerV2)
	next := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for n := range next {
				_, r := clientOf(t, n, backend.URL)
				resp, err := transport.RoundTrip(r)
				if !assert.NoError(t, err) {
					continue
				}
				b, err := io.ReadAll(resp.Body)
				assert.NoError(t, err)
				resp.Body.Close()
				assert.Contains(t, string(b), r.RemoteAddr)
			}
		})
	}
	for n := range clients {
		next <- n
	}
	close(next)
	wg.Wait()
	assert.LessOrEqual(t, peak.Load(), int64(most+2*workers)) // in use, and about to be closed
	require.Eventually(t, func() bool { return open.Load() <= most }, time.Minute, time.Millisecond)
	transport.CloseIdleConnections()
	require.Eventually(t, func() bool { return open.Load() == 0 }, time.Minute, time.Millisecond)
	assertForgotten(t, transport)
}

// Requests over HTTP/1.1 and HTTP/2, read, half read and canceled, while their clients come and go,
// the server ends connections, and all idle ones are closed again and again: each is under its own
// client's header, and at the end nothing is left.
func TestClientsComeAndGo(t *testing.T) {
	for _, withTLS := range []bool{false, true} {
		requests := 200
		if withTLS {
			requests = 50 // as each client's begin with a handshake
		}
		t.Run(fmt.Sprintf("TLS %t", withTLS), func(t *testing.T) {
			backend, conns := countedBackend(t, withTLS)
			// of handshakes that are broken off
			backend.Config.ErrorLog = log.New(io.Discard, "", 0)
			backend.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Client", r.RemoteAddr)
				if r.Header.Get("Last") != "" {
					w.Header().Set("Connection", "close") // with HTTP/2 a GOAWAY
				}
				io.WriteString(w, strings.Repeat("x", 5000))
			})
			transport := newTransport(t, baseOf(backend), headerV2)
			stop, stopped := make(chan bool), make(chan bool)
			go func() {
				defer close(stopped)
				for {
					select {
					case <-stop:
						return
					default:
						transport.CloseIdleConnections()
						time.Sleep(time.Millisecond)
					}
				}
			}()
			var wg sync.WaitGroup
			for worker := range 8 {
				random := rand.New(rand.NewPCG(1, uint64(worker)))
				wg.Go(func() {
					for n := range requests { // five of a client's, some of them at once
						comeAndGo(t, transport, backend.URL, worker/2*40+n/5, random)
					}
				})
			}
			wg.Wait()
			close(stop)
			<-stopped
			for n := range 8 * 40 {
				c, _ := clientOf(t, n, backend.URL)
				transport.ConnState(c, http.StateClosed)
			}
			conns.eventuallyOpen(t, 0)
			assertForgotten(t, transport)
		})
	}
}

// comeAndGo makes a request of client n's, whose connection may end in the middle.
func comeAndGo(t *testing.T, transport *Transport, url string, n int, random *rand.Rand) {
	c, r := clientOf(t, n, url)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	switch random.IntN(10) {
	case 0:
		go cancel()
	case 1:
		go transport.ConnState(c, http.StateClosed)
	case 2:
		r.Header.Set("Last", "yes")
	}
	resp, err := transport.RoundTrip(r.WithContext(ctx))
	if err != nil {
		assert.ErrorIs(t, err, context.Canceled)
		return
	}
	defer resp.Body.Close()
	assert.Equal(t, r.RemoteAddr, resp.Header.Get("Client"))
	switch random.IntN(10) {
	case 0:
		cancel()
	case 1:
		return // half read
	case 2:
		transport.ConnState(c, http.StateClosed)
	}
	io.Copy(io.Discard, resp.Body)
}
