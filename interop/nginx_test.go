package interop

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// nginxServer is a server block with these directives.
func nginxServer(addr, backend, directives string) string {
	return fmt.Sprintf(`
	server {
		listen %s;
		proxy_pass %s;
		%s
	}
`, addr, backend, directives)
}

func TestNginxHTTP(t *testing.T) {
	b := listen(t)
	b.serveHTTP(t, b, &http.Server{Handler: http.HandlerFunc(whoami)})
	addr := proxies.FreeAddr(t)
	proxies.StartNginx(t, nginxServer(addr, b.addr, "proxy_protocol on;"), nil)

	dialEach(t, "nginx v1 http", addr, func(c net.Conn, _ int, want string) error {
		return askHTTP(c, want)
	})
	b.accepted(t, proxyproto.V1, connections)
}

// On a dual-stack socket nginx calls its IPv4 clients ::ffff:127.16.0.1 and sends TCP6.
func TestNginxDualStack(t *testing.T) {
	b := listen(t)
	b.serveHTTP(t, b, &http.Server{
		Handler:     http.HandlerFunc(whoamiMapped),
		ConnContext: proxyproto.ConnContext,
	})
	addr := proxies.FreeAddr(t)
	proxies.StartNginx(t, nginxServer(mapped(addr)+" ipv6only=off", b.addr, "proxy_protocol on;"), nil)

	dialEach(t, "nginx v1 dual-stack", addr, func(c net.Conn, _ int, want string) error {
		return askHTTP(c, want)
	})
	b.accepted(t, proxyproto.V1, connections)
}

// mapped gives an IPv4 address and port as that of an IPv6 socket.
func mapped(addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	return "[::ffff:" + host + "]:" + port
}

// whoamiMapped is whoami for addresses that were sent as IPv4-mapped IPv6: they have to become
// plain IPv4 (which their text is in either case).
func whoamiMapped(w http.ResponseWriter, r *http.Request) {
	h, ok := proxyproto.HeaderFromContext(r.Context())
	if !ok || h.Protocol != proxyproto.TCP6 || !h.Source.Addr().Is4In6() {
		http.Error(w, fmt.Sprintf("the header is %v, not one with mapped addresses", h), http.StatusInternalServerError)
		return
	}
	if local := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); !local.AddrPort().Addr().Is4() {
		http.Error(w, fmt.Sprintf("%v isn't plain IPv4", local.AddrPort()), http.StatusInternalServerError)
		return
	}
	whoami(w, r)
}

// With Lazy the server can speak before the header is there. The first Read reads it: RemoteAddr is
// nginx's before that, and the client's from then on.
func TestNginxLazy(t *testing.T) {
	b := listenWith(t, proxyproto.Config{Lazy: true})
	b.serveConns(t, b, func(c net.Conn) (string, error) {
		if host, _, _ := net.SplitHostPort(c.RemoteAddr().String()); host != proxies.Proxy {
			return "", fmt.Errorf("RemoteAddr before the first Read is %v", c.RemoteAddr())
		}
		if _, err := c.Write([]byte("hello\n")); err != nil {
			return "", err
		}
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			return "", err
		}
		return whoamiConn(c)
	})
	addr := proxies.FreeAddr(t)
	proxies.StartNginx(t, nginxServer(addr, b.addr, "proxy_protocol on;"), nil)

	dialEach(t, "nginx v1 lazy, server speaks first", addr, func(c net.Conn, _ int, want string) error {
		greeting := make([]byte, len("hello\n"))
		if _, err := c.Read(greeting); err != nil {
			return err
		}
		if err := same(string(greeting), "hello"); err != nil {
			return err
		}
		if _, err := c.Write([]byte("who am I?\n")); err != nil {
			return err
		}
		return askConn(c, want)
	})
	b.accepted(t, proxyproto.V1, connections)
}
