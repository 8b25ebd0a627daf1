package interop

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// A restartable proxy can be reloaded, and killed and started anew where it was.
type restartable struct {
	name   string
	reload syscall.Signal
	start  func(t *testing.T, addr, backend string) *proxies.Process
}

var restartables = []restartable{
	{"haproxy", syscall.SIGUSR2, func(t *testing.T, addr, backend string) *proxies.Process {
		dir := proxies.Dir(t, map[string]string{"haproxy.cfg": fmt.Sprintf(`
global
	maxconn 4000
	nbthread 2

defaults
	mode tcp
	timeout connect 60s
	timeout client 120s
	timeout server 120s

listen reloaded
	bind %s
	server backend %s send-proxy-v2
`, addr, backend)})
		return proxies.Start(t, proxies.Spec{
			Program: "haproxy",
			Args:    []string{"-W", "-db", "-f", "haproxy.cfg"}, // a master that reloads
			Dir:     dir,
			Ready:   proxies.Dials("tcp", addr),
		})
	}},
	{"nginx", syscall.SIGHUP, func(t *testing.T, addr, backend string) *proxies.Process {
		return proxies.StartNginx(t, nginxServer(addr, backend, "proxy_protocol on;"), nil).Process
	}},
}

// HAProxy and nginx are reloaded and killed while clients come: who gets an answer gets the right one.
func TestFaultProxiesReloadedAndKilled(t *testing.T) {
	const times, between = 3, 150 // answered connections, before and after each blow
	for _, proxy := range restartables {
		t.Run(proxy.name, func(t *testing.T) {
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			policy, err := proxyproto.ParseTrust(proxies.Proxy)
			require.NoError(t, err)
			ln, err := proxyproto.NewListener(inner, &proxyproto.Config{Policy: policy, HeaderTimeout: proxies.Timeout})
			require.NoError(t, err)
			defer ln.Close()
			go answerWhoIsThere(ln)
			addr := proxies.FreeAddr(t)
			process := proxy.start(t, addr, inner.Addr().String())

			load := startLoad(addr)
			defer load.stop()
			for range times {
				load.more(t, between)
				workers := children(t, process.Pid())
				process.Signal(t, proxy.reload)
				require.Eventually(t, func() bool {
					return slices.ContainsFunc(children(t, process.Pid()), func(pid int) bool { return !slices.Contains(workers, pid) })
				}, proxies.Timeout, time.Millisecond, "new workers")
			}
			reloaded := load.String()
			for range times {
				load.more(t, between)
				process.Kill()
				process = proxy.start(t, addr, inner.Addr().String())
			}
			load.more(t, between)
			load.stop()
			require.Eventually(t, func() bool { return ln.Stats().Pending == 0 }, proxies.Timeout, time.Millisecond)
			s := ln.Stats()
			t.Logf("%d reloads: %s; %d times SIGKILL: %v; server: v1 %d, v2 %d, dropped %d, probes %d",
				times, reloaded, times, load, s.V1, s.V2, s.TotalDropped(), s.Probes)
			assert.Empty(t, load.wrong)
			assert.GreaterOrEqual(t, s.V1+s.V2, uint64(load.answered.Load()))
			// What a killed proxy leaves is a header cut off at most, never another.
			assert.Equal(t, s.TotalDropped(), s.Dropped[proxyproto.ReasonIncomplete]+s.Dropped[proxyproto.ReasonBroken])
		})
	}
}

// answerWhoIsThere answers a line by that and the client's address, some with much before it.
func answerWhoIsThere(ln net.Listener) {
	padding := bytes.Repeat([]byte("."), 64<<10)
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			line, err := bufio.NewReader(c).ReadString('\n')
			if err != nil {
				return
			}
			var i int
			fmt.Sscanf(line, "connection %d", &i)
			c.Write(padding[:i%3*(len(padding)/2)])
			fmt.Fprintf(c, "\nconnection %d %v\n", i, c.RemoteAddr())
		}()
	}
}

// load is clients that come one after the other, whatever happens to those before.
type load struct {
	answered, unanswered atomic.Int64
	ending               atomic.Bool
	all                  sync.WaitGroup

	mu    sync.Mutex
	wrong []string
}

func startLoad(addr string) *load {
	const workers = 8
	l := &load{}
	for worker := range workers {
		l.all.Go(func() {
			for i := worker; !l.ending.Load(); i += workers {
				l.one(addr, i)
			}
		})
	}
	return l
}

func (l *load) one(addr string, i int) {
	c, err := proxies.Dial(i, addr)
	if err != nil {
		l.unanswered.Add(1)
		time.Sleep(time.Millisecond) // while the proxy is down
		return
	}
	defer c.Close()
	fmt.Fprintf(c, "connection %d\n", i)
	answer, _ := io.ReadAll(c)
	whole := strings.HasSuffix(string(answer), "\n")
	_, said, found := strings.Cut(strings.TrimLeft(string(answer), "."), "\n")
	if !whole || !found || said == "" {
		l.unanswered.Add(1)
		return
	}
	if want := fmt.Sprintf("connection %d %v\n", i, c.LocalAddr()); said != want {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.wrong = append(l.wrong, fmt.Sprintf("want %q, got %q", want, said))
	}
	l.answered.Add(1)
}

// more waits until n more connections have been answered.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	start := l.answered.Load()
	require.Eventually(t, func() bool { return l.answered.Load() >= start+n }, proxies.Timeout, time.Millisecond)
}

func (l *load) stop() {
	l.ending.Store(true)
	l.all.Wait()
}

func (l *load) String() string {
	return fmt.Sprintf("%d answered, %d not", l.answered.Load(), l.unanswered.Load())
}

// children are the processes whose parent is pid.
func children(t *testing.T, pid int) (all []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		var child, parent int
		var state string
		fmt.Sscanf(string(b), "%d", &child)
		_, rest, _ := strings.Cut(string(b), ") ") // behind the name
		fmt.Sscanf(rest, "%s %d", &state, &parent)
		if parent == pid && state != "Z" {
			all = append(all, child)
		}
	}
	return all
}
