package agent

import (
	"fmt"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed2e8fe8ee/proxyproto"
)

// Benchmarks whose contenders take turns, and whose times are medians of the rounds:
//
//	go test -run '^$' -bench . -benchtime 1x -v .
const (
	rounds   = 61
	perRound = 200
)

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// BenchmarkAccept measures accept alone, of connections that are in the queue already.
func BenchmarkAccept(b *testing.B) {
	attach(b, all)
	s := newSender(b, cgroup)
	inner := listen(b, "tcp4", "127.0.0.1:0", true)
	ln := wrap(b, inner)
	o := option(254, claim4(1))
	contenders := []struct {
		name   string
		ln     net.Listener
		option []byte
	}{
		{"bare", inner, o},
		{"bare-again", inner, o},
		{"skip", wrapAs(b, inner, proxyproto.Skip), o},
		{"option", ln, o},
		{"no-option", ln, nil},
	}
	for range b.N {
		times := make([][]float64, len(contenders))
		ratios := make([][]float64, len(contenders))
		allocs := make([]float64, len(contenders))
		for round := range rounds {
			inRound := make([]float64, len(contenders))
			for turn := range contenders {
				i := (turn + round) % len(contenders)
				ns, mallocs := acceptRound(b, s, contenders[i].ln, contenders[i].option)
				inRound[i] = ns
				allocs[i] += mallocs / rounds
			}
			for i, ns := range inRound {
				times[i] = append(times[i], ns)
				ratios[i] = append(ratios[i], ns/inRound[0])
			}
		}
		for i, c := range contenders {
			b.Logf("accept, %-10s %6.0f ns (fastest round %.0f), %.3f of bare, %.1f allocations",
				c.name, median(times[i]), slices.Min(times[i]), median(ratios[i]), allocs[i])
			b.ReportMetric(median(times[i]), c.name+"-ns")
		}
	}
}

// acceptRound returns the time and the allocations of an Accept.
func acceptRound(b *testing.B, s *sender, ln net.Listener, option []byte) (ns, mallocs float64) {
	conns := make([]net.Conn, 0, 2*perRound)
	for range perRound {
		c, err := s.dial("tcp4", ln.Addr().String(), option, sendOnce, false)
		require.NoError(b, err)
		conns = append(conns, c)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	for range perRound {
		c, err := ln.Accept()
		if err != nil {
			b.Fatal(err)
		}
		conns = append(conns, c)
	}
	ns = float64(time.Since(start).Nanoseconds()) / perRound
	runtime.ReadMemStats(&after)
	for _, c := range conns {
		c.(interface{ SetLinger(int) error }).SetLinger(0)
		c.Close()
	}
	return ns, float64(after.Mallocs-before.Mallocs) / perRound
}

// BenchmarkOtherGetsockopt measures what the program costs every other getsockopt of the cgroup.
func BenchmarkOtherGetsockopt(b *testing.B) {
	inner := listen(b, "tcp4", "127.0.0.1:0", false)
	socket, err := inner.(*net.TCPListener).SyscallConn()
	require.NoError(b, err)
	measure := func() (ns float64) {
		require.NoError(b, socket.Control(func(fd uintptr) {
			const calls = 5000
			start := time.Now()
			for range calls {
				unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY)
			}
			ns = float64(time.Since(start).Nanoseconds()) / calls
		}))
		return ns
	}
	formats, err := ParseFormats(all)
	require.NoError(b, err)
	dir := pins(b)
	for range b.N {
		var with, without []float64
		for range 15 {
			without = append(without, measure())
			_, err := Attach(Config{Cgroup: cgroup, Dir: dir, Formats: formats})
			require.NoError(b, err)
			with = append(with, measure())
			require.NoError(b, Detach(dir))
		}
		b.Logf("another getsockopt: %.0f ns (fastest round %.0f), with the agent %.0f ns (%.0f)",
			median(without), slices.Min(without), median(with), slices.Min(with))
		b.ReportMetric(median(with)-median(without), "more-ns")
	}
}

// BenchmarkProgram measures the program that reads, by the kernel's own count.
func BenchmarkProgram(b *testing.B) {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	require.NoError(b, err)
	defer stats.Close()
	dir := pins(b)
	formats, err := ParseFormats(all)
	require.NoError(b, err)
	_, err = Attach(Config{Cgroup: cgroup, Dir: dir, Formats: formats})
	require.NoError(b, err)
	l, err := link.LoadPinnedLink(dir+"/"+pinSockOps, nil)
	require.NoError(b, err)
	defer l.Close()
	info, err := l.Info()
	require.NoError(b, err)
	p, err := ebpf.NewProgramFromID(info.Program)
	require.NoError(b, err)
	defer p.Close()
	inner := listen(b, "tcp4", "127.0.0.1:0", true)
	require.NoError(b, enter(elsewhere)) // so that the clients' sockets don't count
	defer enter(cgroup)
	s := newSender(b, elsewhere)
	for range b.N {
		for _, o := range [][]byte{nil, option(254, claim4(1)), option(253, claim6(1))} {
			var times []float64
			for range rounds {
				before, err := p.Stats()
				require.NoError(b, err)
				for range perRound {
					c, err := s.dial("tcp4", inner.Addr().String(), o, sendOnce, false)
					require.NoError(b, err)
					accepted, err := inner.Accept()
					require.NoError(b, err)
					c.SetLinger(0)
					c.Close()
					accepted.Close()
				}
				after, err := p.Stats()
				require.NoError(b, err)
				times = append(times, float64(after.Runtime-before.Runtime)/perRound)
			}
			b.Logf("program, %2d bytes of option: %.0f ns a connection", len(o), median(times))
			b.ReportMetric(median(times), fmt.Sprintf("%d-bytes-ns", len(o)))
		}
	}
}
