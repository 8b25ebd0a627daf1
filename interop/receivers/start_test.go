package receivers

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	armon "github.com/armon/go-proxyproto"
	"github.com/mastercactapus/proxyprotocol"
	pires "github.com/pires/go-proxyproto"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// A receiver takes PROXY headers, in its usual configuration.
type receiver struct {
	name    string
	version func(t *testing.T) string
	start   func(t *testing.T) (addr string)
}

var receivers = []receiver{
	{"proxyproto, Require", here, ours(proxyproto.Require)},
	{"proxyproto, Optional", here, ours(proxyproto.Optional)},
	{"proxyproto, Ignore", here, ours(proxyproto.Ignore)},
	{"proxyproto, Skip", here, ours(proxyproto.Skip)},
	{"proxyproto, Reject", here, ours(proxyproto.Reject)},
	{"HAProxy, accept-proxy", program("haproxy", "-v"), startHAProxy},
	{"nginx, http", program("nginx", "-v"), startNginxHTTP},
	{"nginx, stream", program("nginx", "-v"), startNginxStream},
	{"varnish, -a PROXY", program("varnishd", "-V"), startVarnish},
	{"Apache, RemoteIPProxyProtocol", program("apache2", "-v"), startApache},
	{"postfix, smtpd_upstream_proxy_protocol", program("postconf", "-d", "mail_version"), startPostfix},
	{"pires/go-proxyproto, default", module("github.com/pires/go-proxyproto"), startPires(nil)},
	{"pires/go-proxyproto, REQUIRE", module("github.com/pires/go-proxyproto"), startPires(
		func(pires.ConnPolicyOptions) (pires.Policy, error) { return pires.REQUIRE, nil })},
	{"armon/go-proxyproto", module("github.com/armon/go-proxyproto"), startArmon},
	{"mastercactapus/proxyprotocol", module("github.com/mastercactapus/proxyprotocol"), startMastercactapus},
}

func here(*testing.T) string { return "this one" }

var versionNumber = regexp.MustCompile(`[0-9]+\.[0-9]+\.[0-9]+`)

func program(name string, args ...string) func(t *testing.T) string {
	return func(t *testing.T) string {
		t.Helper()
		out, err := exec.Command(proxies.Need(t, name), args...).CombinedOutput()
		require.NoError(t, err)
		return versionNumber.FindString(string(out))
	}
}

// module reads the version of a module in go.mod.
func module(path string) func(t *testing.T) string {
	return func(t *testing.T) string {
		t.Helper()
		b, err := os.ReadFile("go.mod")
		require.NoError(t, err)
		m := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(path) + ` v(\S+)`).FindSubmatch(b)
		require.NotNil(t, m, path)
		number, _, _ := strings.Cut(string(m[1]), "-")
		return number
	}
}

// whoami answers with the client's address.
var whoami = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(w, r.RemoteAddr)
})

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return ln
}

// serve answers on a listener until the test ends.
func serve(t *testing.T, ln net.Listener) string {
	t.Helper()
	srv := &http.Server{Handler: whoami}
	served := make(chan struct{})
	go func() {
		defer close(served)
		srv.Serve(ln)
	}()
	t.Cleanup(func() { srv.Close(); <-served })
	return ln.Addr().String()
}

func ours(action proxyproto.Action) func(t *testing.T) string {
	return func(t *testing.T) string {
		t.Helper()
		ln, err := proxyproto.NewListener(listen(t), &proxyproto.Config{Policy: proxyproto.Always(action)})
		require.NoError(t, err)
		return serve(t, ln)
	}
}

func startPires(policy pires.ConnPolicyFunc) func(t *testing.T) string {
	return func(t *testing.T) string {
		t.Helper()
		return serve(t, &pires.Listener{Listener: listen(t), ConnPolicy: policy})
	}
}

func startArmon(t *testing.T) string {
	t.Helper()
	return serve(t, &armon.Listener{Listener: listen(t)})
}

func startMastercactapus(t *testing.T) string {
	t.Helper()
	return serve(t, proxyprotocol.NewListener(listen(t), 5*time.Second))
}

func startHAProxy(t *testing.T) string {
	t.Helper()
	addr := proxies.FreeAddr(t)
	proxies.StartHAProxy(t, fmt.Sprintf(`
frontend receiver
	mode http
	no log
	bind %s accept-proxy
	http-request return status 200 content-type text/plain lf-string "%%[src]:%%[src_port]"
`, addr), nil)
	return addr
}

func startNginxHTTP(t *testing.T) string {
	t.Helper()
	addr := proxies.FreeAddr(t)
	proxies.StartNginxHTTP(t, fmt.Sprintf(`
	server {
		listen %s proxy_protocol;
		set_real_ip_from 127.0.0.0/8;
		real_ip_header proxy_protocol;
		location / {
			return 200 "$remote_addr:$remote_port";
		}
	}
`, addr))
	return addr
}

// nginx's stream module takes the header off and passes the rest to a plain server.
func startNginxStream(t *testing.T) string {
	t.Helper()
	addr := proxies.FreeAddr(t)
	backend := httptest.NewServer(whoami)
	t.Cleanup(backend.Close)
	proxies.StartNginx(t, fmt.Sprintf(`
	server {
		listen %s proxy_protocol;
		proxy_pass %s;
	}
`, addr, backend.Listener.Addr()), nil)
	return addr
}

func startVarnish(t *testing.T) string {
	t.Helper()
	addr := proxies.FreeAddr(t)
	proxies.StartVarnish(t, addr, `
import std;
sub vcl_recv { return (synth(200)); }
sub vcl_synth {
	set resp.body = "" + client.ip + ":" + std.port(client.ip);
	return (deliver);
}
`)
	return addr
}

func startApache(t *testing.T) string {
	t.Helper()
	addr := proxies.FreeAddr(t)
	proxies.StartApache(t, addr, "RemoteIPProxyProtocol On\n")
	return addr
}

func startPostfix(t *testing.T) string {
	t.Helper()
	addr := proxies.FreeAddr(t)
	proxies.StartPostfix(t, addr, "smtpd_upstream_proxy_protocol = haproxy\n")
	return addr
}
