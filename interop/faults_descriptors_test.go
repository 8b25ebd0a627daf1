package interop

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/program"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// A server with few descriptors is a process of its own: this test's binary, told by the environment.
const (
	fewDescriptorsEnv = "PROXYPROTO_TEST_FEW_DESCRIPTORS"
	fewDescriptors    = 64
)

// failures counts what the inner listener's Accept fails with.
type failures struct {
	net.Listener
	emfile, other atomic.Int64
}

func (f *failures) Accept() (net.Conn, error) {
	c, err := f.Listener.Accept()
	switch {
	case errors.Is(err, syscall.EMFILE):
		f.emfile.Add(1)
	case err != nil:
		f.other.Add(1)
	}
	return c, err
}

func init() {
	if os.Getenv(fewDescriptorsEnv) != "" {
		serveWithFewDescriptors()
		os.Exit(0)
	}
}

// serveWithFewDescriptors is that server. It prints its address, and then for each line of input how
// it is.
func serveWithFewDescriptors() {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	must(syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: fewDescriptors, Max: fewDescriptors}))
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	f := &failures{Listener: inner}
	ln, err := proxyproto.NewListener(f, &proxyproto.Config{
		Policy:        proxyproto.Trust(netip.MustParsePrefix("127.0.0.1/32")),
		HeaderTimeout: time.Hour,
	})
	must(err)
	server := &http.Server{Handler: http.HandlerFunc(whoami), ErrorLog: log.New(io.Discard, "", 0)}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	fmt.Println(ln.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		select {
		case err := <-ended:
			fmt.Println("ended", err)
			return
		default:
		}
		s := ln.Stats()
		fmt.Println(f.emfile.Load(), f.other.Load(), s.Accepted, s.Pending, s.V1, s.TotalDropped()+s.Probes, runtime.NumGoroutine())
	}
}

// scarce is the server's process as the test sees it.
type scarce struct {
	addr string
	in   io.Writer
	out  *bufio.Reader
}

type scarceStats struct {
	emfile, other, accepted, pending, served, refused, goroutines int
}

func startScarce(t *testing.T) *scarce {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), fewDescriptorsEnv+"=1")
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	require.NoError(t, err)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	wait, err := program.Begin(child)
	require.NoError(t, err)
	t.Cleanup(func() {
		in.Close()
		wait()
	})
	s := &scarce{in: in, out: bufio.NewReader(out)}
	line, err := s.out.ReadString('\n')
	require.NoError(t, err)
	s.addr = strings.TrimSpace(line)
	return s
}

func (s *scarce) stats(t *testing.T) (st scarceStats) {
	t.Helper()
	_, err := fmt.Fprintln(s.in)
	require.NoError(t, err)
	line, err := s.out.ReadString('\n')
	require.NoError(t, err)
	_, err = fmt.Sscan(line, &st.emfile, &st.other, &st.accepted, &st.pending, &st.served, &st.refused, &st.goroutines)
	require.NoError(t, err, line)
	return st
}

// A server whose descriptors run out serves again as soon as some are free.
func TestFaultDescriptorsRunOut(t *testing.T) {
	const peers = 3 * fewDescriptors
	for name, send := range map[string]string{
		"silent peers":  "",
		"half a header": "PROXY TCP4 192.0.2.1 ",
		"idle clients":  "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			server := startScarce(t)
			good := func(i int) {
				c, err := proxies.DialFrom(netip.MustParseAddr(proxies.Proxy), server.addr)
				require.NoError(t, err)
				defer c.Close()
				client := fmt.Sprintf("192.0.2.%d:%d", i%256, 1000+i)
				host, port, _ := net.SplitHostPort(client)
				fmt.Fprintf(c, "PROXY TCP4 %s 192.0.2.2 %s 443\r\n", host, port)
				require.NoError(t, askHTTP(c, client+" -> 192.0.2.2:443"))
			}
			good(0)
			before := server.stats(t)
			for round := range 3 {
				var held []net.Conn
				for range peers {
					c, err := proxies.DialFrom(netip.MustParseAddr(proxies.Proxy), server.addr)
					require.NoError(t, err)
					_, err = io.WriteString(c, send)
					require.NoError(t, err)
					held = append(held, c)
				}
				failed := eventually(t, server, "descriptors run out", func(s scarceStats) bool { return s.emfile > before.emfile })
				assert.Less(t, failed.accepted-failed.refused, peers*(round+1)+before.accepted)
				for _, c := range held {
					c.Close()
				}
				for i := range 20 {
					good(i)
				}
				before = eventually(t, server, "all is as before", func(s scarceStats) bool {
					return s.pending == 0 && s.accepted == s.served+s.refused && s.goroutines <= before.goroutines+2
				})
				assert.Zero(t, before.other)
			}
			t.Logf("%d descriptors, %d peers three times: %d times EMFILE, %d accepted, %d served, %d refused",
				fewDescriptors, peers, before.emfile, before.accepted, before.served, before.refused)
		})
	}
}

func eventually(t *testing.T, server *scarce, what string, cond func(scarceStats) bool) (s scarceStats) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		if s = server.stats(t); cond(s) {
			return s
		}
		require.Less(t, time.Since(start), proxies.Timeout, "%s: %+v", what, s)
	}
}
