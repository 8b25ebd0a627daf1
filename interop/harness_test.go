package interop

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

const (
	connections = 2000 // through each proxy
	concurrency = 32   // of them at a time
)

// backend is a Listener for a Go server, and the notebook of what goes wrong there. When the test
// ends it has to be empty.
type backend struct {
	*proxyproto.Listener
	addr string

	mu    sync.Mutex
	noted []string
}

// listen makes a backend that trusts the proxies.
func listen(t *testing.T) *backend {
	return listenWith(t, proxyproto.Config{})
}

// listenWith makes a backend with the given Config, of which it fills in what is missing.
func listenWith(t *testing.T, cfg proxyproto.Config) *backend {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return listenOn(t, inner, cfg)
}

func listenOn(t *testing.T, inner net.Listener, cfg proxyproto.Config) *backend {
	t.Helper()
	b := &backend{addr: inner.Addr().String()}
	if cfg.Policy == nil {
		policy, err := proxyproto.ParseTrust(proxies.Proxy)
		require.NoError(t, err)
		cfg.Policy = policy
	}
	if cfg.HeaderTimeout == 0 {
		cfg.HeaderTimeout = proxies.Timeout // a busy machine isn't what is tested here
	}
	cfg.OnDrop = func(peer proxyproto.Peer, drop *proxyproto.DropError) { b.note("dropped %v: %v", peer, drop) }
	ln, err := proxyproto.NewListener(inner, &cfg)
	require.NoError(t, err)
	b.Listener = ln
	t.Cleanup(func() {
		ln.Close()
		b.mu.Lock()
		defer b.mu.Unlock()
		if n := len(b.noted); n > 0 {
			t.Errorf("the first of %d things that went wrong at the backend:\n%s", n, firstLines(b.noted))
		}
	})
	return b
}

func (b *backend) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.noted = append(b.noted, fmt.Sprintf(format, args...))
}

// Write notes what is written, so that a backend can be the destination of an ErrorLog.
func (b *backend) Write(p []byte) (int, error) {
	b.note("ErrorLog: %s", bytes.TrimSpace(p))
	return len(p), nil
}

// serveHTTP serves ln, which is the backend's Listener or something around it, until the test ends.
func (b *backend) serveHTTP(t *testing.T, ln net.Listener, srv *http.Server) {
	t.Helper()
	srv.ErrorLog = log.New(b, "", 0)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Close()
		assert.ErrorIs(t, <-served, http.ErrServerClosed)
	})
}

// serveConns calls handle for each connection of ln until the test ends. What handle returns is
// sent to the client, or noted if it is an error.
func (b *backend) serveConns(t *testing.T, ln net.Listener, handle func(c net.Conn) (string, error)) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				b.note("Accept: %v", err)
				return
			}
			wg.Go(func() {
				defer c.Close()
				answer, err := handle(c)
				if err == nil {
					_, err = io.WriteString(c, answer)
				}
				if err != nil {
					b.note("%v: %v", c.RemoteAddr(), err)
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
}

// pair is how the server names a connection, and what the client compares with its own.
func pair(client, server net.Addr) string {
	return fmt.Sprintf("%v -> %v", client, server)
}

// whoami answers each client by its own address, and by the one that it connected to.
func whoami(w http.ResponseWriter, r *http.Request) {
	local := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	fmt.Fprintf(w, "%s -> %v", r.RemoteAddr, local)
}

// whoamiFromContext does so by the header that FromContext returns.
func whoamiFromContext(w http.ResponseWriter, r *http.Request) {
	h, ok := proxyproto.HeaderFromContext(r.Context())
	if !ok {
		http.Error(w, "no header in the context", http.StatusInternalServerError)
		return
	}
	if source := h.SourceAddr(); source == nil || source.String() != r.RemoteAddr {
		http.Error(w, fmt.Sprintf("header of %v, RemoteAddr %s", source, r.RemoteAddr), http.StatusInternalServerError)
		return
	}
	io.WriteString(w, pair(h.SourceAddr(), h.DestinationAddr()))
}

// whoamiConn does so for a server of plain connections.
func whoamiConn(c net.Conn) (string, error) {
	return pair(c.RemoteAddr(), c.LocalAddr()), nil
}

// askHTTP sends two requests over the connection and compares both answers.
func askHTTP(c net.Conn, want string) error {
	r := bufio.NewReader(c)
	for _, connection := range []string{"keep-alive", "close"} {
		_, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: interop.test\r\nConnection: %s\r\n\r\n", connection)
		if err != nil {
			return err
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return err
		}
		if err := checkResponse(resp, want); err != nil {
			return err
		}
	}
	return nil
}

func checkResponse(resp *http.Response, want string) error {
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	return same(string(body), want)
}

// askConn reads the answer of a server that speaks first.
func askConn(c net.Conn, want string) error {
	got, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	return same(string(got), want)
}

func same(got, want string) error {
	if got = strings.TrimSpace(got); got != want {
		return fmt.Errorf("the server saw %q, the client was %q", got, want)
	}
	return nil
}

// dialEach sends connections from many clients to addr; ask gets each one with what the server
// shall answer.
func dialEach(t *testing.T, what, addr string, ask func(c net.Conn, i int, want string) error) {
	t.Helper()
	dialSome(t, what, connections, addr, ask)
}

// dialSome is dialEach for n connections.
func dialSome(t *testing.T, what string, n int, addr string, ask func(c net.Conn, i int, want string) error) {
	t.Helper()
	each(t, what, n, concurrency, func(i int) (netip.Addr, error) {
		from := proxies.ClientAddr(i)
		c, err := proxies.DialFrom(from, addr)
		if err != nil {
			return from, err
		}
		defer c.Close()
		return from, ask(c, i, pair(c.LocalAddr(), c.RemoteAddr()))
	})
}

// each calls do for n connections, some at a time, and fails unless all of them were right.
func each(t *testing.T, what string, n, concurrency int, do func(i int) (from netip.Addr, err error)) {
	t.Helper()
	right, addrs := attempt(t, n, concurrency, do)
	t.Logf("%s: %d connections, %d right, %d client addresses", what, n, right, addrs)
}

// attempt calls do n times, some at a time, and returns how many were right, and from how many
// addresses. It fails the test if one was wrong, and doesn't go on after a few.
func attempt(t *testing.T, n, concurrency int, do func(i int) (from netip.Addr, err error)) (right, addresses int) {
	t.Helper()
	const tooMany = 8
	var (
		mu    sync.Mutex
		next  int
		wrong []string
		addrs = map[netip.Addr]bool{}
		wg    sync.WaitGroup
	)
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1, next <= n && len(wrong) < tooMany
	}
	for range concurrency {
		wg.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				from, err := do(i)
				mu.Lock()
				addrs[from] = true
				if err == nil {
					right++
				} else {
					wrong = append(wrong, fmt.Sprintf("connection %d from %v: %v", i, from, err))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(wrong) > 0 {
		t.Errorf("the first of %d that went wrong:\n%s", len(wrong), firstLines(wrong))
	}
	return right, len(addrs)
}

func firstLines(all []string) string { return strings.Join(all[:min(5, len(all))], "\n") }

// accepted checks that the backend has accepted exactly the clients' connections, with headers of
// this version, and dropped none.
func (b *backend) accepted(t *testing.T, version proxyproto.Version, n int) {
	t.Helper()
	s := b.Stats()
	want := map[proxyproto.Version]uint64{version: uint64(n)}
	assert.Equal(t, want[proxyproto.V1], s.V1, "v1 headers")
	assert.Equal(t, want[proxyproto.V2], s.V2, "v2 headers")
	assert.Equal(t, uint64(n), s.Accepted, "accepted")
	assert.Zero(t, s.TotalDropped(), "dropped")
	assert.Zero(t, s.Bare+s.Ignored+s.Skipped, "without a header")
}
