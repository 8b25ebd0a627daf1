package proxyhttp

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/clientip"
)

// newFieldProxy is a reverse proxy to the backend, behind HTTP proxies at 127.0.0.1 and
// 198.51.100.8, which say in the field who their clients are. It takes PROXY or not.
func newFieldProxy(
	t *testing.T, b backend, transport *Transport, field string,
	between func(http.Handler) http.Handler,
) *httptest.Server {
	t.Helper()
	trust, err := proxyproto.ParsePrefixes("127.0.0.1", "198.51.100.8")
	require.NoError(t, err)
	handler, err := clientip.NewHandler(between(reverseProxy(t, b, transport)),
		&clientip.Config{Trust: trust, Field: field})
	require.NoError(t, err)
	ts := httptest.NewUnstartedServer(handler)
	ln, err := proxyproto.NewListener(ts.Listener,
		&proxyproto.Config{Policy: proxyproto.Always(proxyproto.Optional)})
	require.NoError(t, err)
	ts.Listener = ln
	ts.Config.ConnContext, ts.Config.ConnState = proxyproto.ConnContext, transport.ConnState
	ts.Start()
	t.Cleanup(ts.Close)
	return ts
}

// The client that package clientip has found in a field is the one that the next server learns of,
// and what the HTTP proxy's own connection came with isn't said of it.
func TestHeaderOfTheClientInAField(t *testing.T) {
	header := func(source string) *proxyproto.Header {
		return &proxyproto.Header{
			Version: proxyproto.V2, Command: proxyproto.Proxy, Protocol: proxyproto.TCP4,
			Source:      netip.MustParseAddrPort(source),
			Destination: netip.MustParseAddrPort("198.51.100.1:443"),
			TLVs:        proxyproto.TLVs("\x05\x00\x02id"),
		}
	}
	plain := func(next http.Handler) http.Handler { return next }
	changed := func(remote string) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.RemoteAddr = remote
				next.ServeHTTP(w, r)
			})
		}
	}
	const xff = "X-Forwarded-For"
	for _, test := range []struct {
		name, field, value string
		h                  *proxyproto.Header // that the connection begins with
		between            func(http.Handler) http.Handler
		want               string // without h, also the server's own address
	}{
		{"no port", xff, "203.0.113.7", nil, plain, "203.0.113.7:0 "},
		{"IPv6", xff, "2001:db8::7", nil, plain, "[2001:db8::7]:0 "},
		{"forged", xff, "192.0.2.66, 203.0.113.7", nil, plain, "203.0.113.7:0 "},
		{"a port", "Forwarded", `for="203.0.113.7:4711"`, nil, plain, "203.0.113.7:4711 "},
		{"PROXY names the HTTP proxy", xff, "203.0.113.7", header("198.51.100.8:1"), plain,
			"203.0.113.7:0 198.51.100.1:443 "},
		{"PROXY names the client", xff, "203.0.113.7", header("192.0.2.7:1"), plain,
			"192.0.2.7:1 198.51.100.1:443 0500026964"},
		{"no field", xff, "", header("198.51.100.8:1"), plain,
			"198.51.100.8:1 198.51.100.1:443 0500026964"},
		{"RemoteAddr is changed afterwards", xff, "203.0.113.7", nil, changed("192.0.2.99:5"),
			"203.0.113.7:0 "},
		{"RemoteAddr has no port afterwards", xff, "203.0.113.7", nil, changed("203.0.113.7"),
			"203.0.113.7:0 "},
	} {
		t.Run(test.name, func(t *testing.T) {
			backend := newBackend(t, false)
			proxy := newFieldProxy(t, backend, newTransport(t, nil, headerV2), test.field,
				test.between)
			c := &http.Client{Transport: http.DefaultTransport}
			if test.h != nil {
				c.Transport = newTransport(t, nil, headerOf(test.h, nil))
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, proxy.URL, nil)
			require.NoError(t, err)
			if test.value != "" {
				r.Header.Set(test.field, test.value)
			}
			resp, err := c.Do(r)
			require.NoError(t, err)
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			want := test.want
			if test.h == nil {
				want += proxy.Listener.Addr().String() + " "
			}
			assert.Equal(t, "HTTP/1.1 v2 "+want, string(b))
		})
	}
}

// A client that clientip doesn't know, on a Unix socket, isn't 0.0.0.0 to the next server.
func TestHeaderOfNobody(t *testing.T) {
	var got []string
	handler, err := clientip.NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, version := range []proxyproto.Version{proxyproto.V1, proxyproto.V2} {
			h, err := HeaderFor(r, version)
			require.NoError(t, err)
			got = append(got, h.String())
		}
	}), &clientip.Config{Trust: []netip.Prefix{}, Field: "X-Forwarded-For"})
	require.NoError(t, err)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey,
		&net.UnixAddr{Net: "unix", Name: "/run/s"}))
	r.RemoteAddr = "@"
	handler.ServeHTTP(httptest.NewRecorder(), r)
	assert.Equal(t, []string{"v1 PROXY UNSPEC", "v2 LOCAL UNSPEC"}, got)
}

// One HTTP proxy's connection carries the requests of many clients, and theirs come over several of
// its connections: each client has its own to the server, which outlive those.
func TestFieldClientsKeepTheirConnections(t *testing.T) {
	backend, conns := countedBackend(t, false)
	plain := func(next http.Handler) http.Handler { return next }
	proxy := newFieldProxy(t, backend, newTransport(t, nil, headerV2), "X-Forwarded-For", plain)
	for range 3 {
		inFront := &http.Client{Transport: &http.Transport{}}
		for range 4 {
			for _, ip := range []string{"203.0.113.7", "203.0.113.8", "203.0.113.9"} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, proxy.URL, nil)
				require.NoError(t, err)
				r.Header.Set("X-Forwarded-For", ip)
				resp, err := inFront.Do(r)
				require.NoError(t, err)
				b, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				resp.Body.Close()
				assert.Contains(t, string(b), " "+ip+":0 ")
			}
		}
		inFront.CloseIdleConnections()
	}
	_, made := conns.counts()
	assert.Equal(t, 3, made)
}
