// Package soak drives connections from many client addresses through HAProxy and nginx in turn to a
// Listener, and watches that none is lost or mistaken for another and that nothing piles up.
package soak

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// Clients is the number of different client addresses.
const Clients = 60000

const (
	warmUp     = 2000 // connections before the first measurement
	noiseEvery = 100  // one connection in so many is followed by one to the server that it must refuse
)

// Options says how much there is to do.
type Options struct {
	Connections int           // stop after so many
	Duration    time.Duration // or when so much time has passed, if it isn't zero
	Workers     int           // connections at a time
	Progress    func(string)  // gets a line now and then
}

// Report is what came of it.
type Report struct {
	Connections        int
	Took               time.Duration
	Right              int // answered by the client's own address
	Misattributed      int // answered by another
	Lost               int // not answered
	Noise              int // refused connections beside them
	Wrong              []string
	Start, End         Size
	Stats              proxyproto.Stats
	PerProxy           map[string]int
	DifferentAddresses int
}

// Size is what the process holds.
type Size struct {
	HeapKB                  int64
	Goroutines, Descriptors int
}

func (s Size) String() string {
	return fmt.Sprintf("heap %d KB, %d goroutines, %d descriptors", s.HeapKB, s.Goroutines, s.Descriptors)
}

func (r Report) String() string {
	return fmt.Sprintf(`%d connections from %d addresses in %v (%.0f/s): %v
right %d, misattributed %d, lost %d; %d others, all refused: %v
start: %v
end:   %v`, r.Connections, r.DifferentAddresses, r.Took.Round(time.Second), float64(r.Connections)/r.Took.Seconds(), r.PerProxy,
		r.Right, r.Misattributed, r.Lost, r.Noise, r.Stats.TotalDropped()+r.Stats.Probes == uint64(r.Noise), r.Start, r.End)
}

// Failures says what isn't as it should be.
func (r Report) Failures() (failures []string) {
	check := func(ok bool, format string, args ...any) {
		if !ok {
			failures = append(failures, fmt.Sprintf(format, args...))
		}
	}
	s := r.Stats
	check(len(r.Wrong) == 0, "the first that went wrong:\n%s", strings.Join(r.Wrong, "\n"))
	check(r.Right == r.Connections, "%d of %d were right", r.Right, r.Connections)
	check(s.V1+s.V2 == uint64(r.Connections+warmUp), "the Listener served %d, and there were %d", s.V1+s.V2, r.Connections+warmUp)
	check(s.TotalDropped()+s.Probes == uint64(r.Noise), "%d of %d noisy peers were refused", s.TotalDropped()+s.Probes, r.Noise)
	check(s.Accepted == s.V1+s.V2+s.TotalDropped()+s.Probes, "the counts don't add up: %+v", s)
	check(s.Pending == 0, "%d connections still wait", s.Pending)
	// One goroutine may accept beside the one that waits in Accept.
	check(r.End.Goroutines <= r.Start.Goroutines+1, "goroutines: %d, then %d", r.Start.Goroutines, r.End.Goroutines)
	check(r.End.Descriptors <= r.Start.Descriptors, "descriptors: %d, then %d", r.Start.Descriptors, r.End.Descriptors)
	check(r.End.HeapKB <= r.Start.HeapKB+1024, "heap: %d KB, then %d KB", r.Start.HeapKB, r.End.HeapKB)
	return failures
}

// Run does it.
func Run(t testing.TB, o Options) Report {
	t.Helper()
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	policy, err := proxyproto.ParseTrust(proxies.Proxy)
	require.NoError(t, err)
	inner, err := net.Listen("tcp", proxies.Proxy+":0")
	require.NoError(t, err)
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{Policy: policy, HeaderTimeout: proxies.Timeout})
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	go serve(ln)

	backend := inner.Addr().String()
	fronts := start(t, backend)
	d := &drive{fronts: fronts, backend: backend, perProxy: make([]atomic.Int64, len(fronts)), addrs: make([]atomic.Bool, Clients)}
	d.run(warmUp, 0, o.Workers, false, func(string) {})
	require.Zero(t, d.lost.Load()+d.misattributed.Load(), "warming up: %v", d.wrong)
	warm := d.right.Swap(0)
	require.EqualValues(t, warmUp, warm)
	for i := range d.perProxy {
		d.perProxy[i].Store(0)
	}

	r := Report{PerProxy: map[string]int{}}
	r.Start = settled(ln)
	begin := time.Now()
	r.Connections = d.run(o.Connections, o.Duration, o.Workers, true, func(done string) {
		o.Progress(fmt.Sprintf("%s in %v: %v", done, time.Since(begin).Round(time.Second), size()))
	})
	r.Took = time.Since(begin)
	r.End = settled(ln)
	r.Right, r.Misattributed, r.Lost = int(d.right.Load()), int(d.misattributed.Load()), int(d.lost.Load())
	r.Noise, r.Wrong, r.Stats = int(d.noise.Load()), d.wrong, ln.Stats()
	for i, f := range fronts {
		r.PerProxy[f.name] = int(d.perProxy[i].Load())
	}
	for i := range d.addrs {
		if d.addrs[i].Load() {
			r.DifferentAddresses++
		}
	}
	return r
}

// serve answers a line by the line and the client's address.
func serve(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			panic(err)
		}
		go func() {
			defer c.Close()
			line, err := bufio.NewReaderSize(c, 64).ReadString('\n')
			if err == nil {
				fmt.Fprintf(c, "%s %v", line[:len(line)-1], c.RemoteAddr())
			}
		}()
	}
}

type front struct{ name, addr string }

// start starts the proxies, each in the ways it can send a header.
func start(t testing.TB, backend string) []front {
	fronts := []front{
		{"haproxy v1", proxies.FreeAddr(t)},
		{"nginx v1", proxies.FreeAddr(t)},
		{"haproxy v2", proxies.FreeAddr(t)},
		{"haproxy v2 with TLVs", proxies.FreeAddr(t)},
	}
	proxies.StartHAProxy(t, fmt.Sprintf(`
listen v1
	bind %s
	server backend %s send-proxy
listen v2
	bind %s
	server backend %s send-proxy-v2
listen tlvs
	bind %s
	unique-id-format %%ci:%%cp:%%Ts:%%rt
	server backend %s send-proxy-v2 proxy-v2-options crc32c,unique-id
`, fronts[0].addr, backend, fronts[2].addr, backend, fronts[3].addr, backend), nil)
	proxies.StartNginx(t, fmt.Sprintf(`
	server {
		listen %s;
		proxy_pass %s;
		proxy_protocol on;
	}
`, fronts[1].addr, backend), nil)
	return fronts
}

// clientAddr is the address of connection i's client: one after the other has its turn.
func clientAddr(i int) netip.Addr {
	n := uint32(i%Clients) * 17 // in 127.16.0.0/12
	return netip.AddrFrom4([4]byte{127, 16 | byte(n>>16), byte(n >> 8), byte(n)})
}

type drive struct {
	fronts  []front
	backend string

	right, misattributed, lost, noise atomic.Int64
	perProxy                          []atomic.Int64
	addrs                             []atomic.Bool

	mu    sync.Mutex
	wrong []string
}

// run drives n connections, or as many as it can in the time.
func (d *drive) run(n int, duration time.Duration, workers int, noise bool, progress func(string)) int {
	var next, done atomic.Int64
	begin := time.Now()
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for duration == 0 || time.Since(begin) < duration {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				d.one(i)
				if noise && i%noiseEvery == 0 {
					d.disturb(i / noiseEvery)
				}
				if m := done.Add(1); m%50000 == 0 {
					progress(fmt.Sprintf("%d connections, %d right", m, d.right.Load()))
				}
			}
		})
	}
	all.Wait()
	return int(done.Load())
}

// one is one connection.
func (d *drive) one(i int) {
	front := i % len(d.fronts)
	from := clientAddr(i)
	d.addrs[i%Clients].Store(true)
	want, answer, err := d.ask(from, d.fronts[front].addr, i)
	d.perProxy[front].Add(1)
	switch {
	case err == nil && answer == want:
		d.right.Add(1)
		return
	case err == nil && answer != "":
		d.misattributed.Add(1)
	default:
		d.lost.Add(1)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.wrong) < 10 {
		d.wrong = append(d.wrong, fmt.Sprintf("%d from %v by %s: want %q, got %q, %v", i, from, d.fronts[front].name, want, answer, err))
	}
}

func (d *drive) ask(from netip.Addr, addr string, i int) (want, answer string, err error) {
	c, err := proxies.DialFrom(from, addr)
	if err != nil {
		return "", "", err
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "connection %d\n", i); err != nil {
		return "", "", err
	}
	b, err := io.ReadAll(c)
	return fmt.Sprintf("connection %d %v", i, c.LocalAddr()), string(b), err
}

// disturb connects to the server as somebody who is to be refused, and waits until it is.
func (d *drive) disturb(i int) {
	from, send := netip.MustParseAddr(proxies.Proxy), ""
	switch i % 5 {
	case 0: // not trusted
		from, send = clientAddr(i), "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
	case 1: // no header
		send = "GET / HTTP/1.1\r\n\r\n"
	case 2: // a broken one
		send = "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n"
	case 3: // half a one
		send = "PROXY TCP4 192.0.2.1"
	case 4: // a probe
	}
	c, err := proxies.DialFrom(from, d.backend)
	if err != nil {
		d.lost.Add(1)
		return
	}
	defer c.Close()
	io.WriteString(c, send)
	c.(*net.TCPConn).CloseWrite()
	if b, _ := io.ReadAll(c); len(b) > 0 {
		d.misattributed.Add(1)
	}
	d.noise.Add(1)
}

// settled is the size once nothing is under way any more.
func settled(ln *proxyproto.Listener) Size {
	s := size()
	for still := 0; still < 5; {
		time.Sleep(20 * time.Millisecond) // for the last connections' goroutines to end; then nothing changes
		next := size()
		if next.Goroutines == s.Goroutines && next.Descriptors == s.Descriptors && ln.Stats().Pending == 0 {
			still++
		} else {
			still = 0
		}
		s = next
	}
	return s
}

func size() Size {
	runtime.GC()
	runtime.GC() // what was in a sync.Pool goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, _ := os.ReadDir("/proc/self/fd")
	return Size{int64(m.HeapAlloc) >> 10, runtime.NumGoroutine(), len(fds)}
}
