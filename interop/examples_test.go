package interop

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/program"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// askedOfExamples is how many clients go through each proxy to each example.
const askedOfExamples = 64

// inFrontOf starts nginx and HAProxy in front of a server, at an address or a Unix socket, and
// returns where they listen.
func inFrontOf(t *testing.T, backend string) map[string]string {
	t.Helper()
	forHAProxy, forNginx := backend, backend
	if filepath.IsAbs(backend) {
		forHAProxy, forNginx = "unix@"+backend, "unix:"+backend
	}
	addrs := map[string]string{}
	nginx := func(name, directive string) string {
		addrs[name] = proxies.FreeAddr(t)
		return nginxServer(addrs[name], forNginx, directive)
	}
	servers := nginx("nginx v1", "proxy_protocol on;")
	if nginxWritesV2(t) {
		servers += nginx("nginx v2", "proxy_protocol v2;")
	}
	proxies.StartNginx(t, servers, nil)
	addrs["haproxy v1"], addrs["haproxy v2"] = proxies.FreeAddr(t), proxies.FreeAddr(t)
	proxies.StartHAProxy(t, haproxyListen("one", addrs["haproxy v1"], forHAProxy, "send-proxy")+
		haproxyListen("two", addrs["haproxy v2"], forHAProxy, "check inter 20ms send-proxy-v2"),
		nil)
	return addrs
}

// examples/tcp greets each client by name before it has sent a byte, and echoes.
func TestExampleTCP(t *testing.T) {
	for front, addr := range inFrontOf(t, program.StartBinary(t, buildExample(t, "tcp"))) {
		dialSome(t, front, askedOfExamples, addr, func(c net.Conn, _ int, want string) error {
			r := bufio.NewReader(c)
			greeting, err := r.ReadString('\n')
			if err != nil {
				return err
			}
			if want := fmt.Sprintf("you are %v; ", c.LocalAddr()); !strings.HasPrefix(greeting,
				want) {
				return fmt.Errorf("greeting %q, not %q", greeting, want)
			}
			for _, said := range []string{fmt.Sprintf(" %v -> %v", c.LocalAddr(), c.RemoteAddr()),
				" by 127."} {
				if !strings.Contains(greeting, said) {
					return fmt.Errorf("greeting %q without %q", greeting, said)
				}
			}
			if _, err := io.WriteString(c, "hello\n"); err != nil {
				return err
			}
			echo, err := r.ReadString('\n')
			if err != nil {
				return err
			}
			return same(echo, "hello")
		})
	}
}

// examples/unixsocket does so for HTTP, on a socket that only the proxies' user may open.
func TestExampleUnixSocket(t *testing.T) {
	path := filepath.Join(proxies.Dir(t, nil), "hello.sock")
	listens, _ := program.StartCommand(t,
		exec.Command(buildExample(t, "unixsocket"), "-listen", path))
	require.Equal(t, path, listens)
	for front, addr := range inFrontOf(t, path) {
		dialSome(t, front, askedOfExamples, addr, func(c net.Conn, _ int, want string) error {
			body, err := get(bufio.NewReader(c), c, "/", "close")
			if err != nil {
				return err
			}
			hello, header, _ := strings.Cut(body, "\n")
			if !strings.Contains(header, "PROXY TCP4 "+want) {
				return fmt.Errorf("the header is %q", header)
			}
			return same(hello, "hello "+c.LocalAddr().String())
		})
	}
	// Whoever gets past the file's mode still needs a header.
	c, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
	require.NoError(t, err)
	answer, _ := io.ReadAll(c)
	assert.Empty(t, answer)
}
