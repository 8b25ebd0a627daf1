package interop

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
	"github.com/seed2e8fe8ee/proxyproto/proxyhttp"
)

// A Go proxy behind package clientip tells the next server of each client with a PROXY header, in
// whichever way it has learned of it. Where a field named the client, nothing is said of it that
// came with the HTTP proxy's own connection.
func TestClientIPProxyHTTP(t *testing.T) {
	last := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, _ := proxyproto.HeaderFromContext(r.Context())
		fmt.Fprintf(w, "%s %d bytes of TLVs", r.RemoteAddr, len(h.TLVs))
	}))
	ln, err := proxyproto.NewListener(last.Listener,
		&proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
	require.NoError(t, err)
	last.Listener = ln
	last.Config.ConnContext = proxyproto.ConnContext
	last.Start()
	defer last.Close()
	target, err := url.Parse(last.URL)
	require.NoError(t, err)
	transport, err := proxyhttp.NewTransport(nil, func(r *http.Request) (*proxyproto.Header, error) {
		return proxyhttp.HeaderFor(r, proxyproto.V2)
	})
	require.NoError(t, err)
	defer transport.CloseIdleConnections()
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: transport}
	list := startChainServer(t, "X-Forwarded-For", proxy)
	forwarded := startChainServer(t, "Forwarded", proxy)
	p := startChainProxies(t, list, forwarded)
	for _, test := range []struct {
		name, addr string
		inField    bool
	}{
		{"nginx stream, PROXY", p.l4, false},
		{"nginx stream, PROXY -> nginx http, X-Forwarded-For", p.l4ToL7, true},
		{"nginx http, X-Forwarded-For -> nginx stream, PROXY", p.cdn, true},
		{"HAProxy, X-Forwarded-For", p.haXFF, true},
		{"HAProxy, Forwarded", p.haForwarded, true},
		{"HAProxy, PROXY and X-Forwarded-For", p.haBoth, false},
		{"HAProxy, PROXY and X-Forwarded-For, HTTP/2", p.haBothH2, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					c, err := proxies.Dial(i, test.addr)
					if !assert.NoError(t, err) {
						return
					}
					defer c.Close()
					remote := netip.MustParseAddrPort(c.LocalAddr().String())
					if test.inField {
						remote = netip.AddrPortFrom(remote.Addr(), 0)
					}
					answer, err := askForged(c)
					assert.NoError(t, err)
					assert.Equal(t, fmt.Sprintf("%v 0 bytes of TLVs", remote), answer)
				})
			}
			wg.Wait()
		})
	}
}
