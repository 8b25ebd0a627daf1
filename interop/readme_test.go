package interop

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// readmeBlock returns the code block of README.md in a language that contains a text.
func readmeBlock(t *testing.T, language, text string) string {
	t.Helper()
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	for _, b := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```\n").FindAllStringSubmatch(string(readme), -1) {
		if strings.Contains(b[1], text) {
			return b[1]
		}
	}
	require.Failf(t, "README.md has no such block", "%s with %s", language, text)
	return ""
}

// substitute replaces a text that must be there.
func substitute(t *testing.T, s, old, replacement string) string {
	t.Helper()
	require.Contains(t, s, old)
	return strings.ReplaceAll(s, old, replacement)
}

// startReadmeServer runs the server command of README.md on a free port. The server must have
// logged nothing but its address when the test ends.
func startReadmeServer(t *testing.T) (addr string) {
	t.Helper()
	command, _, _ := strings.Cut(readmeBlock(t, "sh", "examples/httpserver"), "\n")
	command = substitute(t, command, "127.0.0.1:8080", "127.0.0.1:0")
	args := strings.Fields(command)
	require.Equal(t, []string{"go", "run", "./examples/httpserver"}, args[:3])
	binary := filepath.Join(t.TempDir(), "httpserver") // built, because go run can't be stopped with what it runs
	build := exec.Command("go", "build", "-o", binary, args[2])
	build.Dir = ".."
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	server := exec.Command(binary, args[3:]...)
	stderr, err := server.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	log := bufio.NewReader(stderr)
	line, err := log.ReadString('\n')
	require.NoError(t, err)
	_, addr, found := strings.Cut(strings.TrimSpace(line), "listening on ")
	require.True(t, found, line)
	t.Cleanup(func() {
		server.Process.Kill()
		rest, _ := io.ReadAll(log)
		server.Wait()
		assert.Empty(t, string(rest), "the server logged something")
	})
	return addr
}

// askReadmeServer asks the server as a client behind the proxy at addr.
func askReadmeServer(t *testing.T, addr, version string) {
	t.Helper()
	for i := range 20 {
		c, err := proxies.Dial(i, addr)
		require.NoError(t, err)
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		assert.Contains(t, string(body), fmt.Sprintf("you are %v\nthe proxy says %s PROXY TCP4 %v -> ", c.LocalAddr(), version, c.LocalAddr()))
		c.Close()
	}
}

func TestReadmeCurl(t *testing.T) {
	proxies.Need(t, "curl")
	addr := startReadmeServer(t)
	_, command, _ := strings.Cut(readmeBlock(t, "sh", "examples/httpserver"), "\n")
	out, err := exec.Command("sh", "-c", "exec "+strings.Replace(substitute(t, command, "127.0.0.1:8080", addr), "curl", "curl -sS", 1)).CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Regexp(t, `^you are 127\.0\.0\.1:\d+\nthe proxy says v1 PROXY TCP4 `, string(out))
}

func TestReadmeNginx(t *testing.T) {
	addr, front := startReadmeServer(t), proxies.FreeAddr(t)
	conf := strings.TrimSpace(readmeBlock(t, "nginx", "stream"))
	conf = substitute(t, substitute(t, conf, "listen 80;", "listen "+front+";"), "127.0.0.1:8080", addr)
	conf, inside := strings.CutPrefix(conf, "stream {")
	require.True(t, inside)
	proxies.StartNginx(t, strings.TrimSuffix(conf, "}"), nil)
	askReadmeServer(t, front, "v1")
}

func TestReadmeHAProxy(t *testing.T) {
	addr, front := startReadmeServer(t), proxies.FreeAddr(t)
	conf := readmeBlock(t, "haproxy", "backend")
	conf = substitute(t, substitute(t, conf, "bind :80", "bind "+front), "127.0.0.1:8080", addr)
	haproxy := proxies.StartHAProxy(t, conf, nil)
	askReadmeServer(t, front, "v2")
	for { // its health checks leave nothing in the log
		server := haproxy.Servers(t)["go/go1"]
		require.Contains(t, server["status"], "UP")
		if server["check_status"] == "L4OK" {
			break
		}
	}
}
