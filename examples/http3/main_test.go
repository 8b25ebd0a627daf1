package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The server and the relay, as the commands above main say, and a client.
func TestServerBehindRelay(t *testing.T) {
	server := start(t, ".", "-listen", ":0", "-trust", "127.0.0.0/8")
	_, port, err := net.SplitHostPort(server)
	require.NoError(t, err)
	relay := start(t, "../../examples/udprelay", "-listen", "127.0.0.1:0", "-to", "127.0.0.3:"+port)

	transport := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.Close()
	client := &http.Client{Transport: transport}
	for range 3 {
		resp, err := client.Get("https://" + relay)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.NoError(t, err)
		var is, proxy, to string
		_, err = fmt.Sscanf(string(body), "you are %s through %s to %s\n", &is, &proxy, &to)
		require.NoError(t, err, "%s", body)
		assert.True(t, strings.HasPrefix(is, "127.0.0.1:") && strings.HasSuffix(is, ","), is)
		assert.Equal(t, "127.0.0.1", proxy)
		assert.Equal(t, relay, to)
	}
}

// start builds and starts a program, and returns the address that it listens on.
func start(t *testing.T, dir string, args ...string) string {
	binary := filepath.Join(t.TempDir(), "program")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Dir = dir
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	c := exec.Command(binary, args...)
	log, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	lines := bufio.NewReader(log)
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	for {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		if _, addr, found := strings.Cut(strings.TrimSpace(line), "listening on "); found {
			go io.Copy(io.Discard, lines)
			return addr
		}
	}
}
