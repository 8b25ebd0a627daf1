package interop

import (
	"crypto/tls"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

const serverName = "server.interop.test"

// behindTLS speaks TLS over c and asks inside it.
func behindTLS(c net.Conn, cfg *tls.Config, ask func(c net.Conn, want string) error,
	want string) error {
	tc := tls.Client(c, cfg)
	if err := tc.Handshake(); err != nil {
		return err
	}
	return ask(tc, want)
}

// The client's TLS passes through nginx, and our server ends it: the header comes before it.
func TestTLSPassedThrough(t *testing.T) {
	ca := proxies.NewCA(t, proxies.P256)
	b := listen(t)
	ln := tls.NewListener(b, &tls.Config{Certificates: []tls.Certificate{ca.Server(t, serverName)}})
	b.serveHTTP(t, ln, &http.Server{
		Handler:     http.HandlerFunc(whoamiFromContext),
		ConnContext: proxyproto.ConnContext, // gets a *tls.Conn
	})
	addr := proxies.FreeAddr(t)
	proxies.StartNginx(t, nginxServer(addr, b.addr, "proxy_protocol on;"), nil)

	client := &tls.Config{RootCAs: ca.Pool(), ServerName: serverName}
	dialEach(t, "nginx v1 TLS passed through", addr, func(c net.Conn, _ int, want string) error {
		return behindTLS(c, client, askHTTP, want)
	})
	b.accepted(t, proxyproto.V1, connections)
}

// The proxy speaks TLS to our server, and sends the header before it: both nginx and HAProxy do.
func TestTLSBegunByProxy(t *testing.T) {
	ca := proxies.NewCA(t, proxies.P256)
	files := map[string]string{"ca.pem": ca.PEM()}
	type begins struct {
		name    string
		version proxyproto.Version
		start   func(t *testing.T, addr, backend string)
	}
	tests := []begins{
		{"nginx v1", proxyproto.V1, func(t *testing.T, addr, backend string) {
			proxies.StartNginx(t, nginxServer(addr, backend, "proxy_protocol on;"+nginxTLS), files)
		}},
		{"haproxy v2", proxyproto.V2, func(t *testing.T, addr, backend string) {
			proxies.StartHAProxy(t, haproxyListen("tls", addr, backend,
				haproxyTLS+" send-proxy-v2"), files)
		}},
	}
	if nginxWritesV2(t) {
		tests = append(tests, begins{"nginx v2", proxyproto.V2, func(t *testing.T, addr, backend string) {
			proxies.StartNginx(t, nginxServer(addr, backend, "proxy_protocol v2;"+nginxTLS), files)
		}})
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := listen(t)
			ln := tls.NewListener(b,
				&tls.Config{Certificates: []tls.Certificate{ca.Server(t, serverName)}})
			b.serveHTTP(t, ln, &http.Server{
				Handler:     http.HandlerFunc(whoamiFromContext),
				ConnContext: proxyproto.ConnContext,
			})
			addr := proxies.FreeAddr(t)
			test.start(t, addr, b.addr)

			dialEach(t, test.name+", then TLS from the proxy", addr, func(c net.Conn, _ int, want string) error {
				return askHTTP(c, want)
			})
			b.accepted(t, test.version, connections)
		})
	}
}

const (
	nginxTLS = `
		proxy_ssl on;
		proxy_ssl_trusted_certificate ca.pem;
		proxy_ssl_verify on;
		proxy_ssl_name ` + serverName + ";"
	haproxyTLS = "ssl verify required ca-file ca.pem verifyhost " + serverName
)

// The header is inside TLS, and our Listener around that of crypto/tls. No proxy does that by
// itself: one sends the header to a second one, which takes it for payload and wraps it in TLS.
func TestHeaderInsideTLS(t *testing.T) {
	ca := proxies.NewCA(t, proxies.P256)
	files := map[string]string{"ca.pem": ca.PEM()}
	for _, test := range []struct {
		name    string
		version proxyproto.Version
		start   func(t *testing.T, addr, wrap, backend string)
	}{
		{"nginx v1", proxyproto.V1, func(t *testing.T, addr, wrap, backend string) {
			proxies.StartNginx(t, nginxServer(addr, wrap, "proxy_protocol on;")+
				nginxServer(wrap, backend, nginxTLS), files)
		}},
		{"haproxy v2", proxyproto.V2, func(t *testing.T, addr, wrap, backend string) {
			proxies.StartHAProxy(t, haproxyListen("header", addr, wrap, "send-proxy-v2")+
				haproxyListen("wrap", wrap, backend, haproxyTLS), files)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inner, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
				Certificates: []tls.Certificate{ca.Server(t, serverName)},
			})
			require.NoError(t, err)
			b := listenOn(t, inner, proxyproto.Config{})
			b.serveHTTP(t, b, &http.Server{
				Handler:     http.HandlerFunc(whoamiFromContext),
				ConnContext: proxyproto.ConnContext,
			})
			addr, wrap := proxies.FreeAddr(t), proxies.FreeAddr(t)
			test.start(t, addr, wrap, b.addr)

			dialEach(t, test.name+" inside TLS", addr, func(c net.Conn, _ int, want string) error {
				return askHTTP(c, want)
			})
			b.accepted(t, test.version, connections)
		})
	}
}
