package udp

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
	"github.com/seed2e8fe8ee/proxyproto/proxyhttp"
)

const frontName = "front.test"

// frontPatience is for a busy machine, which isn't what is tested here.
var frontPatience = &quic.Config{
	HandshakeIdleTimeout: proxies.Timeout, MaxIdleTimeout: proxies.Timeout,
}

// Servers that expect PROXY headers, and answer each request with the address that they take its
// client to have.
var webServers = map[string]func(t *testing.T, addr string){
	"HAProxy": func(t *testing.T, addr string) {
		proxies.StartHAProxy(t, fmt.Sprintf(`
frontend receiver
	mode http
	no log
	bind %s accept-proxy
	http-request return status 200 content-type text/plain lf-string "%%[src]"
`, addr), nil)
	},
	"nginx": func(t *testing.T, addr string) {
		proxies.StartNginxHTTP(t, fmt.Sprintf(`
	server {
		listen %s proxy_protocol;
		set_real_ip_from 127.0.0.0/8;
		real_ip_header proxy_protocol;
		location / { return 200 $remote_addr; }
	}
`, addr))
	},
	"varnish": func(t *testing.T, addr string) {
		proxies.StartVarnish(t, addr, `
sub vcl_recv { return (synth(200)); }
sub vcl_synth {
	set resp.body = "" + client.ip;
	return (deliver);
}
`)
	},
	"Apache": func(t *testing.T, addr string) {
		proxies.StartApache(t, addr, `
LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
RemoteIPProxyProtocol On
Header always set Client "expr=%{REMOTE_ADDR}"
`)
	},
}

// A client of HTTP/3 comes by UDP, and is passed on over TCP. Everybody names it, and nobody takes it
// for the proxy.
func TestHTTP3ClientIsAStreams(t *testing.T) {
	for name, start := range webServers {
		for _, version := range []proxyproto.Version{proxyproto.V1, proxyproto.V2} {
			t.Run(fmt.Sprintf("%s %v", name, version), func(t *testing.T) {
				addr := proxies.FreeAddr(t)
				start(t, addr)
				front := http3Proxy(t, addr, version)
				for i := range 3 {
					said := front.ask(t, i)
					assert.Equal(t, proxies.ClientAddr(i).String(), said)
				}
			})
		}
	}
}

// http3Front is a reverse proxy that speaks HTTP/3 to its clients.
type http3Front struct {
	addr net.Addr
	ca   *proxies.CA
}

func http3Proxy(t *testing.T, to string, version proxyproto.Version) *http3Front {
	t.Helper()
	target, err := url.Parse("http://" + to)
	require.NoError(t, err)
	transport, err := proxyhttp.NewTransport(nil, func(r *http.Request) (*proxyproto.Header, error) {
		return proxyhttp.HeaderFor(r, version)
	})
	require.NoError(t, err)
	t.Cleanup(transport.CloseIdleConnections)
	front := &http3Front{ca: proxies.NewCA(t, proxies.P256)}
	srv := &http3.Server{
		Handler: &httputil.ReverseProxy{
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
			Transport: transport,
		},
		TLSConfig: http3.ConfigureTLSConfig(&tls.Config{
			Certificates: []tls.Certificate{front.ca.Server(t, frontName)},
		}),
		QUICConfig: frontPatience,
	}
	inner, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	front.addr = inner.LocalAddr()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(inner) }()
	t.Cleanup(func() {
		srv.Close()
		<-served
		inner.Close()
	})
	return front
}

// ask sends two requests as the client with this number, and returns what the server said.
func (f *http3Front) ask(t *testing.T, i int) (said string) {
	t.Helper()
	addr := netip.AddrPortFrom(proxies.ClientAddr(i), 0)
	own, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	require.NoError(t, err)
	defer own.Close()
	quicTransport := &quic.Transport{Conn: own}
	defer quicTransport.Close()
	client := &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: f.ca.Pool(), ServerName: frontName},
		QUICConfig:      frontPatience,
		Dial: func(ctx context.Context, _ string, t *tls.Config, q *quic.Config) (*quic.Conn, error) {
			return quicTransport.DialEarly(ctx, f.addr, t, q)
		},
	}
	defer client.Close()
	for range 2 {
		resp, err := (&http.Client{Transport: client}).Get("https://" + frontName + "/")
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		said = strings.TrimSpace(string(b))
		if named := resp.Header.Get("Client"); named != "" {
			said = named
		}
	}
	return said
}
