//go:build unix

package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

func TestMain(m *testing.M) { program.Main(m) }

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stale, err := net.Listen("unix", path)
	require.NoError(t, err)
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, stale.Close())
	addr, _ := program.StartCommand(t, program.Command("-listen", path))
	require.Equal(t, path, addr)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	assert.Contains(t, ask(t, path, "PROXY TCP4 192.0.2.7 198.51.100.1 56324 80\r\n"),
		"hello 192.0.2.7:56324\n"+
			"the header says v1 PROXY TCP4 192.0.2.7:56324 -> 198.51.100.1:80\n")
	assert.Empty(t, ask(t, path, ""), "without a header")
}

// ask sends a request, after what is given, and returns all that comes back.
func ask(t *testing.T, path, before string) string {
	t.Helper()
	c, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	io.WriteString(c, before+"GET / HTTP/1.0\r\n\r\n") // fails if the peer is rejected already
	answer, _ := io.ReadAll(c)
	return string(answer)
}

// A file that isn't a socket stays.
func TestOtherFileStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600))
	_, err := listenUnix(path, 0o600, proxyproto.Always(proxyproto.Require))
	assert.Error(t, err)
	assert.FileExists(t, path)
}
