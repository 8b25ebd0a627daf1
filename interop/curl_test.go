package interop

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// curl --haproxy-protocol sends a header of its own addresses, so it is the proxy and the client in
// one: the clients' network is trusted here. Each process makes many connections.
func TestCurl(t *testing.T) {
	const perProcess = 20
	curl := proxies.Need(t, "curl")
	ca := proxies.NewCA(t, proxies.P256)
	dir := proxies.Dir(t, map[string]string{"ca.pem": ca.PEM()})
	policy, err := proxyproto.ParseTrust(proxies.Clients)
	require.NoError(t, err)

	for _, test := range []struct {
		scheme    string
		processes int
	}{{"http", connections / perProcess}, {"https", 25}} {
		t.Run(test.scheme, func(t *testing.T) {
			b := listenWith(t, proxyproto.Config{Policy: policy})
			srv := &http.Server{Handler: http.HandlerFunc(whoami)}
			srv.SetKeepAlivesEnabled(false) // each request a connection
			var ln net.Listener = b
			if test.scheme == "https" {
				ln = tls.NewListener(b, &tls.Config{Certificates: []tls.Certificate{ca.Server(t, serverName)}})
			}
			b.serveHTTP(t, ln, srv)
			_, port, err := net.SplitHostPort(b.addr)
			require.NoError(t, err)

			right, addrs := attempt(t, test.processes, 8, func(i int) (netip.Addr, error) {
				from := proxies.ClientAddr(i)
				out, err := proxies.Run(curl, "-q", "--silent", "--show-error", "--fail", "--http1.1", "--noproxy", "*",
					"--max-time", fmt.Sprint(proxies.Timeout.Seconds()),
					"--haproxy-protocol", "--interface", from.String(),
					"--cacert", dir+"/ca.pem", "--resolve", serverName+":"+port+":127.0.0.1",
					"--write-out", "\n%{local_ip}:%{local_port} -> %{remote_ip}:%{remote_port}\n",
					fmt.Sprintf("%s://%s:%s/[1-%d]", test.scheme, serverName, port, perProcess))
				if err != nil {
					return from, err
				}
				return from, samePairs(out, perProcess)
			})
			t.Logf("curl v1 %s: %d connections, %d right, %d client addresses, as many processes",
				test.scheme, test.processes*perProcess, right*perProcess, addrs)
			b.accepted(t, proxyproto.V1, test.processes*perProcess)
		})
	}
}

// samePairs compares the lines that the server wrote with those of curl, which follow each of them.
func samePairs(out string, n int) error {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 2*n {
		return fmt.Errorf("%d lines for %d connections: %q", len(lines), n, out)
	}
	for i := 0; i < len(lines); i += 2 {
		if err := same(lines[i], lines[i+1]); err != nil {
			return err
		}
	}
	return nil
}
