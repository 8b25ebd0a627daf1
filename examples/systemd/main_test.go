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

const header = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"

// What the file says is true: clients that come before the service, and while it is started again,
// are served with their headers, and one whose request is under way when it ends gets its answer.
func TestSocketActivation(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	socket, err := ln.(*net.TCPListener).File()
	require.NoError(t, err)
	defer socket.Close()
	addr := ln.Addr().String()
	const whole = header + "GET / HTTP/1.0\r\n\r\n"
	waiting := program.Dial(t, 0, addr, whole) // the client comes before the service does
	first, started := start(t, socket)
	assert.Equal(t, addr, started)
	pid := answeredBy(t, waiting)

	underWay := program.Dial(t, 1, addr, header+"POST / HTTP/1.1\r\nHost: example.com\r\n"+
		"Connection: close\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
	_, err = io.ReadFull(underWay, make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n")))
	require.NoError(t, err)
	headless := program.Dial(t, 2, addr, header[:20])
	assert.NotEmpty(t, answeredBy(t, program.Dial(t, 3, addr, whole))) // they are accepted
	require.NoError(t, first.Process.Signal(syscall.SIGTERM))
	_, err = io.ReadAll(headless) // ends when the service begins to
	assert.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	waiting = program.Dial(t, 4, addr, whole)
	_, err = io.WriteString(underWay, "x")
	require.NoError(t, err)
	assert.Equal(t, pid, answeredBy(t, underWay))
	state, err := first.Process.Wait()
	require.NoError(t, err)
	assert.True(t, state.Success(), "%v", state)

	start(t, socket)
	assert.NotEqual(t, pid, answeredBy(t, waiting))
}

// start starts the service on a socket, as systemd does.
func start(t *testing.T, socket *os.File) (service *exec.Cmd, addr string) {
	t.Helper()
	// The shell knows the process id that it passes on to what it execs.
	service = exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`},
		program.Command("-trust", "127.0.0.0/8").Args...)...)
	service.Env = append(os.Environ(), "LISTEN_FDS=1")
	service.ExtraFiles = []*os.File{socket} // descriptor 3
	addr, _ = program.StartCommand(t, service)
	return service, addr
}

// answeredBy returns the process that answers a client.
func answeredBy(t *testing.T, c net.Conn) (pid string) {
	t.Helper()
	answer, err := io.ReadAll(c)
	require.NoError(t, err)
	said := regexp.MustCompile(`hello 192\.0\.2\.7:56324, process (\d+)\n`).
		FindStringSubmatch(string(answer))
	require.NotNil(t, said, "%s", answer)
	return said[1]
}

func TestSocketOfAnotherProcess(t *testing.T) {
	t.Setenv("LISTEN_PID", "1")
	t.Setenv("LISTEN_FDS", "1")
	_, err := activated()
	assert.ErrorContains(t, err, "no socket")
}
