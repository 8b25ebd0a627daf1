package servertest

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
)

// shutdownServer is an HTTP server in a synctest bubble, whose handler waits for leave if the
// request is for /slow, and takes the connection over if it is for /hijack.
type shutdownServer struct {
	*http.Server
	inner    *pipeListener
	ln       *Listener
	lazy     bool
	leave    chan struct{}
	hijacked chan net.Conn
	served   chan error
	logged   strings.Builder
}

func newShutdownServer(t *testing.T, cfg Config) *shutdownServer {
	t.Helper()
	s := &shutdownServer{
		inner: newPipeListener(), lazy: cfg.Lazy, leave: make(chan struct{}),
		hijacked: make(chan net.Conn, 1), served: make(chan error, 1),
	}
	cfg.Policy = Always(Require)
	cfg.HeaderTimeout = time.Hour // of the bubble's time
	ln, err := NewListener(s.inner, &cfg)
	require.NoError(t, err)
	s.ln = ln
	s.Server = &http.Server{
		ErrorLog: log.New(&s.logged, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/slow":
				<-s.leave
			case "/hijack":
				c, _, err := http.NewResponseController(w).Hijack()
				assert.NoError(t, err)
				s.hijacked <- c
				return
			}
			io.WriteString(w, r.RemoteAddr)
		}),
	}
	go func() { s.served <- s.Serve(ln) }()
	return s
}

const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// The states that a connection can be in when the server ends, by what its client has sent.
var shutdownStates = []struct {
	name, sent string
	answers    int  // that the client has got before the server ends
	active     bool // Shutdown waits for it
	started    bool // Shutdown gives it five seconds, since its request may be on its way
}{
	{name: "silent"},
	{name: "one byte of the header", sent: testLineV1[:1]},
	{name: "all but one byte of the header", sent: testLineV1[:len(testLineV1)-1]},
	{name: "the header alone", sent: testLineV1, started: true},
	{name: "the header and half a request", sent: testLineV1 + request[:20], started: true},
	{name: "in the handler", sent: testLineV1 + strings.Replace(request, "/", "/slow", 1),
		active: true},
	{name: "idle after an answer", sent: testLineV1 + request, answers: 1},
	{name: "half a second request", sent: testLineV1 + request + request[:9], answers: 1},
}

// open brings a connection into the state and returns all that the server sends on it, when it
// ends.
func (s *shutdownServer) open(t *testing.T, sent string) (client net.Conn, received chan string) {
	client = s.inner.dial()
	received = make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(client)
		received <- string(b)
	}()
	_, err := io.WriteString(client, sent)
	require.NoError(t, err)
	synctest.Wait()
	return client, received
}

// Shutdown ends at once what waits for a header, and lets requests be answered.
func TestFaultShutdownInEveryState(t *testing.T) {
	for _, lazy := range []bool{false, true} {
		for _, state := range shutdownStates {
			t.Run(state.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newShutdownServer(t, Config{Lazy: lazy})
					_, received := s.open(t, state.sent)
					start := time.Now()
					done := make(chan error, 1)
					go func() { done <- s.Shutdown(context.Background()) }()
					synctest.Wait()
					assert.ErrorIs(t, <-s.served, http.ErrServerClosed)
					if state.active {
						time.Sleep(time.Minute) // of the bubble's time
						select {
						case <-done:
							assert.Fail(t, "Shutdown didn't wait for the handler")
						default:
						}
						close(s.leave)
					}
					require.NoError(t, <-done)
					answers := strings.Count(<-received, "HTTP/1.1 200 OK")
					assert.Equal(t, state.answers+map[bool]int{true: 1}[state.active], answers)
					took := time.Since(start)
					switch {
					case state.active:
					case state.started || lazy && state.answers == 0:
						// net/http's own five seconds for a connection without a request, counted
						// in whole ones, and how often it looks.
						assert.Less(t, took, 7*time.Second)
					default:
						assert.Less(t, took, time.Second)
					}
					s.nothingLeft(t)
				})
			})
		}
	}
}

// Close ends everything at once, in whichever state.
func TestFaultCloseInEveryState(t *testing.T) {
	for _, lazy := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newShutdownServer(t, Config{Lazy: lazy})
			var all []chan string
			for _, state := range shutdownStates {
				_, received := s.open(t, state.sent)
				all = append(all, received)
			}
			hijacker, _ := s.open(t, testLineV1+strings.Replace(request, "/", "/hijack", 1))
			taken := <-s.hijacked
			start := time.Now()
			require.NoError(t, s.Close())
			assert.ErrorIs(t, <-s.served, http.ErrServerClosed)
			close(s.leave)
			for i, received := range all {
				assert.Equal(t, shutdownStates[i].answers,
					strings.Count(<-received, "HTTP/1.1 200 OK"), shutdownStates[i].name)
			}
			assert.Zero(t, time.Since(start))
			// A hijacked connection is its owner's, and stays.
			go io.WriteString(hijacker, "still here")
			assert.Equal(t, "still here", readString(t, taken, 10))
			taken.Close()
			s.nothingLeft(t)
		})
	}
}

// The Listener alone is closed: connections that Accept has returned go on.
func TestFaultListenerClosedUnderConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShutdownServer(t, Config{})
		var clients []net.Conn
		var all []chan string
		for _, state := range shutdownStates {
			client, received := s.open(t, state.sent)
			clients, all = append(clients, client), append(all, received)
		}
		require.NoError(t, s.ln.Close())
		assert.ErrorIs(t, <-s.served, net.ErrClosed)
		close(s.leave)
		for i, state := range shutdownStates {
			// Each client that has been accepted finishes its request, and asks to be the last.
			last := strings.Replace(request, "Host", "Connection: close\r\nHost", 1)
			var rest string
			switch {
			case !strings.HasPrefix(state.sent, testLineV1):
				assert.Empty(t, <-all[i], state.name)
				continue
			case strings.HasSuffix(state.sent, "\r\n"):
				rest = last
			case state.answers == 0:
				rest = request[20:] + last
			default:
				rest = request[9:] + last
			}
			io.WriteString(clients[i], rest)
			got := <-all[i]
			assert.Equal(t, strings.Count(state.sent+rest, "\r\n\r\n"),
				strings.Count(got, testSource), "%s: %s", state.name, got)
		}
		assert.Equal(t, uint64(3), s.ln.Stats().Dropped[ReasonClosed])
		s.nothingLeft(t)
	})
}

// nothingLeft checks that no connection waits any more. The bubble fails by itself if a goroutine
// is left.
func (s *shutdownServer) nothingLeft(t *testing.T) {
	t.Helper()
	synctest.Wait()
	stats := s.ln.Stats()
	assert.Zero(t, stats.Pending)
	if !s.lazy { // a pipe that its reader has closed says that it is broken
		assert.Equal(t, stats.TotalDropped(), stats.Dropped[ReasonClosed])
	}
	assert.NotContains(t, s.logged.String(), "panic")
	_, err := s.ln.Accept()
	assert.ErrorIs(t, err, net.ErrClosed)
}
