package proxyhttp

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// connCount counts the connections of a server.
type connCount struct {
	mu   sync.Mutex
	open map[net.Conn]bool
	all  int
}

func (c *connCount) note(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.open[conn] = true
		c.all++
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
	}
}

func (c *connCount) counts() (open, all int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open), c.all
}

// eventuallyOpen waits until the server has so many connections left.
func (c *connCount) eventuallyOpen(t *testing.T, want int) {
	t.Helper()
	require.Eventually(t, func() bool { open, _ := c.counts(); return open == want },
		time.Minute, time.Millisecond)
}

func countedBackend(t *testing.T, withTLS bool) (backend, *connCount) {
	c := &connCount{open: map[net.Conn]bool{}}
	b := newBackend(t, withTLS)
	before := b.Config.ConnState
	b.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		before(conn, state)
		c.note(conn, state)
	}
	return b, c
}

// Each client's next request finds its connection to the server, which ends with the client's own.
func TestConnectionsAreTheClients(t *testing.T) {
	for _, withTLS := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %t", withTLS), func(t *testing.T) {
			backend, conns := countedBackend(t, withTLS)
			base := &http.Transport{ForceAttemptHTTP2: true}
			if withTLS {
				base.TLSClientConfig = backend.Client().Transport.(*http.Transport).TLSClientConfig
			}
			transport := newTransport(t, base, headerV2)
			proxy := newProxy(t, backend, transport, withTLS)
			const clients = 5
			var all []*http.Client
			for i := range clients {
				c := client(t, proxy, i)
				all = append(all, c)
				for range 10 {
					_, _, _ = get(t, c, proxy.URL)
				}
			}
			open, made := conns.counts()
			assert.Equal(t, clients, open)
			assert.Equal(t, clients, made, "more than one connection for ten requests")
			for i, c := range all {
				c.CloseIdleConnections()
				conns.eventuallyOpen(t, clients-1-i)
			}
			assertForgotten(t, transport)
		})
	}
}

// assertForgotten checks that a Transport remembers nobody.
func assertForgotten(t *testing.T, transport *Transport) {
	t.Helper()
	all := &transport.sessions
	require.Eventually(t, func() bool {
		all.mu.Lock()
		defer all.mu.Unlock()
		return len(all.byHeader) == 0 && len(all.byClient) == 0 && all.idle.Len() == 0
	}, time.Minute, time.Millisecond)
}

// Clients that keep their connections open without end don't make those to servers accumulate.
func TestIdleClientsAreBounded(t *testing.T) {
	backend, conns := countedBackend(t, false)
	proxy := newProxy(t, backend, newTransport(t, &http.Transport{MaxIdleConns: 3}, headerV2),
		false)
	var clients []*http.Client
	for i := range 10 {
		clients = append(clients, client(t, proxy, i))
		get(t, clients[i], proxy.URL)
	}
	conns.eventuallyOpen(t, 3)
	_, made := conns.counts()
	for i := len(clients) - 1; i > 6; i-- { // the latest are kept, the oldest gave way
		get(t, clients[i], proxy.URL)
	}
	_, after := conns.counts()
	assert.Equal(t, made, after)
	get(t, clients[0], proxy.URL)
	_, after = conns.counts()
	assert.Equal(t, made+1, after)
}

func TestCloseIdleConnections(t *testing.T) {
	backend, conns := countedBackend(t, false)
	transport := newTransport(t, nil, headerV2)
	proxy := newProxy(t, backend, transport, false)
	for i := range 3 {
		get(t, client(t, proxy, i), proxy.URL)
	}
	transport.CloseIdleConnections()
	conns.eventuallyOpen(t, 0)
	assertForgotten(t, transport)
}

// A response that is being read keeps its connection, whatever becomes of its session, and gives
// it up at its end.
func TestResponseUnderWay(t *testing.T) {
	backend, conns := countedBackend(t, false)
	finish := make(chan struct{})
	backend.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "4")
		io.WriteString(w, "on")
		w.(http.Flusher).Flush()
		<-finish
		io.WriteString(w, "ly")
	})
	transport := newTransport(t, nil, headerOf(someHeader, nil))
	resp, err := (&http.Client{Transport: transport}).Get(backend.URL)
	require.NoError(t, err)
	transport.CloseIdleConnections()
	transport.sessions.mu.Lock()
	for _, s := range transport.sessions.byHeader {
		transport.sessions.drop(s) // as retire does
	}
	transport.sessions.mu.Unlock()
	close(finish)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, "only", string(b))
	require.NoError(t, resp.Body.Close())
	conns.eventuallyOpen(t, 0)
	assertForgotten(t, transport)
}

// What comes and goes without end leaves nothing behind: sessions are in the lists that their
// state says, whatever the order.
func TestSessionsAtRandom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, timeout = 4, time.Minute
		var all sessions
		all.init(most, timeout)
		random := rand.New(rand.NewPCG(1, 2))
		var busy []*session
		for range 5_000 {
			switch n := random.IntN(10); {
			case n < 4:
				i := random.IntN(20)
				client := fmt.Sprint(i % 7)
				if i%7 == 0 {
					client = ""
				}
				busy = append(busy, all.acquire([]byte{byte(i)}, client,
					func(*session) *http.Transport { return new(http.Transport) }))
			case n < 8 && len(busy) > 0:
				i := random.IntN(len(busy))
				all.release(busy[i])
				busy[i] = busy[len(busy)-1]
				busy = busy[:len(busy)-1]
			case n == 8:
				all.retire(fmt.Sprint(random.IntN(8)))
			case random.IntN(100) == 0:
				all.closeIdle()
			default:
				time.Sleep(time.Duration(random.IntN(20)) * time.Second)
			}
			checkSessions(t, &all, busy, most)
		}
		for _, s := range busy {
			all.release(s)
		}
		for i := range 8 {
			all.retire(fmt.Sprint(i))
		}
		time.Sleep(timeout)
		s := all.acquire([]byte("last"), "", func(*session) *http.Transport { return nil })
		assert.Equal(t, map[string]*session{"last": s}, all.byHeader, "after the idle time")
		assert.Empty(t, all.byClient)
	})
}

func checkSessions(t *testing.T, all *sessions, busy []*session, most int) {
	t.Helper()
	requests := map[*session]int{}
	for _, s := range busy {
		requests[s]++
	}
	idle, owned := 0, 0
	for wire, s := range all.byHeader {
		require.Equal(t, wire, s.wire)
		require.False(t, s.dropped)
		require.Equal(t, requests[s], s.requests)
		require.Equal(t, s.requests == 0, s.idle != nil)
		if s.idle != nil {
			idle++
		}
		if s.client != "" {
			owned++
			require.Contains(t, all.byClient[s.client], s)
		}
	}
	require.Equal(t, idle, all.idle.Len())
	require.LessOrEqual(t, idle, most)
	for _, sessions := range all.byClient {
		require.NotEmpty(t, sessions)
		owned -= len(sessions)
	}
	require.Zero(t, owned)
}

// Requests of every kind at once, with headers that change from one to the next on the same
// client's connection: each has its own.
func TestMixedRequests(t *testing.T) {
	backend := newBackend(t, false)
	backend.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		h, _ := proxyproto.HeaderFromContext(r.Context())
		authority, _ := h.TLVs.Authority()
		fmt.Fprintf(w, "%s %s %s", r.RemoteAddr, authority, b)
		if r.ContentLength%3 == 0 {
			w.Header().Set("Connection", "close")
		}
	})
	transport := newTransport(t, &http.Transport{MaxIdleConns: 5},
		func(r *http.Request) (*proxyproto.Header, error) {
			h, err := headerV2(r)
			if err != nil {
				return nil, err
			}
			h.TLVs, err = h.TLVs.Set(proxyproto.TypeAuthority, []byte(r.Header.Get("Authority")))
			return h, err
		})
	proxy := newProxy(t, backend, transport, false)
	var wg sync.WaitGroup
	const clients, requests = 8, 100
	for i := range clients {
		c := client(t, proxy, i)
		wg.Go(func() {
			for n := range requests {
				authority, body := fmt.Sprint(n%3), strings.Repeat("x", n%7)
				req := httptest.NewRequest(http.MethodPost, proxy.URL, strings.NewReader(body))
				req.RequestURI = ""
				req.Header.Set("Authority", authority)
				resp, err := c.Do(req)
				if !assert.NoError(t, err) {
					return
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				assert.NoError(t, err)
				fields := strings.SplitN(string(b), " ", 3)
				assert.Len(t, fields, 3)
				host, _, _ := net.SplitHostPort(fields[0])
				if runtime.GOOS == "linux" {
					assert.Equal(t, fmt.Sprintf("127.16.0.%d", 1+i), host)
				}
				assert.Equal(t, authority+" "+body, fields[1]+" "+fields[2])
				if n%50 == 49 {
					c.CloseIdleConnections()
				}
			}
		})
	}
	wg.Wait()
}
