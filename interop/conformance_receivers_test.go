package interop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// A receiver takes connections that begin with a PROXY header and answers an HTTP request behind
// it with the request's method and path and the client's address and port.
type receiver struct {
	name, version string
	addr          string
}

// receivers starts all of them; ours is the first.
func receivers(t *testing.T) []receiver {
	t.Helper()
	const format = "%s%s %s %s"
	ours := func(addr string) {
		inner, err := net.Listen("tcp", addr)
		require.NoError(t, err)
		ln, err := proxyproto.NewListener(inner, &proxyproto.Config{
			Policy:        proxyproto.Trust(netip.MustParsePrefix("127.0.0.0/8")),
			HeaderTimeout: proxies.Timeout,
			MaxHeaderSize: 16 + 1<<16 - 1,
		})
		require.NoError(t, err)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, port := "unix", "" // whose name may look like anything
			if _, unix := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr); !unix {
				host, port, _ = net.SplitHostPort(r.RemoteAddr)
			}
			fmt.Fprintf(w, format, r.Method, r.URL.Path, host, port)
		})}
		go srv.Serve(ln)
		t.Cleanup(func() { srv.Close() })
	}
	all := []receiver{
		{"proxyproto", "this one", proxies.FreeAddr(t)},
		{"HAProxy", version(t, "haproxy", "-v"), proxies.FreeAddr(t)},
		{"nginx", version(t, "nginx", "-v"), proxies.FreeAddr(t)},
		{"varnish", version(t, "varnishd", "-V"), proxies.FreeAddr(t)},
	}
	ours(all[0].addr)
	proxies.StartHAProxy(t, fmt.Sprintf(`
frontend receiver
	mode http
	no log
	bind %s accept-proxy
	http-request return status 200 content-type text/plain lf-string "%s"
`, all[1].addr, fmt.Sprintf(format, "%[method]", "%[path]", "%[src]", "%[src_port]")), nil)
	proxies.StartNginxHTTP(t, fmt.Sprintf(`
	server {
		listen %s proxy_protocol;
		set_real_ip_from 127.0.0.0/8;
		real_ip_header proxy_protocol;
		location / {
			default_type text/plain;
			return 200 "%s";
		}
	}
`, all[2].addr, fmt.Sprintf(format, "$request_method", "$uri", "$remote_addr", "$remote_port")))
	proxies.StartVarnish(t, all[3].addr, `
import std;
sub vcl_recv { return (synth(200)); }
sub vcl_synth {
	set resp.body = req.method + req.url + " " + client.ip + " " + std.port(client.ip);
	return (deliver);
}
`)
	return all
}

var versionNumber = regexp.MustCompile(`[0-9]+\.[0-9]+\.[0-9]+`)

func version(t *testing.T, program, flag string) string {
	t.Helper()
	out, err := exec.Command(proxies.Need(t, program), flag).CombinedOutput()
	require.NoError(t, err)
	number := versionNumber.FindString(string(out))
	require.NotEmpty(t, number, "%s", out)
	return number
}

// An outcome is what a receiver made of a specimen.
type outcome struct {
	kind   kind
	client netip.AddrPort // as the receiver calls it, if the header named it
}

type kind uint8

const (
	refused   kind = iota // closed without an answer
	garbled               // the header was accepted, but what was taken for the request wasn't it
	anonymous             // served, but not under an IP address from the header
	named                 // served under an IP address from the header
)

func (o outcome) String() string {
	switch o.kind {
	case refused:
		return "refuses"
	case garbled:
		return "accepts, with another end of the header"
	case anonymous:
		return "accepts, with the socket's address"
	}
	return "accepts as " + o.client.String()
}

const whoamiPath = "/whoami"

// withRequest is what a receiver gets when it is shown the specimen.
func withRequest(wire []byte) []byte {
	return append(bytes.Clone(wire),
		"GET "+whoamiPath+" HTTP/1.1\r\nHost: interop.test\r\nConnection: close\r\n\r\n"...)
}

// show sends the specimen and a request, and the end of data, so that nothing has to wait.
func (r receiver) show(from netip.Addr, wire []byte) (outcome, error) {
	dialed, err := proxies.DialFrom(from, r.addr)
	if err != nil {
		return outcome{}, err
	}
	defer dialed.Close()
	c := dialed.(*net.TCPConn)
	go func() { // a refusal may come before all is sent
		c.Write(withRequest(wire))
		c.CloseWrite()
	}()
	answer, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		return outcome{}, err
	}
	if len(answer) == 0 {
		return outcome{kind: refused}, nil
	}
	head, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	said := strings.Split(strings.TrimSuffix(body, "\n"), " ")
	if !strings.HasPrefix(head, "HTTP/1.1 200 ") || len(said) != 3 || said[0] != "GET"+whoamiPath {
		return outcome{kind: garbled}, nil
	}
	if said[1] == "unix" {
		return outcome{kind: anonymous}, nil
	}
	addr, err := netip.ParseAddr(said[1])
	if err != nil { // varnish leaves out ::ffff: also where it doesn't mean an IPv4 address
		addr, err = netip.ParseAddr("::ffff:" + said[1])
	}
	if err != nil {
		return outcome{}, fmt.Errorf("%s answered %q: %w", r.name, answer, err)
	}
	// HAProxy and nginx print port 0 as nothing.
	port, err := strconv.ParseUint("0"+said[2], 10, 16)
	if err != nil {
		return outcome{}, fmt.Errorf("%s answered %q: %w", r.name, answer, err)
	}
	client := netip.AddrPortFrom(addr.Unmap(), uint16(port))
	if client == c.LocalAddr().(*net.TCPAddr).AddrPort() {
		return outcome{kind: anonymous}, nil
	}
	return outcome{named, client}, nil
}

// inFull says that all mutants are to be shown and the results written down.
var inFull = os.Getenv("CONFORMANCE") == "full"
