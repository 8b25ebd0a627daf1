package proxyhttp

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// backend is a server that tells each client its own address, by the header that came with the
// connection, and the TLVs in it.
type backend struct {
	*httptest.Server
	*proxyproto.Listener
}

func newBackend(t testing.TB, withTLS bool) backend {
	t.Helper()
	ts := httptest.NewUnstartedServer(http.HandlerFunc(whoami))
	ln, err := proxyproto.NewListener(ts.Listener,
		&proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
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
	return backend{ts, ln}
}

func whoami(w http.ResponseWriter, r *http.Request) {
	h, ok := proxyproto.HeaderFromContext(r.Context())
	if !ok {
		http.Error(w, "no header", http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, "%s %v %s %v %x", r.Proto, h.Version, r.RemoteAddr,
		r.Context().Value(http.LocalAddrContextKey), []byte(h.TLVs))
}

// newProxy is a reverse proxy to the backend, over TLS and HTTP/2 if these are wanted.
func newProxy(t testing.TB, b backend, transport http.RoundTripper, withTLS bool) *httptest.Server {
	t.Helper()
	ts := httptest.NewUnstartedServer(reverseProxy(t, b, transport))
	if own, ok := transport.(*Transport); ok {
		ts.Config.ConnState = own.ConnState
	}
	ts.EnableHTTP2 = true
	if withTLS {
		ts.StartTLS()
	} else {
		ts.Start()
	}
	t.Cleanup(ts.Close)
	return ts
}

func reverseProxy(t testing.TB, b backend, transport http.RoundTripper) *httputil.ReverseProxy {
	t.Helper()
	target, err := url.Parse(b.URL)
	require.NoError(t, err)
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: transport,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
}

func headerV2(r *http.Request) (*proxyproto.Header, error) { return HeaderFor(r, proxyproto.V2) }

func newTransport(
	t testing.TB, base *http.Transport, header func(*http.Request) (*proxyproto.Header, error),
) *Transport {
	t.Helper()
	transport, err := NewTransport(base, header)
	require.NoError(t, err)
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// client is a client of ts with an address of its own where the system has one for it. It keeps
// its connections alive.
func client(t testing.TB, ts *httptest.Server, i int) *http.Client {
	t.Helper()
	c := ts.Client()
	transport := c.Transport.(*http.Transport).Clone()
	if runtime.GOOS == "linux" {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 16, byte(i>>8), byte(1+i))}}
		transport.DialContext = d.DialContext
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// get returns the answer, and the address of the connection that the request was sent on.
func get(t testing.TB, c *http.Client, url string) (answer, from string, reused bool) {
	t.Helper()
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			from, reused = info.Conn.LocalAddr().String(), info.Reused
		},
	})
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

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// headerOf is a function for a Transport that gives the same header to all requests.
func headerOf(h *proxyproto.Header, err error) func(*http.Request) (*proxyproto.Header, error) {
	return func(*http.Request) (*proxyproto.Header, error) { return h, err }
}

// assertMine checks that the server named the client's own addresses.
func assertMine(t testing.TB, proto, answer, from string, proxy *httptest.Server) {
	t.Helper()
	assert.Equal(t, fmt.Sprintf("%s v2 %s %s ", proto, from, proxy.Listener.Addr()), answer)
}
