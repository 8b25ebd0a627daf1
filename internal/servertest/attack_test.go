//go:build linux

package servertest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

// The attacks need many descriptors at both ends, so the attackers are a process of their own: this
// test's binary, told by the environment.
const attackerEnv = "PROXYPROTO_TEST_ATTACK"

const (
	attackers     = 8000
	attackRounds  = 20
	attackPending = 1000
	goodPerRound  = 10
)

func init() {
	if addr, kind, ok := strings.Cut(os.Getenv(attackerEnv), " "); ok {
		attack(addr, kind)
		os.Exit(0)
	}
}

// attack is the attackers' process. Each line of its input is a round: so many more of them
// connect, and all that are connected do what they do.
func attack(addr, kind string) {
	opening, drip := slowPeer(kind)
	type peer struct {
		conn net.Conn
		sent int // of drip
	}
	var peers []*peer
	var n int
	for in := bufio.NewReader(os.Stdin); ; {
		if _, err := fmt.Fscanln(in, &n); err != nil {
			return
		}
		for _, p := range peers {
			if p.sent < len(drip) {
				io.WriteString(p.conn, drip[p.sent:p.sent+1]) // in vain where it was closed
				p.sent++
			}
		}
		var mu sync.Mutex
		var dialing sync.WaitGroup
		for worker := range 8 {
			dialing.Go(func() {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, 0, byte(1+worker))}}
				for range n / 8 {
					c, err := d.Dial("tcp", addr)
					if err != nil {
						panic(err)
					}
					io.WriteString(c, opening)
					mu.Lock()
					peers = append(peers, &peer{conn: c})
					mu.Unlock()
				}
			})
		}
		dialing.Wait()
		fmt.Println("connected", len(peers))
	}
}

// slowPeer is what a slow peer sends when it connects, and what it then sends byte by byte.
func slowPeer(kind string) (opening, drip string) {
	switch kind {
	case "silent":
		return "", ""
	case "dripping":
		return "", testLineV1[:attackRounds+1]
	case "line without its last byte":
		return testLineV1[:len(testLineV1)-1], ""
	case "4 KB without the last byte":
		h := testHeader()
		h.TLVs, _ = h.TLVs.Append(TypeNoop, make([]byte, defaultMaxHeaderSize-lenV2-lenIPv4-lenTLV))
		longest, err := h.AppendTo(nil)
		if err != nil {
			panic(err)
		}
		return string(longest[:len(longest)-1]), ""
	}
	panic("there is no such peer: " + kind)
}

// attackFrom starts the attackers' process; more makes n more of them connect, and returns when
// they have.
func attackFrom(t *testing.T, addr, kind string) (more func(n int)) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), attackerEnv+"="+addr+" "+kind)
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
	lines := bufio.NewReader(out)
	total := 0
	return func(n int) {
		t.Helper()
		total += n
		_, err := fmt.Fprintln(in, n)
		require.NoError(t, err)
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintln("connected", total), line)
	}
}

// mindDescriptors raises the limit to n, or else skips.
func mindDescriptors(t *testing.T, n uint64) {
	t.Helper()
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	if limit.Cur >= n {
		return
	}
	limit.Cur, limit.Max = n, max(n, limit.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Skipf("this needs %d descriptors: %v", n, err)
	}
}

// goodClient is served by a whoServer. It returns how long that took.
func goodClient(t testing.TB, addr string, i int) time.Duration {
	source := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), uint16(1+i))
	h := Header{Version: V1, Command: Proxy, Protocol: TCP4, Source: source, Destination: source}
	wire, err := h.AppendTo(nil)
	assert.NoError(t, err)
	start := time.Now()
	c, err := net.Dial("tcp", addr)
	if !assert.NoError(t, err) {
		return 0
	}
	defer c.Close()
	_, err = c.Write(append(wire, '?'))
	assert.NoError(t, err)
	answer, err := io.ReadAll(c)
	assert.NoError(t, err)
	assert.Equal(t, source.String(), string(answer))
	return time.Since(start)
}

// goodRound is goodPerRound clients at once.
func goodRound(t testing.TB, addr string, round int, took []time.Duration) []time.Duration {
	var mu sync.Mutex
	var clients sync.WaitGroup
	for i := range goodPerRound {
		clients.Go(func() {
			d := goodClient(t, addr, round*goodPerRound+i)
			mu.Lock()
			took = append(took, d)
			mu.Unlock()
		})
	}
	clients.Wait()
	return took
}

func percentiles(took []time.Duration) string {
	slices.Sort(took)
	at := func(q int) time.Duration {
		return took[min(len(took)-1,
			len(took)*q/100)].Round(time.Microsecond)
	}
	return fmt.Sprintf("median %v, 99th percentile %v", at(50), at(99))
}

// memory is what the process holds, when all that nobody needs is gone.
func memory() (bytes, objects uint64) {
	runtime.GC()
	runtime.GC() // what was in a sync.Pool goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse, m.HeapObjects
}

// Slow peers take the places of slower ones, and nobody else's.
func TestAttackBySlowPeers(t *testing.T) {
	if testing.Short() {
		t.Skip("8,000 connections take a while")
	}
	mindDescriptors(t, attackers+1000) // inherited by the attackers
	for _, kind := range []string{"silent", "dripping", "line without its last byte",
		"4 KB without the last byte"} {
		t.Run(kind, func(t *testing.T) {
			goroutines := runtime.NumGoroutine()
			// The time limit isn't what is tested here, and must not help.
			ln := listen(t, &Config{Policy: Always(Require), MaxPending: attackPending,
				HeaderTimeout: time.Hour})
			go whoServer(ln)
			addr := ln.Addr().String()

			var before, during []time.Duration
			for round := range attackRounds {
				before = goodRound(t, addr, round, before)
			}
			bytesBefore, _ := memory()

			// A round's connections are fewer than MaxPending: a good client can't be the one that
			// has waited longest, however late its header comes.
			more := attackFrom(t, addr, kind)
			var bytesMost uint64
			pendingMost := 0
			for round := range attackRounds {
				var attack sync.WaitGroup
				attack.Go(func() { more(attackers / attackRounds) })
				during = goodRound(t, addr, round, during)
				attack.Wait()
				pendingMost = max(pendingMost, ln.Stats().Pending)
			}
			settle(t, "all are accepted", func() bool {
				return ln.Stats().Accepted == attackers+2*attackRounds*goodPerRound
			})
			bytesMost, _ = memory()
			during = goodRound(t, addr, 0, during) // while 1,000 still wait

			settle(t, "all evicted ones are counted", func() bool {
				s := ln.Stats()
				return uint64(s.Pending)+s.Dropped[ReasonEvicted] == attackers
			})
			s := ln.Stats()
			t.Logf("%d peers, MaxPending %d: %d evicted, %d wait; "+
				"good clients without the attack: %s, and with it: %s; memory +%d KB",
				attackers, attackPending, s.Dropped[ReasonEvicted], s.Pending,
				percentiles(before), percentiles(during), (int64(bytesMost)-int64(bytesBefore))>>10)
			assert.LessOrEqual(t, max(pendingMost, s.Pending), attackPending)
			assert.GreaterOrEqual(t, s.Pending, attackPending-goodPerRound)
			assert.Equal(t, s.TotalDropped(), s.Dropped[ReasonEvicted])
			assert.Equal(t, uint64((2*attackRounds+1)*goodPerRound), s.V1)
			assert.Zero(t, s.Probes)
			// 8 KB of buffer and a goroutine each.
			assert.Less(t, int64(bytesMost)-int64(bytesBefore), int64(attackPending)<<14)

			ln.Close()
			settle(t, "no goroutine is left but the attackers'",
				func() bool { return runtime.NumGoroutine() <= goroutines+1 })
			settle(t, "all are dropped", func() bool {
				return ln.Stats().Pending == 0 && ln.Stats().TotalDropped() == attackers
			})
		})
	}
}

// Whoever is refused leaves nothing behind.
func TestAttackByRefusedConnections(t *testing.T) {
	const warm, flood = 500, 2500
	h := testHeader(byte(TypeCRC32C), 0, 4, 0, 0, 0, 0)
	wrongSum := []byte(encode(t, h))
	wrongSum[len(wrongSum)-1] ^= 1
	for _, attack := range []struct {
		name   string
		from   net.IP
		send   string
		reason Reason
	}{
		{"untrusted", net.IPv4(127, 1, 0, 1), testLineV1, ReasonRejected},
		{"wrong bytes", net.IPv4(127, 0, 0, 1), "GET / HTTP/1.1\r\n\r\n", ReasonNoHeader},
		{"wrong line", net.IPv4(127, 0, 0, 1), "PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
			ReasonMalformed},
		{"wrong CRC", net.IPv4(127, 0, 0, 1), string(wrongSum), ReasonMalformed},
		{"claims 65,535 bytes", net.IPv4(127, 0, 0, 1), signatureV2 + "\x21\x00\xff\xff",
			ReasonTooLarge},
		{"nothing", net.IPv4(127, 0, 0, 1), "", 0}, // a probe
	} {
		t.Run(attack.name, func(t *testing.T) {
			cfg := &Config{Policy: Trust(netip.MustParsePrefix("127.0.0.1/32"))}
			cfg.OnDrop = func(Peer, *DropError) {}
			ln := listen(t, cfg)
			go whoServer(ln)
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: attack.from}}
			refused := func(n int) {
				for i := range n {
					c, err := d.Dial("tcp", ln.Addr().String())
					require.NoError(t, err)
					io.WriteString(c, attack.send)
					if attack.send == "" {
						c.(*net.TCPConn).CloseWrite()
					}
					assertClosed(t, c)
					c.Close()
					if i%100 == 0 {
						goodClient(t, ln.Addr().String(), i%256)
					}
				}
			}
			refused(warm)
			goroutines := runtime.NumGoroutine()
			_, objects := memory()
			start := time.Now()
			refused(flood)
			took := time.Since(start)
			// One goroutine may accept beside whoServer's, since a good client's header came late.
			settle(t, "no goroutine is left",
				func() bool { return runtime.NumGoroutine() <= goroutines+1 })
			_, objectsAfter := memory()
			t.Logf("%d refused in %v; objects on the heap %+d", flood, took.Round(time.Millisecond),
				int64(objectsAfter)-int64(objects))
			assert.Less(t, int64(objectsAfter)-int64(objects), int64(flood/20),
				"objects on the heap")

			s := ln.Stats()
			assert.Equal(t, uint64((warm+flood)/100), s.V1)
			assert.Equal(t, s.Accepted-s.V1, s.TotalDropped()+s.Probes)
			if attack.reason != 0 {
				assert.Equal(t, uint64(warm+flood), s.Dropped[attack.reason])
				ln.Close()
			}
		})
	}
}
