package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "httpserver")
	out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return binary
}

func TestServer(t *testing.T) {
	server := exec.Command(build(t), "-listen", "127.0.0.1:0", "-trust", "127.0.0.0/8")
	log, err := server.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	defer server.Wait()
	defer server.Process.Kill()
	line, err := bufio.NewReader(log).ReadString('\n')
	require.NoError(t, err)
	_, addr, found := strings.Cut(strings.TrimSpace(line), "listening on ")
	require.True(t, found, line)

	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "PROXY TCP4 192.0.2.7 192.0.2.1 56324 80\r\nGET / HTTP/1.0\r\n\r\n")
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	assert.Equal(t, "you are 192.0.2.7:56324\nthe proxy says v1 PROXY TCP4 192.0.2.7:56324 -> 192.0.2.1:80\n", string(body))
}

func TestTrustFlagIsNeeded(t *testing.T) {
	binary := build(t)
	for _, trust := range []string{"", "10.0.0.0/8,nonsense"} {
		out, err := exec.Command(binary, "-listen", "127.0.0.1:0", "-trust", trust).CombinedOutput()
		assert.Error(t, err)
		assert.Contains(t, string(out), "-trust: proxyproto: trusted address")
	}
}
