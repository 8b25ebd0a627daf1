//go:build unix

package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests start their own binary as the example's.
func TestMain(m *testing.M) {
	if os.Getenv("RUN_EXAMPLE") != "" {
		main()
	}
	os.Exit(m.Run())
}

func TestSocketActivation(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	socket, err := ln.(*net.TCPListener).File()
	require.NoError(t, err)
	defer socket.Close()

	// The client comes before the service does.
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(c, "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET / HTTP/1.0\r\n\r\n")
	require.NoError(t, err)

	// The shell knows the process id that it passes on to what it execs.
	service := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
	service.Env = append(os.Environ(), "RUN_EXAMPLE=1", "LISTEN_FDS=1")
	service.ExtraFiles = []*os.File{socket} // descriptor 3
	service.Stderr = os.Stderr
	require.NoError(t, service.Start())
	ended := make(chan error, 1)
	go func() {
		ended <- service.Wait()
		c.Close()
	}()
	t.Cleanup(func() {
		service.Process.Kill()
		<-ended
	})

	answer, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.Contains(t, string(answer), fmt.Sprintf("hello 192.0.2.7:56324, process %d\n", service.Process.Pid))
}

func TestSocketOfAnotherProcess(t *testing.T) {
	t.Setenv("LISTEN_PID", "1")
	t.Setenv("LISTEN_FDS", "1")
	_, err := activated()
	assert.ErrorContains(t, err, "no socket")
}
