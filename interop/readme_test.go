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
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/program"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// readmeBlock returns the code block of README.md in a language that contains a text.
func readmeBlock(t *testing.T, language, text string) string {
	t.Helper()
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```" + language + "\n(.*?)```\n")
	for _, b := range blocks.FindAllStringSubmatch(string(readme), -1) {
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

// startReadmeServer does what README.md says from the checkout to the running server, as somebody
// whose module cache is empty and who isn't on the Internet; only the server's port is a free
// one. The server must have logged nothing when the test ends.
func startReadmeServer(t *testing.T) (addr string) {
	t.Helper()
	start := time.Now()
	dir := t.TempDir()
	hello := filepath.Join(dir, "hello")
	require.NoError(t, os.Mkdir(hello, 0o700))
	checkout, err := filepath.Abs("..")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(checkout, filepath.Join(dir, "proxyproto")))
	sh := func(commands string) {
		t.Helper()
		cmd := exec.Command("sh", "-e", "-c", commands)
		cmd.Dir = hello
		cmd.Env = append(os.Environ(), "GOMODCACHE="+filepath.Join(dir, "modules"),
			"GOFLAGS=-modcacherw", "GOPROXY=off", "GOWORK=off")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", commands, out)
	}
	sh(readmeBlock(t, "sh", "go mod init"))
	addr = proxies.FreeAddr(t)
	source := substitute(t, readmeBlock(t, "go", "func main"), "127.0.0.1:8080", addr)
	require.NoError(t, os.WriteFile(filepath.Join(hello, "main.go"), []byte(source), 0o600))
	sh("go build -o hello .") // because go run can't be stopped with what it runs

	server := exec.Command(filepath.Join(hello, "hello"))
	var logged strings.Builder
	server.Stdout, server.Stderr = &logged, &logged
	wait, err := program.Begin(server)
	require.NoError(t, err)
	t.Cleanup(func() {
		server.Process.Kill()
		wait()
		assert.Empty(t, logged.String(), "the server logged something")
	})
	serves := proxies.Dials("tcp", addr) // a probe
	require.Eventually(t, func() bool { return serves() == nil }, proxies.Timeout, 5*time.Millisecond)
	t.Logf("%.1f s from the checkout to the running server", time.Since(start).Seconds())
	return addr
}

// askReadmeServer asks the server as a client behind the proxy at addr.
func askReadmeServer(t *testing.T, addr string) {
	t.Helper()
	for i := range 20 {
		c, err := proxies.Dial(i, addr)
		require.NoError(t, err)
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprintf("you are %v\n", c.LocalAddr()), string(body))
		c.Close()
	}
}

func TestReadmeCurl(t *testing.T) {
	proxies.Need(t, "curl")
	addr := startReadmeServer(t)
	command := substitute(t, readmeBlock(t, "sh", "curl"), "127.0.0.1:8080", addr)
	command = "exec " + substitute(t, command, "curl", "curl -sS")
	out, err := exec.Command("sh", "-c", command).CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Regexp(t, `^you are 127\.0\.0\.1:\d+\n$`, string(out))
}

// README.md's nginx.conf starts as it stands, but for the ports and for what would meet the
// system's own nginx.
func TestReadmeNginx(t *testing.T) {
	addr, front := startReadmeServer(t), proxies.FreeAddr(t)
	conf := readmeBlock(t, "nginx", "stream")
	conf = substitute(t, conf, "listen 8000;", "listen "+front+";")
	conf = substitute(t, conf, "127.0.0.1:8080", addr)
	dir := proxies.Dir(t, map[string]string{"nginx.conf": conf})
	proxies.Start(t, proxies.Spec{
		Program: "nginx",
		Args: []string{"-p", dir, "-c", "nginx.conf", "-e", "stderr",
			"-g", "daemon off; pid nginx.pid; error_log stderr warn;"},
		Dir:   dir,
		Ready: proxies.Dials("tcp", front),
	})
	askReadmeServer(t, front)
}

// README.md's haproxy.cfg is whole, and works.
func TestReadmeHAProxy(t *testing.T) {
	addr, front := startReadmeServer(t), proxies.FreeAddr(t)
	conf := readmeBlock(t, "haproxy", "backend")
	whole := proxies.Dir(t, map[string]string{"haproxy.cfg": conf})
	check := exec.Command(proxies.Need(t, "haproxy"), "-c", "-f", "haproxy.cfg")
	check.Dir = whole
	out, err := check.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.NotContains(t, string(out), "WARNING")

	conf = substitute(t, substitute(t, conf, "bind :8000", "bind "+front), "127.0.0.1:8080", addr)
	haproxy := proxies.StartHAProxy(t, conf, nil)
	askReadmeServer(t, front)
	for { // its health checks leave nothing in the log
		server := haproxy.Servers(t)["go/go1"]
		require.Contains(t, server["status"], "UP")
		if server["check_status"] == "L4OK" {
			break
		}
	}
}
