// Package program runs examples for their tests.
package program

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
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

var binary string

// Main is for TestMain: it builds the program in the test's directory before the tests run, for
// Start and Run.
func Main(m *testing.M) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	os.Stat("main.go") // or a cached result of the tests would stand when only main has changed
	if binary, err = Build(dir, "."); err != nil {
		log.Fatal(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// Build builds the program of a package and returns its path in dir.
func Build(dir, pkg string) (string, error) {
	path := filepath.Join(dir, "example")
	if out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
}

// Run runs the program to its end, which is an error if that is its exit code, and returns what
// it wrote.
func Run(args ...string) (string, error) {
	// It may serve, against what is expected.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	args = append(args, "-listen", "127.0.0.1:0")
	command := exec.CommandContext(ctx, binary, args...)
	var out strings.Builder
	command.Stdout, command.Stderr = &out, &out
	wait, err := Begin(command)
	if err == nil {
		err = wait()
	}
	return out.String(), err
}

// Start starts the program on a free port, and returns the address that it says it listens on.
// It is killed when the test ends.
func Start(t testing.TB, args ...string) string {
	t.Helper()
	addr, _ := StartLogged(t, args...)
	return addr
}

// StartLogged is Start that also returns the lines that the program writes from then on.
func StartLogged(t testing.TB, args ...string) (addr string, lines <-chan string) {
	t.Helper()
	return StartCommand(t, exec.Command(binary, append(args, "-listen", "127.0.0.1:0")...))
}

// StartBinary is Start for a program that Build has built.
func StartBinary(t testing.TB, path string, args ...string) string {
	t.Helper()
	addr, _ := StartCommand(t, exec.Command(path, append(args, "-listen", "127.0.0.1:0")...))
	return addr
}

// Command is the program with these arguments, for StartCommand.
func Command(args ...string) *exec.Cmd { return exec.Command(binary, args...) }

// StartCommand is StartLogged for a command that may listen where it likes, and writes where in its
// first line.
func StartCommand(t testing.TB, command *exec.Cmd) (addr string, lines <-chan string) {
	t.Helper()
	stderr, err := command.StderrPipe()
	require.NoError(t, err)
	wait, err := Begin(command)
	require.NoError(t, err)
	output := bufio.NewReader(stderr)
	line, err := output.ReadString('\n')
	logged, all := make(chan bool), make(chan string, 1000)
	go func() {
		defer close(logged)
		defer close(all)
		written := line
		for {
			next, err := output.ReadString('\n')
			if err != nil {
				break
			}
			written += next
			select {
			case all <- strings.TrimSpace(next):
			default: // nobody reads them
			}
		}
		if t.Failed() {
			t.Logf("the program wrote:\n%s", written)
		}
	}()
	t.Cleanup(func() {
		command.Process.Kill()
		<-logged
		wait()
	})
	require.NoError(t, err)
	_, addr, found := strings.Cut(strings.TrimSpace(line), "listening on ")
	require.True(t, found, line)
	return addr, all
}

// Listen returns a Listener that requires headers, on a free port.
func Listen(t testing.TB) *proxyproto.Listener {
	t.Helper()
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0",
		&proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
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
	return fmt.Sprintf("%v %v %v -> %v, TLVs %x", h.Version, h.Command, c.RemoteAddr(),
		c.LocalAddr(), []byte(h.TLVs))
}
