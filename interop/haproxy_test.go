package interop

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// haproxyListen is a listen section with one server, whose line ends with the options given.
func haproxyListen(name, bind, backend, options string) string {
	return fmt.Sprintf(`
listen %s
	bind %s
	server backend %s %s
`, name, bind, backend, options)
}

func TestHAProxyHTTP(t *testing.T) {
	for _, test := range []struct {
		name, option string
		version      proxyproto.Version
	}{
		{"v1", "send-proxy", proxyproto.V1},
		{"v2", "send-proxy-v2", proxyproto.V2},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := listen(t)
			b.serveHTTP(t, b, &http.Server{Handler: http.HandlerFunc(whoami)})
			addr := proxies.FreeAddr(t)
			proxies.StartHAProxy(t, haproxyListen("http", addr, b.addr, test.option), nil)

			dialEach(t, "haproxy "+test.name+" http", addr, func(c net.Conn, _ int, want string) error {
				return askHTTP(c, want)
			})
			b.accepted(t, test.version, connections)
		})
	}
}

// A server of plain connections that speaks first: HAProxy sends the header without waiting for
// the client's first bytes.
func TestHAProxyServerSpeaksFirst(t *testing.T) {
	b := listen(t)
	b.serveConns(t, b, whoamiConn)
	addr := proxies.FreeAddr(t)
	proxies.StartHAProxy(t, haproxyListen("first", addr, b.addr, "send-proxy-v2"), nil)

	dialEach(t, "haproxy v2, server speaks first", addr, func(c net.Conn, _ int, want string) error {
		return askConn(c, want)
	})
	b.accepted(t, proxyproto.V2, connections)
}

// On a dual-stack socket HAProxy's IPv4 clients are IPv4-mapped IPv6 addresses as well.
func TestHAProxyDualStack(t *testing.T) {
	b := listen(t)
	b.serveHTTP(t, b, &http.Server{
		Handler:     http.HandlerFunc(whoamiMapped),
		ConnContext: proxyproto.ConnContext,
	})
	addr := proxies.FreeAddr(t)
	proxies.StartHAProxy(t, haproxyListen("dual", mapped(addr)+" v4v6", b.addr, "send-proxy-v2"), nil)

	dialEach(t, "haproxy v2 dual-stack", addr, func(c net.Conn, _ int, want string) error {
		return askHTTP(c, want)
	})
	b.accepted(t, proxyproto.V2, connections)
}

// There is only one IPv6 loopback address: the ports tell these clients apart.
func TestIPv6(t *testing.T) {
	for _, test := range []struct {
		name    string
		version proxyproto.Version
		start   func(t *testing.T, addr, backend string)
	}{
		{"nginx v1", proxyproto.V1, func(t *testing.T, addr, backend string) {
			proxies.StartNginx(t, nginxServer(addr, backend, "proxy_protocol on;"), nil)
		}},
		{"haproxy v1", proxyproto.V1, func(t *testing.T, addr, backend string) {
			proxies.StartHAProxy(t, haproxyListen("six", addr, backend, "send-proxy"), nil)
		}},
		{"haproxy v2", proxyproto.V2, func(t *testing.T, addr, backend string) {
			proxies.StartHAProxy(t, haproxyListen("six", addr, backend, "send-proxy-v2"), nil)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := listen(t)
			b.serveHTTP(t, b, &http.Server{Handler: http.HandlerFunc(whoami)})
			addr := proxies.FreeAddr6(t)
			test.start(t, addr, b.addr)

			each(t, test.name+" IPv6", connections, concurrency, func(int) (netip.Addr, error) {
				from := netip.IPv6Loopback()
				c, err := proxies.DialFrom(from, addr)
				if err != nil {
					return from, err
				}
				defer c.Close()
				return from, askHTTP(c, pair(c.LocalAddr(), c.RemoteAddr()))
			})
			b.accepted(t, test.version, connections)
		})
	}
}
