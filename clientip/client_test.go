package clientip

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// Who may say how a client came, and in which field.
func TestScheme(t *testing.T) {
	var scheme string
	next := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		scheme = Scheme(r.Context())
	})
	list := newHandler(t, next, &Config{Trust: prefixes(t, "10.0.0.0/8"), Field: "X-Forwarded-For"})
	rfc := newHandler(t, next, &Config{Trust: prefixes(t, "10.0.0.0/8"), Field: "Forwarded"})
	for _, test := range []struct {
		name   string
		h      http.Handler
		remote string
		tls    bool
		header http.Header
		want   string
	}{
		{"TLS", list, "192.0.2.7:1", true, nil, "https"},
		{"a stranger can't deny it", list, "192.0.2.7:1", true,
			http.Header{"X-Forwarded-Proto": {"http"}}, "https"},
		{"nothing", list, "192.0.2.7:1", false, nil, "http"},
		{"a stranger's word", list, "192.0.2.7:1", false,
			http.Header{"X-Forwarded-Proto": {"https"}}, "http"},
		{"a proxy's word", list, "10.0.0.1:1", false, http.Header{"X-Forwarded-Proto": {" HTTPS "}},
			"https"},
		{"a proxy that encrypts what came in the clear", list, "10.0.0.1:1", true,
			http.Header{"X-Forwarded-Proto": {"http"}}, "http"},
		{"a proxy that says nothing, over TLS", list, "10.0.0.1:1", true, nil, "https"},
		{"a proxy's nonsense", list, "10.0.0.1:1", true,
			http.Header{"X-Forwarded-Proto": {"javascript"}}, "https"},
		{"the other field isn't read", list, "10.0.0.1:1", false,
			http.Header{"Forwarded": {"proto=https"}}, "http"},
		{"Forwarded", rfc, "10.0.0.1:1", false,
			http.Header{"Forwarded": {"for=192.0.2.7;proto=https"}}, "https"},
		{"Forwarded, the hop nearest to the client", rfc, "10.0.0.1:1", false,
			http.Header{"Forwarded": {"for=1.1.1.1;proto=http, for=192.0.2.7;proto=https,for=10.0.0.2;proto=http"}}, "https"},
		{"Forwarded, the client's own isn't", rfc, "10.0.0.1:1", false,
			http.Header{"Forwarded": {"for=1.1.1.1;proto=https, for=192.0.2.7;proto=http"}},
			"http"},
		{"Forwarded, a hidden client", rfc, "10.0.0.1:1", false,
			http.Header{"Forwarded": {"for=unknown;proto=https"}}, "https"},
		{"Forwarded, not X-Forwarded-Proto", rfc, "10.0.0.1:1", false,
			http.Header{"X-Forwarded-Proto": {"https"}}, "http"},
	} {
		r := &http.Request{RemoteAddr: test.remote, Header: test.header}
		if test.tls {
			r.TLS = new(tls.ConnectionState)
		}
		scheme = ""
		test.h.ServeHTTP(nil, r)
		assert.Equal(t, test.want, scheme, test.name)
	}
	assert.Equal(t, "http", Scheme(t.Context()))
}

// Who is nearest to the client says how it came, in every chain of proxies that there is.
func TestSchemeOfChains(t *testing.T) {
	const client, cdn = "192.0.2.7", "10.0.0.2"
	const stranger, httpProxy = "127.0.0.1", "127.0.0.2" // who holds the socket's other end
	cfg := &Config{Trust: prefixes(t, "10.0.0.0/8", httpProxy), Field: "X-Forwarded-For"}
	plain := listen(t, "tcp", "127.0.0.1:0", false)
	serve(t, plain, newHandler(t, say, cfg))
	encrypted := httptest.NewUnstartedServer(newHandler(t, say, cfg))
	encrypted.Listener = listen(t, "tcp", "127.0.0.1:0", false)
	encrypted.Config.ConnContext = proxyproto.ConnContext
	encrypted.StartTLS()
	defer encrypted.Close()

	byTLS := func(source string) string { return tlsHeader(t, source, proxyproto.ClientSSL) }
	notByTLS := func(source string) string { return tlsHeader(t, source, 0) }
	for _, test := range []struct {
		name, peer, header string
		tls                bool   // ours
		proto              string // X-Forwarded-Proto
		want               string
	}{
		{"a client itself", stranger, "", false, "https", "http"},
		{"a client itself, by TLS", stranger, "", true, "http", "https"},

		{"PROXY", stranger, line(client), false, "https", "http"},
		{"PROXY, and the client's TLS", stranger, line(client), true, "http", "https"},
		{"PROXY, TLS ends at the balancer", stranger, byTLS(client), false, "http", "https"},
		{"PROXY, TLS ends there and begins again", stranger, byTLS(client), true, "http", "https"},
		{"PROXY, no TLS", stranger, notByTLS(client), false, "https", "http"},
		{"PROXY, the client's TLS isn't the balancer's", stranger, notByTLS(client), true, "http",
			"https"},

		{"an HTTP proxy", httpProxy, "", false, "http", "http"},
		{"an HTTP proxy ends TLS", httpProxy, "", false, "https", "https"},
		{"an HTTP proxy encrypts what came in the clear", httpProxy, "", true, "http", "http"},
		{"an HTTP proxy ends TLS and begins it again", httpProxy, "", true, "https", "https"},
		{"an HTTP proxy doesn't say", httpProxy, "", false, "", "http"},
		{"an HTTP proxy encrypts and doesn't say", httpProxy, "", true, "", "https"},

		{"PROXY names a CDN", stranger, line(cdn), false, "http", "http"},
		{"PROXY names a CDN that ends TLS", stranger, line(cdn), false, "https", "https"},
		{"PROXY names a CDN that encrypts what came in the clear", stranger, line(cdn), true,
			"http", "http"},
		{"the same, and the balancer ends it", stranger, byTLS(cdn), false, "http", "http"},
		{"PROXY names a CDN that decrypts", stranger, notByTLS(cdn), false, "https", "https"},
		{"PROXY names a CDN that doesn't say", stranger, byTLS(cdn), false, "", "https"},
		{"the same, and its TLS passes the balancer", stranger, notByTLS(cdn), true, "", "https"},

		{"both from one proxy", httpProxy, line(client), false, "http", "http"},
		{"both, TLS ends there", httpProxy, line(client), false, "https", "https"},
		{"both, it encrypts what came in the clear", httpProxy, line(client), true, "http", "http"},
		{"both, it encrypts and says so in PROXY alone", httpProxy, notByTLS(client), true, "",
			"http"},
		{"both, it encrypts and doesn't say", httpProxy, line(client), true, "", "https"},
		{"both, it passes on the client's own word", httpProxy, byTLS(client), false, "http",
			"https"},
		{"both, it knows of a proxy before it", httpProxy, notByTLS(client), false, "https",
			"https"},
	} {
		t.Run(test.name, func(t *testing.T) {
			addr := plain.Addr()
			if test.tls {
				addr = encrypted.Listener.Addr()
			}
			c := dialFrom(t, test.peer, addr)
			_, err := io.WriteString(c, test.header)
			require.NoError(t, err)
			if test.tls {
				c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
			}
			fields := []string{xff + client}
			if test.proto != "" {
				fields = append(fields, xfp+test.proto)
			}
			assert.Equal(t, test.want, askOn(t, c, "", fields...).Scheme)
		})
	}
}
