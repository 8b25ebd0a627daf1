package clientip

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// said is what a handler knows of its client.
type said struct {
	RemoteAddr string
	Addr       netip.Addr
	Scheme     string
	Client     Client
	Header     http.Header
}

// say answers with what it knows.
var say = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	client, _ := ClientFromContext(r.Context())
	addr, ok := FromContext(r.Context())
	if ok != addr.IsValid() {
		panic("FromContext's results contradict each other")
	}
	s := said{r.RemoteAddr, addr, Scheme(r.Context()), *client, r.Header}
	json.NewEncoder(w).Encode(map[string]any{
		"RemoteAddr": s.RemoteAddr, "Addr": s.Addr, "Scheme": s.Scheme, "Header": s.Header,
		"Client": map[string]any{
			"Addr": client.Addr, "Found": int(client.Found), "Proxied": client.Proxied,
			"Problem": int(client.Problem), "Proxies": client.Proxies,
		},
	})
})

func prefixes(t testing.TB, texts ...string) []netip.Prefix {
	t.Helper()
	p, err := proxyproto.ParsePrefixes(texts...)
	require.NoError(t, err)
	return p
}

func newHandler(t testing.TB, next http.Handler, cfg *Config) http.Handler {
	t.Helper()
	h, err := NewHandler(next, cfg)
	require.NoError(t, err)
	return h
}

// serve serves the handler on ln until the test ends.
func serve(t *testing.T, ln net.Listener, h http.Handler) {
	t.Helper()
	srv := &http.Server{Handler: h, ConnContext: proxyproto.ConnContext}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Close()
		assert.ErrorIs(t, <-done, http.ErrServerClosed)
	})
}

// listen makes a Listener of the library on loopback that takes a header from everybody who sends
// one.
func listen(t *testing.T, network, address string, lazy bool) net.Listener {
	t.Helper()
	ln, err := proxyproto.Listen(network, address, &proxyproto.Config{
		Policy: proxyproto.Always(proxyproto.Optional), Lazy: lazy,
	})
	require.NoError(t, err)
	return ln
}

// ask sends a request over a connection of its own, with the bytes of a PROXY header before it.
func ask(t *testing.T, addr net.Addr, before string, fields ...string) (s said) {
	t.Helper()
	c, err := net.Dial(addr.Network(), addr.String())
	require.NoError(t, err)
	defer c.Close()
	return askOn(t, c, before, fields...)
}

// dialFrom connects from an address of loopback.
func dialFrom(t *testing.T, from string, addr net.Addr) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", addr.String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func askOn(t *testing.T, c net.Conn, before string, fields ...string) (s said) {
	t.Helper()
	lines := strings.Join(append(fields, "", ""), "\r\n")
	_, err := io.WriteString(c, before+"GET / HTTP/1.1\r\nHost: example.com\r\n"+lines)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, string(body))
	require.NoError(t, json.Unmarshal(body, &s), string(body))
	_, err = netip.ParseAddrPort(s.RemoteAddr)
	require.NoError(t, err, "RemoteAddr is %q", s.RemoteAddr)
	return s
}

func line(source string) string {
	return "PROXY TCP4 " + source + " 198.51.100.1 51234 443\r\n"
}

// tlsHeader is a version 2 header for a client with an SSL TLV.
func tlsHeader(t *testing.T, source string, flags proxyproto.ClientFlags) string {
	t.Helper()
	tlvs, err := proxyproto.SSL{Client: flags, Verify: proxyproto.Unverified}.AppendTo(nil)
	require.NoError(t, err)
	h := proxyproto.Header{
		Version: proxyproto.V2, Command: proxyproto.Proxy, Protocol: proxyproto.TCP4,
		Source:      netip.AddrPortFrom(netip.MustParseAddr(source), 51234),
		Destination: netip.MustParseAddrPort("198.51.100.1:443"), TLVs: tlvs,
	}
	b, err := h.AppendTo(nil)
	require.NoError(t, err)
	return string(b)
}

const (
	xff   = "X-Forwarded-For: "
	xfp   = "X-Forwarded-Proto: "
	forge = "203.0.113.66"
)

// One server takes all of them: direct clients, HTTP proxies, PROXY, and both in order.
func TestWays(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0", false)
	serve(t, ln, newHandler(t, say, &Config{
		Trust: prefixes(t, "10.0.0.0/8", "::ffff:127.0.0.2"), Field: "x-forwarded-for",
	}))
	local := strings.Replace(tlsHeader(t, "192.0.2.7", proxyproto.ClientSSL), "\x21\x11",
		"\x20\x11", 1)
	for _, test := range []struct {
		name, from, before string
		fields             []string
		addr, remote       string
		scheme             string
		client             Client
	}{
		{"a client itself", "127.0.0.1", "", []string{xff + forge, xfp + "https"},
			"127.0.0.1", "", "http", Client{Found: FoundConnection}},
		{"an HTTP proxy", "127.0.0.2", "", []string{xff + forge + ", 192.0.2.7", xfp + "https"},
			"192.0.2.7", "192.0.2.7:0", "https", Client{Found: FoundField, Proxied: true,
				Proxies: addrs("127.0.0.2")}},
		{"two HTTP proxies, over lines", "127.0.0.2", "",
			[]string{xff + forge, xff + "[2001:db8::7]:99", xff + "10.0.0.9"}, "2001:db8::7",
			"[2001:db8::7]:99", "http",
			Client{Found: FoundField, Proxied: true, Proxies: addrs("127.0.0.2", "10.0.0.9")}},
		{"an HTTP proxy for itself", "127.0.0.2", "", []string{xfp + "https"},
			"127.0.0.2", "", "https", Client{Found: FoundConnection, Proxied: true,
				Problem: ProblemMissing}},
		{"an HTTP proxy that hides", "127.0.0.2", "",
			[]string{xff + "192.0.2.7, unknown, 10.0.0.9"}, "10.0.0.9", "10.0.0.9:0", "http",
			Client{Found: FoundField, Proxied: true, Problem: ProblemNoAddress,
				Proxies: addrs("127.0.0.2")}},
		{"PROXY", "127.0.0.1", line("192.0.2.7"), []string{xff + forge, xfp + "https"},
			"192.0.2.7", "192.0.2.7:51234", "http", Client{Found: FoundHeader}},
		{"PROXY names a CDN", "127.0.0.1", line("10.0.0.2"),
			[]string{xff + forge + ",192.0.2.7", xfp + "https"}, "192.0.2.7", "192.0.2.7:0",
			"https", Client{Found: FoundField, Proxied: true, Proxies: addrs("10.0.0.2")}},
		{"both from one proxy", "127.0.0.2", line("192.0.2.7"),
			[]string{xff + forge, xfp + "https"}, "192.0.2.7", "192.0.2.7:51234", "https",
			Client{Found: FoundHeader, Proxied: true, Proxies: addrs("127.0.0.2")}},
		{"UNKNOWN from an HTTP proxy", "127.0.0.2", "PROXY UNKNOWN\r\n",
			[]string{xff + "192.0.2.7"}, "192.0.2.7", "192.0.2.7:0", "http",
			Client{Found: FoundField, Proxied: true, Proxies: addrs("127.0.0.2")}},
		{"UNKNOWN from another", "127.0.0.1", "PROXY UNKNOWN\r\n", []string{xff + "192.0.2.7"},
			"127.0.0.1", "", "http", Client{Found: FoundConnection}},
		{"a header says TLS", "127.0.0.1", tlsHeader(t, "192.0.2.7", proxyproto.ClientSSL), nil,
			"192.0.2.7", "192.0.2.7:51234", "https", Client{Found: FoundHeader}},
		{"a header says none", "127.0.0.1", tlsHeader(t, "192.0.2.7", 0), []string{xfp + "https"},
			"192.0.2.7", "192.0.2.7:51234", "http", Client{Found: FoundHeader}},
		{"LOCAL says nothing", "127.0.0.1", local, nil,
			"127.0.0.1", "", "http", Client{Found: FoundConnection}},
		{"two protocols are none", "127.0.0.2", "", []string{xff + "192.0.2.7", xfp + "https",
			xfp + "https"}, "192.0.2.7", "192.0.2.7:0", "http",
			Client{Found: FoundField, Proxied: true, Proxies: addrs("127.0.0.2")}},
		{"a list of protocols is none", "127.0.0.2", "",
			[]string{xff + "192.0.2.7", xfp + "https, https"}, "192.0.2.7", "192.0.2.7:0", "http",
			Client{Found: FoundField, Proxied: true, Proxies: addrs("127.0.0.2")}},
		{"a WebSocket behind Traefik", "127.0.0.2", "", []string{xff + "192.0.2.7", xfp + "wss"},
			"192.0.2.7", "192.0.2.7:0", "https", Client{Found: FoundField, Proxied: true,
				Proxies: addrs("127.0.0.2")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := dialFrom(t, test.from, ln.Addr())
			s := askOn(t, c, test.before, test.fields...)
			if test.remote == "" {
				test.remote = c.LocalAddr().String()
			}
			assert.Equal(t, test.remote, s.RemoteAddr)
			assert.Equal(t, test.addr, s.Addr.String())
			test.client.Addr = s.Addr
			if test.client.Proxies == nil {
				test.client.Proxies = []netip.Addr{}
			}
			assert.Equal(t, test.client, s.Client)
			assert.Equal(t, test.scheme, s.Scheme)
		})
	}
}

func addrs(texts ...string) (all []netip.Addr) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

// RemoteAddr is the proxy's when a lazy connection is accepted, and stays so: the header counts.
func TestLazy(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0", true)
	serve(t, ln, newHandler(t, say, &Config{Trust: prefixes(t, "127.0.0.1"),
		Field: "X-Forwarded-For"}))
	s := ask(t, ln.Addr(), line("192.0.2.7"), xff+forge)
	assert.Equal(t, "192.0.2.7:51234", s.RemoteAddr)
	assert.Equal(t, FoundHeader, s.Client.Found)
}

// Without ConnContext the address is right all the same.
func TestWithoutConnContext(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0", false)
	srv := &http.Server{Handler: newHandler(t, say,
		&Config{Trust: prefixes(t, "10.0.0.2"), Field: "X-Forwarded-For"})}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	assert.Equal(t, "192.0.2.7:51234", ask(t, ln.Addr(), line("192.0.2.7"), xff+forge).RemoteAddr)
	assert.Equal(t, "192.0.2.7:0", ask(t, ln.Addr(), line("10.0.0.2"), xff+"192.0.2.7").RemoteAddr)
}

func TestUnix(t *testing.T) {
	for _, trusted := range []bool{false, true} {
		t.Run(fmt.Sprint(trusted), func(t *testing.T) {
			ln := listen(t, "unix", filepath.Join(t.TempDir(), "s"), false)
			cfg := &Config{Trust: []netip.Prefix{}, Field: "X-Forwarded-For", Unix: trusted,
				Rewrite: true}
			serve(t, ln, newHandler(t, say, cfg))

			s := ask(t, ln.Addr(), "", xff+forge+", 192.0.2.7", xfp+"https")
			if trusted {
				assert.Equal(t, "192.0.2.7:0", s.RemoteAddr)
				assert.Equal(t, "https", s.Scheme)
				assert.Equal(t, []string{"192.0.2.7"}, s.Header["X-Forwarded-For"])
			} else {
				assert.Equal(t, "0.0.0.0:0", s.RemoteAddr)
				assert.False(t, s.Addr.IsValid())
				assert.Equal(t, FoundNowhere, s.Client.Found)
				assert.Equal(t, "http", s.Scheme)
				assert.Empty(t, s.Header)
			}
			assert.Equal(t, trusted, s.Client.Proxied)

			s = ask(t, ln.Addr(), "", xff+"garbage")
			assert.Equal(t, "0.0.0.0:0", s.RemoteAddr, "nobody has been named")
			assert.Empty(t, s.Header)

			s = ask(t, ln.Addr(), line("192.0.2.7"), xff+forge, xfp+"https")
			assert.Equal(t, "192.0.2.7:51234", s.RemoteAddr)
			assert.Equal(t, trusted, s.Client.Proxied, "the socket's peer speaks both")

			unix := proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Proxy,
				Protocol: proxyproto.UnixStream, Unix: new(proxyproto.UnixAddrs)}
			b, err := unix.AppendTo(nil)
			require.NoError(t, err)
			s = ask(t, ln.Addr(), string(b), xff+forge)
			assert.Equal(t, "0.0.0.0:0", s.RemoteAddr, "a client on somebody else's Unix socket "+
				"isn't a proxy")
			assert.Equal(t, FoundNowhere, s.Client.Found)
		})
	}
}

// HTTP/2, over TLS and in the clear, has the connection's context too.
func TestHTTP2(t *testing.T) {
	h := newHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, _ := ClientFromContext(r.Context())
		fmt.Fprintf(w, "%s %s %s %v", r.Proto, r.RemoteAddr, Scheme(r.Context()), client.Found)
	}), &Config{Trust: prefixes(t, "10.0.0.2"), Field: "X-Forwarded-For"})
	for _, test := range []struct {
		tls                bool
		source, field, way string
	}{
		{true, "192.0.2.7", forge, "HTTP/2.0 192.0.2.7:51234 https PROXY header"},
		{true, "10.0.0.2", "192.0.2.8", "HTTP/2.0 192.0.2.8:0 https field"},
		{false, "192.0.2.7", forge, "HTTP/2.0 192.0.2.7:51234 http PROXY header"},
		{false, "10.0.0.2", "192.0.2.8", "HTTP/2.0 192.0.2.8:0 http field"},
	} {
		ts := httptest.NewUnstartedServer(h)
		ts.Listener = listen(t, "tcp", "127.0.0.1:0", false)
		ts.Config.ConnContext = proxyproto.ConnContext
		ts.Config.Protocols, ts.EnableHTTP2 = new(http.Protocols), true
		ts.Config.Protocols.SetUnencryptedHTTP2(true)
		ts.Config.Protocols.SetHTTP2(true)
		transport := &http.Transport{Protocols: new(http.Protocols)}
		if test.tls {
			ts.StartTLS()
			transport.Protocols.SetHTTP2(true)
			transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
		} else {
			ts.Start()
			transport.Protocols.SetUnencryptedHTTP2(true)
		}
		defer ts.Close()
		defer transport.CloseIdleConnections()
		transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				_, err = io.WriteString(c, line(test.source))
			}
			return c, err
		}
		req, err := http.NewRequest("GET", ts.URL, nil)
		require.NoError(t, err)
		req.Header.Set("X-Forwarded-For", test.field)
		for range 2 {
			resp, err := transport.RoundTrip(req)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			resp.Body.Close()
			assert.Equal(t, test.way, string(body))
		}
	}
}

// unixContext is the context of a request that came by a Unix socket.
func unixContext(t *testing.T) context.Context {
	return context.WithValue(t.Context(), http.LocalAddrContextKey,
		net.Addr(&net.UnixAddr{Name: "/s", Net: "unix"}))
}
