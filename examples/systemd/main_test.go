//go:build unix

package main

import (
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

func TestMain(m *testing.M) { program.Main(m) }

// What the file says of clients that wait while the service is started again is true: one that
// came before the first, and one that came between it and the second, with its header, is served.
func TestSocketActivation(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	socket, err := ln.(*net.TCPListener).File()
	require.NoError(t, err)
	defer socket.Close()
	var pids [2]string
	for i := range pids {
		c := program.Dial(t, i, ln.Addr().String(), // the client comes before the service does
			"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET / HTTP/1.0\r\n\r\n")
		// The shell knows the process id that it passes on to what it execs.
		service := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`},
			program.Command("-trust", "127.0.0.0/8").Args...)...)
		service.Env = append(os.Environ(), "LISTEN_FDS=1")
		service.ExtraFiles = []*os.File{socket} // descriptor 3
		assert.Equal(t, ln.Addr().String(), program.StartCommand(t, service))

		answer, err := io.ReadAll(c)
		require.NoError(t, err)
		said := regexp.MustCompile(`hello 192\.0\.2\.7:56324, process (\d+)\n`).
			FindStringSubmatch(string(answer))
		require.NotNil(t, said, "%s", answer)
		pids[i] = said[1]
		require.NoError(t, service.Process.Signal(syscall.SIGTERM))
		_, err = service.Process.Wait()
		require.NoError(t, err)
	}
	assert.NotEqual(t, pids[0], pids[1])
}

func TestSocketOfAnotherProcess(t *testing.T) {
	t.Setenv("LISTEN_PID", "1")
	t.Setenv("LISTEN_FDS", "1")
	_, err := activated()
	assert.ErrorContains(t, err, "no socket")
}
