// Package program runs the examples that stand between clients and a server, for their tests.
package program

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// Build builds the program in the test's directory, and returns the path of the binary.
func Build(t testing.TB) string {
	t.Helper()
	_, err := os.Stat("main.go") // or a cached result of the test would stand when only main has changed
	require.NoError(t, err)
	binary := filepath.Join(t.TempDir(), "example")
	out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return binary
}

// Start starts the program on a free port, and returns the address that it says it listens on.
// It is killed when the test ends.
func Start(t testing.TB, binary string, args ...string) string {
	t.Helper()
	command := exec.Command(binary, append(args, "-listen", "127.0.0.1:0")...)
	stderr, err := command.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	log := bufio.NewReader(stderr)
	line, err := log.ReadString('\n')
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		rest, _ := io.ReadAll(log)
		if t.Failed() {
			t.Logf("%s wrote:\n%s%s", filepath.Base(binary), line, rest)
		}
	}()
	t.Cleanup(func() {
		command.Process.Kill()
		<-logged
		command.Wait()
	})
	require.NoError(t, err)
	_, addr, found := strings.Cut(strings.TrimSpace(line), "listening on ")
	require.True(t, found, line)
	return addr
}

// Listen returns a Listener that requires headers, on a free port.
func Listen(t testing.TB) *proxyproto.Listener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln
}

// Client is a dialer for the client with this number: each has an address of its own where the
// system has them.
func Client(i int) *net.Dialer {
	d := new(net.Dialer)
	if runtime.GOOS == "linux" {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 16, byte(i>>8), byte(1+i))}
	}
	return d
}

// Dial connects as that client and sends what is given. The connection has a deadline.
func Dial(t testing.TB, i int, addr, send string) *net.TCPConn {
	t.Helper()
	c, err := Client(i).Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(c, send)
	require.NoError(t, err)
	return c.(*net.TCPConn)
}

// Describe says in a line what a connection's header said.
func Describe(c net.Conn) string {
	conn, ok := proxyproto.FromConn(c)
	if !ok || conn.Header() == nil {
		return "no header"
	}
	h := conn.Header()
	return fmt.Sprintf("%v %v %v -> %v, TLVs %x", h.Version, h.Command, c.RemoteAddr(), c.LocalAddr(), []byte(h.TLVs))
}
