package interop

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// An nginx between two hops replaces its client's address by what the first hop's header says, and
// writes that and its own socket's address, of whatever family, into one line.
func TestNginxMixedFamilies(t *testing.T) {
	for _, c := range []struct {
		name, sent  string // by the first hop
		listen      func(t *testing.T) (network, addr, listen string)
		line        string // what nginx makes of it
		client      string // what becomes of that
		destination string
	}{
		{
			"ipv6 client on an ipv4 listener", "PROXY TCP6 2001:db8::1 2001:db8::2 51512 443\r\n",
			func(t *testing.T) (network, addr, listen string) {
				addr = proxies.FreeAddr(t)
				return "tcp", addr, addr
			},
			`^PROXY TCP6 2001:db8::1 127\.[0-9.]+ 51512 [0-9]+\r\n$`,
			"[2001:db8::1]:51512", "127.",
		},
		{
			"ipv4 client on an ipv6 listener", "PROXY TCP4 192.0.2.7 192.0.2.1 51512 443\r\n",
			func(t *testing.T) (network, addr, listen string) {
				addr = proxies.FreeAddr6(t)
				return "tcp", addr, addr
			},
			`^PROXY TCP4 192\.0\.2\.7 ::1 51512 [0-9]+\r\n$`,
			"192.0.2.7:51512", "[::1]:",
		},
		{
			"ipv4 client on a unix listener", "PROXY TCP4 192.0.2.7 192.0.2.1 51512 443\r\n",
			func(t *testing.T) (network, addr, listen string) {
				dir, err := os.MkdirTemp("", "") // t.TempDir() is too long for a line of 107 bytes
				require.NoError(t, err)
				t.Cleanup(func() { os.RemoveAll(dir) })
				addr = filepath.Join(dir, "nginx.sock")
				return "unix", addr, "unix:" + addr
			},
			`^PROXY TCP4 192\.0\.2\.7 unix:/.* 51512 0\r\n$`,
			"", "",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := net.Listen("tcp", proxies.FreeAddr(t))
			require.NoError(t, err)
			defer raw.Close()
			drops := make(chan *proxyproto.DropError, 1)
			ln, err := proxyproto.Listen("tcp", proxies.FreeAddr(t), &proxyproto.Config{
				Policy: proxyproto.Always(proxyproto.Require),
				OnDrop: func(_ proxyproto.Peer, drop *proxyproto.DropError) { drops <- drop },
			})
			require.NoError(t, err)
			defer ln.Close()
			accepted := make(chan net.Conn, 1)
			go func() {
				if c, err := ln.Accept(); err == nil {
					accepted <- c
				}
			}()

			network, toRaw, listenRaw := c.listen(t)
			_, toOurs, listenOurs := c.listen(t)
			const directives = "proxy_protocol on; set_real_ip_from 127.0.0.0/8; " +
				"set_real_ip_from ::1; set_real_ip_from unix:;"
			proxies.StartNginx(t,
				nginxServer(listenRaw+" proxy_protocol", raw.Addr().String(), directives)+
					nginxServer(listenOurs+" proxy_protocol", ln.Addr().String(), directives), nil)

			client := sendTo(t, network, toRaw, c.sent)
			defer client.Close()
			server, err := raw.Accept()
			require.NoError(t, err)
			defer server.Close()
			require.NoError(t, server.SetDeadline(time.Now().Add(proxies.Timeout)))
			line, err := bufio.NewReader(server).ReadString('\n')
			require.NoError(t, err)
			t.Logf("%q", line)
			assert.Regexp(t, regexp.MustCompile(c.line), line)

			client2 := sendTo(t, network, toOurs, c.sent)
			defer client2.Close()
			if c.client == "" {
				drop := <-drops
				assert.ErrorIs(t, drop, proxyproto.ErrMalformed)
				assert.ErrorContains(t, drop, "nginx writes its Unix socket's name here")
				return
			}
			conn := <-accepted
			defer conn.Close()
			assert.Equal(t, c.client, conn.RemoteAddr().String())
			assert.Contains(t, conn.LocalAddr().String(), c.destination)
			payload := make([]byte, len("payload"))
			_, err = io.ReadFull(conn, payload)
			require.NoError(t, err)
			assert.Equal(t, "payload", string(payload))
		})
	}
}

// sendTo connects, and sends a header and payload.
func sendTo(t *testing.T, network, addr, header string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, addr)
	require.NoError(t, err)
	_, err = fmt.Fprint(c, header, "payload")
	require.NoError(t, err)
	return c
}
