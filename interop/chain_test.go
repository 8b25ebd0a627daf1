package interop

import (
	"net"
	"net/http"
	"testing"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// Two proxies in a row: HAProxy believes nginx's header and sends one of its own, in which the
// client is still the first one.
func TestTwoProxies(t *testing.T) {
	b := listen(t)
	b.serveHTTP(t, b, &http.Server{Handler: http.HandlerFunc(whoami)})
	first, second := proxies.FreeAddr(t), proxies.FreeAddr(t)
	proxies.StartHAProxy(t, haproxyListen("second", second+" accept-proxy", b.addr, "send-proxy-v2"), nil)
	proxies.StartNginx(t, nginxServer(first, second, "proxy_protocol on;"), nil)

	dialEach(t, "nginx v1, then haproxy v2, http", first, func(c net.Conn, _ int, want string) error {
		return askHTTP(c, want)
	})
	b.accepted(t, proxyproto.V2, connections)
}
