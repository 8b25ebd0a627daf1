package proxyhttp

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// A chain of proxies: the first one's header is passed on with its TLVs, but for the ALPN, which
// is of the client's connection and not of this one.
func TestHeaderOfProxyInFront(t *testing.T) {
	backend := newBackend(t, false)
	ln, err := proxyproto.NewListener(listenTCP(t),
		&proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
	require.NoError(t, err)
	srv := &http.Server{
		Handler:     reverseProxy(t, backend, newTransport(t, nil, headerV2)),
		ConnContext: proxyproto.ConnContext,
	}
	go srv.Serve(ln)
	defer srv.Close()

	client := proxyproto.Header{
		Version: proxyproto.V2, Command: proxyproto.Proxy, Protocol: proxyproto.TCP4,
		Source:      netip.MustParseAddrPort("192.0.2.7:56324"),
		Destination: netip.MustParseAddrPort("198.51.100.1:443"),
		TLVs:        proxyproto.TLVs("\x01\x00\x02h2\x05\x00\x02id\x04\x00\x00\x01\x00\x02h3"),
	}
	udp := client
	udp.Protocol, udp.TLVs = proxyproto.UDP4, nil
	for name, test := range map[string]struct {
		h    proxyproto.Header
		want string // the client's address and TLVs; empty for the connection's own
	}{
		"client": {client, "192.0.2.7:56324 198.51.100.1:443 0500026964"},
		"UDP":    {udp, "192.0.2.7:56324 198.51.100.1:443 "},
		"LOCAL":  {proxyproto.Header{Version: proxyproto.V2}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := &http.Client{Transport: newTransport(t, nil, headerOf(&test.h, nil))}
			answer, from, _ := get(t, c, "http://"+ln.Addr().String())
			if test.want == "" {
				test.want = from + " " + ln.Addr().String() + " "
			}
			assert.Equal(t, "HTTP/1.1 v2 "+test.want, answer)
		})
	}
}

// A request of the program's own has no client, and isn't sent under the proxy's address unasked.
func TestHeaderForRequestWithoutClient(t *testing.T) {
	backend := newBackend(t, false)
	_, err := (&http.Client{Transport: newTransport(t, nil, headerV2)}).Get(backend.URL)
	assert.ErrorContains(t, err, "it isn't a server's request")
}

// namedAddr is a listener's address of a type of its own.
type namedAddr string

func (namedAddr) Network() string  { return "mine" }
func (a namedAddr) String() string { return string(a) }

func TestHeaderFor(t *testing.T) {
	tcp := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	udp := func(s string) net.Addr { return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	for _, test := range []struct {
		name   string
		remote string
		local  net.Addr
		v1, v2 string // or what the error says
	}{
		{"TCP", "192.0.2.7:1", tcp("127.0.0.1:443"),
			"v1 PROXY TCP4 192.0.2.7:1 -> 127.0.0.1:443", "v2 PROXY TCP4 192.0.2.7:1 -> 127.0.0.1:443"},
		{"HTTP/3", "192.0.2.7:1", udp("127.0.0.1:443"),
			"v1 PROXY TCP4 192.0.2.7:1 -> 127.0.0.1:443", "v2 PROXY TCP4 192.0.2.7:1 -> 127.0.0.1:443"},
		{"HTTP/3 over IPv6", "[2001:db8::7]:1", udp("[::1]:443"),
			"v1 PROXY TCP6 [2001:db8::7]:1 -> [::1]:443", "v2 PROXY TCP6 [2001:db8::7]:1 -> [::1]:443"},
		{"zone and mixed families", "[fe80::7%eth0]:1", tcp("127.0.0.1:80"),
			"v1 PROXY TCP6 [fe80::7]:1 -> 127.0.0.1:80", "v2 PROXY TCP6 [fe80::7]:1 -> 127.0.0.1:80"},
		{"an address of another type", "192.0.2.7:1", namedAddr("127.0.0.1:80"),
			"v1 PROXY TCP4 192.0.2.7:1 -> 127.0.0.1:80", "v2 PROXY TCP4 192.0.2.7:1 -> 127.0.0.1:80"},
		{"an address that is a name", "192.0.2.7:1", namedAddr("inside"),
			"v1 PROXY TCP4 192.0.2.7:1 -> 0.0.0.0:0", "v2 PROXY TCP4 192.0.2.7:1 -> 0.0.0.0:0"},
		{"a name, IPv6", "[2001:db8::7]:1", namedAddr("inside"),
			"v1 PROXY TCP6 [2001:db8::7]:1 -> [::]:0", "v2 PROXY TCP6 [2001:db8::7]:1 -> [::]:0"},
		{"a Unix socket", "@", &net.UnixAddr{Net: "unix", Name: "/run/s"},
			"v1 PROXY UNSPEC", "v2 LOCAL UNSPEC"},
		{"a pipe", "pipe", namedAddr("pipe"), "v1 PROXY UNSPEC", "v2 LOCAL UNSPEC"},
		{"no port", "192.0.2.7", tcp("127.0.0.1:80"), "RemoteAddr", "RemoteAddr"},
		{"no port on a Unix socket", "192.0.2.7", &net.UnixAddr{}, "RemoteAddr", "RemoteAddr"},
		{"nonsense", "unknown", tcp("127.0.0.1:80"), "RemoteAddr", "RemoteAddr"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(
				context.WithValue(t.Context(), http.LocalAddrContextKey, test.local), http.MethodGet, "/", nil)
			r.RemoteAddr = test.remote
			for version, want := range map[proxyproto.Version]string{
				proxyproto.V1: test.v1, proxyproto.V2: test.v2,
			} {
				h, err := HeaderFor(r, version)
				if err != nil {
					assert.ErrorContains(t, err, want)
					continue
				}
				assert.Equal(t, want, h.String())
				_, err = h.AppendTo(nil)
				assert.NoError(t, err)
			}
		})
	}
}

func TestClientsOfUnixSocket(t *testing.T) {
	backend := newBackend(t, false)
	proxy := newProxy(t, backend, newTransport(t, nil, headerV2), false)
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	go proxy.Config.Serve(ln)
	defer ln.Close()
	c := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", ln.Addr().String())
		},
	}}
	defer c.CloseIdleConnections()
	for range 2 {
		answer, _, _ := get(t, c, "http://x/")
		assert.Contains(t, answer, "HTTP/1.1 v2 127.0.0.1:") // the proxy's own: the header was LOCAL
	}
	resp, err := c.Post("http://x/", "text/plain", http.NoBody)
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	assert.NoError(t, err)
}
