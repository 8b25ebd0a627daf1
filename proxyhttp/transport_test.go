package proxyhttp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// newBackend serves each client its own address, by the header that came with the connection, and
// the TLVs in it.
func newBackend(t *testing.T, withTLS bool) *httptest.Server {
	t.Helper()
	ts := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, ok := proxyproto.FromContext(r.Context())
		if !ok {
			http.Error(w, "no header", http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "%s %v %s %v %x", r.Proto, h.Version, r.RemoteAddr, r.Context().Value(http.LocalAddrContextKey), []byte(h.TLVs))
	}))
	ln, err := proxyproto.NewListener(ts.Listener, &proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
	require.NoError(t, err)
	ts.Listener = ln
	ts.Config.ConnContext = proxyproto.ConnContext
	ts.EnableHTTP2 = true
	if withTLS {
		ts.StartTLS()
	} else {
		ts.Start()
	}
	t.Cleanup(ts.Close)
	return ts
}

// newProxy is a reverse proxy to the backend, over TLS and HTTP/2 if these are wanted.
func newProxy(t *testing.T, backend *httptest.Server, transport http.RoundTripper, withTLS bool) *httptest.Server {
	t.Helper()
	target, err := url.Parse(backend.URL)
	require.NoError(t, err)
	ts := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: transport,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	})
	ts.EnableHTTP2 = true
	if withTLS {
		ts.StartTLS()
	} else {
		ts.Start()
	}
	t.Cleanup(ts.Close)
	return ts
}

func headerV2(r *http.Request) (*proxyproto.Header, error) { return HeaderFor(r, proxyproto.V2) }

func newTransport(t *testing.T, base *http.Transport, header func(*http.Request) (*proxyproto.Header, error)) http.RoundTripper {
	t.Helper()
	transport, err := NewTransport(base, header)
	require.NoError(t, err)
	return transport
}

// client is a client of ts with an address of its own where the system has one for it. It keeps
// its connections alive.
func client(t *testing.T, ts *httptest.Server, i int) *http.Client {
	t.Helper()
	c := ts.Client()
	transport := c.Transport.(*http.Transport).Clone()
	if runtime.GOOS == "linux" {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 16, 0, byte(1+i))}}
		transport.DialContext = d.DialContext
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// get returns the answer, and the address of the connection that the request was sent on.
func get(t *testing.T, c *http.Client, url string) (answer, from string, reused bool) {
	t.Helper()
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		from, reused = info.Conn.LocalAddr().String(), info.Reused
	}})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", b)
	return string(b), from, reused
}

// Clients that keep their connections to the proxy alive, and send requests side by side, are
// always told their own address by the server behind it.
func TestClientsNeverShareAnAddress(t *testing.T) {
	used := http.DefaultTransport.(*http.Transport).Clone()
	for _, test := range []struct {
		name              string
		base              *http.Transport
		clientTLS, srvTLS bool
	}{
		{"default", nil, false, false},
		{"TLS and HTTP/2 from the clients", nil, true, false},
		{"TLS to the server", &http.Transport{ForceAttemptHTTP2: true}, false, true},
		{"transport that has spoken HTTP/2", used, true, true},
		{"one connection at a time", &http.Transport{MaxConnsPerHost: 1}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			backend := newBackend(t, test.srvTLS)
			base := test.base
			if test.srvTLS {
				base.TLSClientConfig = backend.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
				base.TLSClientConfig.NextProtos = []string{"h2", "http/1.1"}
			}
			proxy := newProxy(t, backend, newTransport(t, base, headerV2), test.clientTLS)
			var wg sync.WaitGroup
			for i := range 4 {
				c := client(t, proxy, i)
				for range 3 {
					wg.Go(func() {
						var keptAlive int
						for range 6 {
							answer, from, reused := get(t, c, proxy.URL)
							want := fmt.Sprintf("HTTP/1.1 v2 %s %s ", from, proxy.Listener.Addr())
							assert.Equal(t, want, answer)
							if reused {
								keptAlive++
							}
						}
						assert.NotZero(t, keptAlive)
					})
				}
			}
			wg.Wait()
		})
	}
}

// What the transport is there to prevent: with a Dialer in an ordinary one, a client is given
// another's address.
func TestOrdinaryTransportMixesClients(t *testing.T) {
	backend := newBackend(t, false)
	d := proxyproto.Dialer{Header: func(ctx context.Context, _, _ string) (*proxyproto.Header, error) {
		return headerV2(ctx.Value(http.ServerContextKey).(*http.Request))
	}}
	ordinary := &http.Transport{DialContext: d.DialContext}
	defer ordinary.CloseIdleConnections()
	proxy := newProxy(t, backend, roundTripFunc(func(r *http.Request) (*http.Response, error) {
		return ordinary.RoundTrip(r.WithContext(context.WithValue(r.Context(), http.ServerContextKey, r)))
	}), false)
	clients := []*http.Client{client(t, proxy, 0), client(t, proxy, 1)}
	for i := 0; ; i++ {
		answer, from, _ := get(t, clients[i%2], proxy.URL)
		if !strings.Contains(answer, from) {
			return
		}
		require.Less(t, i, 1000, "the clients were never mixed up")
	}
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A chain of proxies: the first one's header is passed on with its TLVs.
func TestTLVsArePassedOn(t *testing.T) {
	backend := newBackend(t, false)
	proxy := httptest.NewUnstartedServer(nil)
	ln, err := proxyproto.NewListener(proxy.Listener, &proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
	require.NoError(t, err)
	proxy.Listener = ln
	target, err := url.Parse(backend.URL)
	require.NoError(t, err)
	proxy.Config.Handler = &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: newTransport(t, nil, headerV2),
	}
	proxy.Config.ConnContext = proxyproto.ConnContext
	proxy.Start()
	defer proxy.Close()

	for name, test := range map[string]struct {
		h    proxyproto.Header
		want string // the client's address and TLVs; empty for the connection's own
	}{
		"client": {proxyproto.Header{
			Version: proxyproto.V2, Command: proxyproto.Proxy, Protocol: proxyproto.TCP4,
			Source:      netip.MustParseAddrPort("192.0.2.7:56324"),
			Destination: netip.MustParseAddrPort("198.51.100.1:443"),
			TLVs:        proxyproto.TLVs("\x05\x00\x02id\x04\x00\x00"),
		}, "192.0.2.7:56324 198.51.100.1:443 0500026964"},
		"LOCAL": {proxyproto.Header{Version: proxyproto.V2}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := proxyproto.Dialer{Header: func(context.Context, string, string) (*proxyproto.Header, error) { return &test.h, nil }}
			c := &http.Client{Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}}
			answer, from, _ := get(t, c, "http://"+proxy.Listener.Addr().String())
			if test.want == "" {
				test.want = fmt.Sprintf("%s %s ", from, proxy.Listener.Addr())
			}
			assert.Equal(t, "HTTP/1.1 v2 "+test.want, answer)
		})
	}
}

// A connection that is upgraded goes on as the client's own.
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
	proxy := newProxy(t, backend, newTransport(t, nil, headerV2), false)
	c, err := net.Dial("tcp", proxy.Listener.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	require.NoError(t, err)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, c.LocalAddr().String()+"\n", line)
	_, err = io.WriteString(c, "and back\n")
	require.NoError(t, err)
	line, err = r.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "and back\n", line)
}

func TestHeaderFunctionDecides(t *testing.T) {
	backend := newBackend(t, false)
	local := newTransport(t, nil, func(*http.Request) (*proxyproto.Header, error) {
		return &proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Local}, nil
	})
	answer, _, _ := get(t, &http.Client{Transport: local}, backend.URL)
	assert.Contains(t, answer, "HTTP/1.1 v2 127.0.0.1:")

	failure := errors.New("not this one")
	for name, header := range map[string]func(*http.Request) (*proxyproto.Header, error){
		"error":   func(*http.Request) (*proxyproto.Header, error) { return nil, failure },
		"nothing": func(*http.Request) (*proxyproto.Header, error) { return nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			base := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				assert.Fail(t, "a connection was made")
				return nil, failure
			}}
			body := &closeNoted{Reader: strings.NewReader("body")}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, backend.URL, body)
			require.NoError(t, err)
			_, err = newTransport(t, base, header).RoundTrip(req)
			require.Error(t, err)
			if name == "error" {
				assert.ErrorIs(t, err, failure)
			} else {
				assert.ErrorContains(t, err, "no header")
			}
			assert.True(t, body.closed)
		})
	}
}

type closeNoted struct {
	io.Reader
	closed bool
}

func (c *closeNoted) Close() error {
	c.closed = true
	return nil
}

// A request of the program's own has no client, and isn't sent under the proxy's address unasked.
func TestHeaderForRequestWithoutClient(t *testing.T) {
	backend := newBackend(t, false)
	_, err := (&http.Client{Transport: newTransport(t, nil, headerV2)}).Get(backend.URL)
	assert.ErrorContains(t, err, "it isn't a server's request")

	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r = r.WithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80})))
	r.RemoteAddr = "192.0.2.7" // as some middleware writes it
	_, err = HeaderFor(r, proxyproto.V1)
	assert.ErrorContains(t, err, "RemoteAddr")
	r.RemoteAddr = "[fe80::7%eth0]:1"
	h, err := HeaderFor(r, proxyproto.V1)
	require.NoError(t, err)
	assert.Equal(t, "v1 PROXY TCP6 [fe80::7]:1 -> 127.0.0.1:80", h.String())

	r = r.WithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, net.Addr(&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443})))
	r.RemoteAddr = "192.0.2.7:1" // HTTP/3
	h, err = HeaderFor(r, proxyproto.V2)
	require.NoError(t, err)
	assert.Equal(t, "v2 PROXY UDP4 192.0.2.7:1 -> 127.0.0.1:443", h.String())
}

func TestClientsOfUnixSocket(t *testing.T) {
	backend := newBackend(t, false)
	proxy := newProxy(t, backend, newTransport(t, nil, headerV2), false)
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	go proxy.Config.Serve(ln)
	defer ln.Close()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", ln.Addr().String())
	}}}
	defer c.CloseIdleConnections()
	answer, _, _ := get(t, c, "http://x/")
	assert.Contains(t, answer, "HTTP/1.1 v2 127.0.0.1:") // the proxy's own: the header was LOCAL
}

func TestBaseIsRespected(t *testing.T) {
	backend := newBackend(t, false)
	dialed := 0
	base := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			dialed++
			return new(net.Dialer).DialContext(ctx, network, address)
		},
		Proxy: func(*http.Request) (*url.URL, error) { return url.Parse("http://127.0.0.1:1") },
	}
	proxy := newProxy(t, backend, newTransport(t, base, headerV2), false)
	for i := range 3 {
		get(t, client(t, proxy, 0), proxy.URL)
		assert.Equal(t, i+1, dialed)
	}
	assert.False(t, base.DisableKeepAlives)
	assert.Nil(t, base.Protocols)
}

func TestNewTransportRefuses(t *testing.T) {
	dial := func(string, string) (net.Conn, error) { return nil, nil }
	dialContext := func(context.Context, string, string) (net.Conn, error) { return nil, nil }
	for name, base := range map[string]*http.Transport{
		"Dial":           {Dial: dial},
		"DialTLS":        {DialTLS: dial},
		"DialTLSContext": {DialTLSContext: dialContext},
	} {
		_, err := NewTransport(base, headerV2)
		assert.ErrorContains(t, err, "the header would be left out", name)
	}
	_, err := NewTransport(nil, nil)
	assert.ErrorContains(t, err, "function")

	standard := http.DefaultTransport
	http.DefaultTransport = roundTripFunc(nil)
	defer func() { http.DefaultTransport = standard }()
	_, err = NewTransport(nil, headerV2)
	assert.ErrorContains(t, err, "http.DefaultTransport")
}

// Programs that speak no HTTP shall not link it: that is what this package is for.
func TestRootDoesNotLinkHTTP(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "..").Output()
	require.NoError(t, err)
	assert.NotContains(t, strings.Fields(string(out)), "net/http")
}
