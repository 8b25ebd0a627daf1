package senders

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/built"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// startCaddy starts a Caddy that listens on an address and passes requests on to the backend, as
// docs/deploy.md has it, in a version that it speaks or, for 0, without PROXY; more goes into the
// reverse_proxy block.
func startCaddy(t testing.TB, listen, backend string, version proxyproto.Version,
	more string) *proxies.Process {
	t.Helper()
	path, err := built.Caddy("caddy", os.Stderr)
	require.NoError(t, err)
	host, port, err := net.SplitHostPort(listen)
	require.NoError(t, err)
	block := deployBlock(t)
	proxyProtocol := ""
	if version != 0 {
		proxyProtocol = "proxy_protocol " + version.String()
	}
	for from, to := range map[string]string{
		"10.0.0.20:8080":     backend,
		"proxy_protocol v2":  proxyProtocol,
		"\n\ttransport http": "\n\t" + more + "\n\ttransport http",
	} {
		require.Equal(t, 1, strings.Count(block, from), "%q in docs/deploy.md:\n%s", from, block)
		block = strings.Replace(block, from, to, 1)
	}
	dir := proxies.Dir(t, map[string]string{"Caddyfile": fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
}
http://:%s {
	bind %s
	%s
}
`, port, host, block)})
	return proxies.Start(t, proxies.Spec{
		Program: "caddy",
		Path:    path,
		Args:    []string{"run", "--config", "Caddyfile", "--adapter", "caddyfile"},
		Env:     []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir},
		Dir:     dir,
		Ready:   proxies.Dials("tcp", listen),
	})
}

// deployBlock returns the reverse_proxy block of docs/deploy.md.
func deployBlock(t testing.TB) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/deploy.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(page), "```caddyfile\nreverse_proxy ")
	require.True(t, found, "docs/deploy.md has no reverse_proxy")
	block, _, found := strings.Cut(rest, "```\n")
	require.True(t, found)
	return "reverse_proxy " + block
}

// The bytes that Caddy sends: port 0 and a destination of zeros, which Parse takes as they are.
func TestCaddyBytes(t *testing.T) {
	const signature = "\r\n\r\n\x00\r\nQUIT\n"
	zero4, zero6 := "\x00\x00\x00\x00", strings.Repeat("\x00", 16)
	for _, row := range []struct {
		listen  string
		client  netip.Addr
		version proxyproto.Version
		want    string
	}{
		{proxies.FreeAddr(t), netip.MustParseAddr("127.16.0.9"), proxyproto.V1,
			"PROXY TCP4 127.16.0.9 0.0.0.0 0 0\r\n"},
		{proxies.FreeAddr6(t), netip.IPv6Loopback(), proxyproto.V1, "PROXY TCP6 ::1 :: 0 0\r\n"},
		{proxies.FreeAddr(t), netip.MustParseAddr("127.16.0.9"), proxyproto.V2,
			signature + "\x21\x11\x00\x0c\x7f\x10\x00\x09" + zero4 + zero4},
		{proxies.FreeAddr6(t), netip.IPv6Loopback(), proxyproto.V2,
			signature + "\x21\x21\x00\x24" + zero6[1:] + "\x01" + zero6 + zero4},
	} {
		what := fmt.Sprintf("%v of %v", row.version, row.client)
		backend, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		got := make(chan string, 1)
		go func() {
			defer backend.Close()
			conn, err := backend.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(proxies.Timeout))
			b := make([]byte, len(row.want))
			n, _ := io.ReadFull(conn, b)
			got <- string(b[:n])
			http.ReadRequest(bufio.NewReader(conn))
			io.WriteString(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		}()
		startCaddy(t, row.listen, backend.Addr().String(), row.version, "")
		status, _ := get(t, client(row.client), row.listen)
		assert.Equal(t, http.StatusNoContent, status, what)
		sent := <-got
		assert.Equal(t, row.want, sent, what)
		h, n, err := proxyproto.Parse([]byte(sent))
		if assert.NoError(t, err, what) {
			assert.Equal(t, len(sent), n, what)
			assert.Equal(t, netip.AddrPortFrom(row.client, 0), h.Source, what)
			assert.True(t, h.Destination.Addr().IsUnspecified(), what)
			assert.Empty(t, h.TLVs, what)
		}
	}
}

// client returns an HTTP client with that address, who keeps its connection.
func client(addr netip.Addr) *http.Client {
	return &http.Client{Timeout: proxies.Timeout, Transport: &http.Transport{
		DialContext: func(_ context.Context, _, to string) (net.Conn, error) {
			return proxies.DialFrom(addr, to)
		},
	}}
}

func get(t *testing.T, c *http.Client, addr string) (status int, body string) {
	t.Helper()
	resp, err := c.Get("http://" + addr + "/")
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b)
}

// A server behind Caddy answers each client by its address.
type server struct {
	*proxyproto.Listener

	mu      sync.Mutex
	clients map[net.Conn]map[string]bool // who was served on each connection
	drops   []*proxyproto.DropError
}

type connKey struct{}

func startServer(t *testing.T) *server {
	t.Helper()
	s := &server{clients: map[net.Conn]map[string]bool{}}
	policy, err := proxyproto.ParseTrust(proxies.Proxy)
	require.NoError(t, err)
	s.Listener, err = proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{
		Policy:        policy,
		HeaderTimeout: proxies.Timeout,
		OnDrop: func(_ proxyproto.Peer, drop *proxyproto.DropError) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.drops = append(s.drops, drop)
		},
	})
	require.NoError(t, err)
	srv := &http.Server{
		Handler: s,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(s) }()
	t.Cleanup(func() {
		srv.Close()
		assert.ErrorIs(t, <-served, http.ErrServerClosed)
	})
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	conn := r.Context().Value(connKey{}).(net.Conn)
	if s.clients[conn] == nil {
		s.clients[conn] = map[string]bool{}
	}
	// The field is what Caddy knows of this request's client, whatever its connection said.
	s.clients[conn][r.Header.Get("X-Forwarded-For")] = true
	io.WriteString(w, r.RemoteAddr)
}

// Requests of many clients, kept alive on both sides: each is served under its client's address,
// and no connection carries two clients'.
func TestCaddyKeepsClientsApart(t *testing.T) {
	const clients, requests = 20, 10
	for _, version := range []proxyproto.Version{proxyproto.V1, proxyproto.V2} {
		t.Run(version.String(), func(t *testing.T) {
			s, listen := startServer(t), proxies.FreeAddr(t)
			// Passive checks, which docs/deploy.md says can be combined with PROXY.
			startCaddy(t, listen, s.Addr().String(), version, "fail_duration 10s")
			var all sync.WaitGroup
			for i := range clients {
				all.Go(func() {
					addr := proxies.ClientAddr(i)
					c := client(addr)
					defer c.CloseIdleConnections()
					for range requests {
						status, body := get(t, c, listen)
						assert.Equal(t, http.StatusOK, status)
						assert.Equal(t, addr.String()+":0", body)
					}
				})
			}
			all.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			assert.Empty(t, s.drops)
			assert.GreaterOrEqual(t, len(s.clients), clients, "connections")
			assert.Less(t, len(s.clients), clients*requests/2, "they are kept alive")
			for _, served := range s.clients {
				assert.Len(t, served, 1, "clients on one connection")
			}
			stats := s.Stats()
			assert.Equal(t, uint64(len(s.clients)), stats.V1+stats.V2, "headers")
		})
	}
}

// Caddy's active health checks have no client to name: they connect, send nothing, and fail, and
// so does every request that a client sends.
func TestCaddyActiveHealthChecks(t *testing.T) {
	for _, version := range []proxyproto.Version{proxyproto.V1, proxyproto.V2} {
		t.Run(version.String(), func(t *testing.T) {
			s, listen := startServer(t), proxies.FreeAddr(t)
			caddy := startCaddy(t, listen, s.Addr().String(), version,
				"health_uri /\n\thealth_interval 20ms")
			require.NoError(t, eventually(func() error {
				if n := s.Stats().Probes; n < 3 {
					return fmt.Errorf("%d probes", n)
				}
				return nil
			}))
			status, _ := get(t, client(proxies.ClientAddr(0)), listen)
			assert.Equal(t, http.StatusServiceUnavailable, status)
			assert.Contains(t, caddy.Logs(), "failed to get proxy protocol info from context")
			stats := s.Stats()
			assert.Zero(t, stats.V1+stats.V2+stats.Local)
			assert.Empty(t, stats.Dropped)
		})
	}
}

// eventually asks again and again until there is no error.
func eventually(ask func() error) error {
	for deadline := time.Now().Add(proxies.Timeout); ; time.Sleep(5 * time.Millisecond) {
		if err := ask(); err == nil || time.Now().After(deadline) {
			return errors.Join(err)
		}
	}
}
