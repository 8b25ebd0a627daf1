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
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/built"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

// A receiver takes PROXY headers, in its usual configuration.
type receiver struct {
	name    string
	version func(t *testing.T) string
	start   func(t *testing.T) (addr string)
	flags   []string // of check
}

var receivers = []receiver{
	{name: "proxyproto, Require", version: here, start: ours(proxyproto.Require)},
	{name: "proxyproto, Optional", version: here, start: ours(proxyproto.Optional)},
	{name: "proxyproto, Ignore", version: here, start: ours(proxyproto.Ignore)},
	{name: "proxyproto, Skip", version: here, start: ours(proxyproto.Skip)},
	{name: "proxyproto, Reject", version: here, start: ours(proxyproto.Reject)},
	{name: "HAProxy, accept-proxy", version: program("haproxy", "-v"), start: startHAProxy},
	{name: "nginx, http", version: program("nginx", "-v"), start: startNginxHTTP},
	{name: "nginx, stream", version: program("nginx", "-v"), start: startNginxStream},
	{name: "varnish, -a PROXY", version: program("varnishd", "-V"), start: startVarnish},
	{name: "Apache, RemoteIPProxyProtocol", version: program("apache2", "-v"), start: startApache},
	{
		name:    "postfix, smtpd_upstream_proxy_protocol",
		version: program("postconf", "-d", "mail_version"), start: startPostfix,
	},
	{
		name:    "Caddy, proxy_protocol with allow",
		version: module(caddyDir+"/go.mod", "github.com/caddyserver/caddy/v2"), start: startCaddy,
	},
	{name: "pires/go-proxyproto, default", version: module("go.mod", piresPath),
		start: startPires(nil)},
	{
		name: "pires/go-proxyproto, REQUIRE", version: module("go.mod", piresPath),
		start: startPires(func(pires.ConnPolicyOptions) (pires.Policy, error) {
			return pires.REQUIRE, nil
		}),
	},
	{
		name:    "armon/go-proxyproto",
		version: module("go.mod", "github.com/armon/go-proxyproto"), start: startArmon,
	},
	{
		name:    "mastercactapus/proxyprotocol",
		version: module("go.mod", "github.com/mastercactapus/proxyprotocol"), start: startMastercactapus,
	},
	{
		name:    "proxyudp, Require, over UDP",
		version: here, start: ourDatagrams, flags: []string{"--dns"},
	},
	{
		name:    "dnsdist, setProxyProtocolACL, over UDP",
		version: program("dnsdist", "--version"), start: startDnsdist, flags: []string{"--dns"},
	},
}

const (
	piresPath = "github.com/pires/go-proxyproto"
	caddyDir  = "../senders/caddy"
)

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

// module reads the version of a module in a go.mod.
func module(gomod, path string) func(t *testing.T) string {
	return func(t *testing.T) string {
		t.Helper()
		b, err := os.ReadFile(gomod)
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
		ln, err := proxyproto.NewListener(listen(t),
			&proxyproto.Config{Policy: proxyproto.Always(action)})
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

// Caddy believes the headers of those that it is told to allow; its default is to take them off.
func startCaddy(t *testing.T) string {
	t.Helper()
	path, err := built.Caddy(caddyDir, os.Stderr)
	require.NoError(t, err)
	addr := proxies.FreeAddr(t)
	host, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	dir := proxies.Dir(t, map[string]string{"Caddyfile": fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	servers {
		listener_wrappers {
			proxy_protocol {
				allow 127.0.0.0/8
			}
		}
	}
}
http://:%s {
	bind %s
	respond "{remote}"
}
`, port, host)})
	proxies.Start(t, proxies.Spec{
		Program: "caddy",
		Path:    path,
		Args:    []string{"run", "--config", "Caddyfile", "--adapter", "caddyfile"},
		Env:     []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir},
		Dir:     dir,
		Ready:   proxies.Dials("tcp", addr),
	})
	return addr
}

// dnsdist answers by itself.
func startDnsdist(t *testing.T) string {
	t.Helper()
	addr := proxies.FreeAddr(t)
	dir := proxies.Dir(t, map[string]string{"dnsdist.conf": fmt.Sprintf(`
setLocal('%s')
setSecurityPollSuffix('') -- no look-ups on the net
setACL({'127.0.0.0/8', '192.0.2.0/24'})
setProxyProtocolACL({'127.0.0.0/8'})
addAction(AllRule(), SpoofAction({'198.51.100.1'}))
`, addr)})
	proxies.Start(t, proxies.Spec{
		Program: "dnsdist",
		Args:    []string{"--supervised", "--disable-syslog", "-C", dir + "/dnsdist.conf"},
		Dir:     dir,
		Ready:   proxies.Dials("tcp", addr),
	})
	return addr
}

// ourDatagrams is a server that says of each query that there is no such name.
func ourDatagrams(t *testing.T) string {
	t.Helper()
	inner, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	pc, err := proxyudp.NewPacketConn(inner, &proxyudp.Config{
		Policy: proxyproto.Always(proxyproto.Require),
	})
	require.NoError(t, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		b := make([]byte, 1<<16)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			if n >= 12 { // a DNS header: its third byte says that this is an answer, the fourth what
				b[2], b[3] = b[2]|0x80, 3
				pc.WriteTo(b[:n], from)
			}
		}
	}()
	t.Cleanup(func() { pc.Close(); <-served })
	return inner.LocalAddr().String()
}
