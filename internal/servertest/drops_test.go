package servertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/testenv"
)

// dropOf is a drop for a reason, and peerAt a peer with an address.
func dropOf(r Reason) *DropError  { return &DropError{Reason: r, Err: errors.New("why")} }
func peerAt(addr netip.Addr) Peer { return Peer{Addr: netip.AddrPortFrom(addr, 5555)} }

var ownProxy = peerAt(netip.MustParseAddr("10.0.0.5"))

// logLines returns a Logger without times and a function that returns the lines since its last
// call.
func logLines() (*slog.Logger, func() []string) {
	var mu sync.Mutex
	var out bytes.Buffer
	l := slog.New(slog.NewTextHandler(lockedWriter{&mu, &out}, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
	return l, func() (lines []string) {
		mu.Lock()
		defer mu.Unlock()
		for line := range strings.Lines(out.String()) {
			lines = append(lines, strings.TrimSpace(line))
		}
		out.Reset()
		return lines
	}
}

type lockedWriter struct {
	mu  *sync.Mutex
	out *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(p)
}

// sampleMost is how many drops SampleDrops passes on in a minute.
const sampleMost = 128

func TestLogDropsLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, lines := logLines()
		onDrop := LogDrops(l)
		for range 3 {
			onDrop(ownProxy,
				&DropError{Reason: ReasonNoHeader, Err: ErrNoHeader, Bytes: []byte("GET /\r\n")})
		}
		onDrop(ownProxy, dropOf(ReasonBroken))
		onDrop(ownProxy, dropOf(ReasonRejected))
		onDrop(peerAt(netip.MustParseAddr("192.0.2.1")), dropOf(ReasonRejected))
		const text = `msg="PROXY connection dropped" peer=`
		assert.Equal(t, []string{
			`level=WARN ` + text + `10.0.0.5:5555 reason="no header" ` +
				`err="proxyproto: not a PROXY protocol header (sent \"GET /\\r\\n\")"`,
			`level=INFO ` + text + `10.0.0.5:5555 reason=broken err=why suppressed=2`,
			`level=WARN ` + text + `10.0.0.5:5555 reason=rejected err=why ` +
				`hint="if this is your proxy, add 10.0.0.5 to the trust list"`,
			`level=INFO ` + text + `192.0.2.1:5555 reason=rejected err=why`,
		}, lines())
		time.Sleep(time.Minute)
		onDrop(ownProxy, dropOf(ReasonNoHeader))
		assert.Len(t, lines(), 1, "of the same peer in the next minute")
	})
}

// What a peer sent can't add lines, fields or control characters, in text and in JSON.
func TestLogDropsOfHostileBytes(t *testing.T) {
	hostile := &DropError{Reason: ReasonNoHeader, Err: ErrNoHeader,
		Bytes: []byte("\n\x1b[2J level=\"\u202e\u009b")}
	l, lines := logLines()
	LogDrops(l)(ownProxy, hostile)
	line := lines()
	require.Len(t, line, 1)
	for _, r := range line[0] {
		assert.True(t, ' ' <= r && r <= '~', "%q in the log", r)
	}
	var out bytes.Buffer
	LogDrops(slog.New(slog.NewJSONHandler(&out, nil)))(ownProxy, hostile)
	var record struct{ Level, Peer, Reason, Err string }
	require.NoError(t, json.Unmarshal(out.Bytes(), &record))
	assert.Equal(t, "WARN 10.0.0.5:5555 no header "+hostile.Error(),
		record.Level+" "+record.Peer+" "+record.Reason+" "+record.Err)
}

// A logger that is set as the default later is the one that is used.
func TestLogDropsToDefault(t *testing.T) {
	onDrop := LogDrops(nil)
	before := slog.Default()
	defer slog.SetDefault(before)
	l, lines := logLines()
	slog.SetDefault(l)
	onDrop(ownProxy, dropOf(ReasonTimeout))
	assert.Len(t, lines(), 1)
}

// With an empty trust list the first line says what to put into it.
func TestLogDropsHelpsWithEmptyTrustList(t *testing.T) {
	l, lines := logLines()
	ln := listen(t, &Config{Policy: Trust(), OnDrop: LogDrops(l)})
	go ln.Accept()
	assertClosed(t, dial(t, ln, testLineV1))
	var line []string
	require.Eventually(t, func() bool { line = lines(); return len(line) > 0 },
		time.Minute, time.Millisecond)
	assert.Contains(t, line[0], "level=WARN")
	assert.Contains(t, line[0], `hint="if this is your proxy, add 127.0.0.1 to the trust list"`)

	unix, err := Listen("unix", filepath.Join(t.TempDir(), "s"),
		&Config{Policy: Trust(), OnDrop: LogDrops(l)})
	require.NoError(t, err)
	defer unix.Close()
	go unix.Accept()
	c, err := net.Dial("unix", unix.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	assertClosed(t, c)
	require.Eventually(t, func() bool { line = lines(); return len(line) > 0 },
		time.Minute, time.Millisecond)
	assert.Contains(t, line[0], "peer=unix ")
	assert.Contains(t, line[0], "Always(Require)")
}

// 20,000 strangers a minute hide none of one's own proxy's drops, and flood nothing.
func TestStrangersHideNoDropOfOwnProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var strangers, own, suppressed uint64
		onDrop := SampleDrops(func(p Peer, drop *DropError, n uint64) {
			if drop.Reason == ReasonRejected {
				strangers++
			} else {
				assert.Equal(t, ownProxy, p)
				own++
			}
			suppressed += n
		})
		const minutes, each = 21, 20_000
		for range minutes {
			addr := netip.MustParseAddr("2001:db8::")
			for range each {
				addr = addr.Next()
				onDrop(peerAt(addr), dropOf(ReasonRejected))
			}
			onDrop(ownProxy, dropOf(ReasonMalformed))
			time.Sleep(time.Minute)
		}
		assert.EqualValues(t, minutes, own, "lines of one's own proxy")
		assert.EqualValues(t, minutes*sampleMost, strangers, "lines of strangers")
		assert.EqualValues(t, (minutes-1)*(each-sampleMost), suppressed, "and what they suppressed")
	})
}

// No minute, wherever it begins, has more lines than the limit, nor two of one peer and reason;
// and what isn't passed on is counted.
func TestSampleDropsInAnyMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var passed []time.Time
		var suppressed uint64
		type dropKey struct {
			addr   netip.Addr
			reason Reason
		}
		last := map[dropKey]time.Time{}
		onDrop := SampleDrops(func(p Peer, drop *DropError, n uint64) {
			key := dropKey{p.Addr.Addr(), drop.Reason}
			if at, ok := last[key]; ok {
				assert.GreaterOrEqual(t, time.Since(at), time.Minute, "%v", key)
			}
			last[key] = time.Now()
			passed = append(passed, time.Now())
			suppressed += n
		})
		random := rand.New(rand.NewPCG(1, 2))
		const drops = 300_000
		for range drops {
			peer := peerAt(netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(200))}))
			onDrop(peer, dropOf(ReasonNoHeader+Reason(random.IntN(3))))
			if random.IntN(100) == 0 {
				time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
			}
		}
		time.Sleep(time.Minute)
		onDrop(ownProxy, dropOf(ReasonLate))
		require.Greater(t, len(passed), 4*sampleMost)
		for i := sampleMost; i < len(passed); i++ {
			assert.GreaterOrEqual(t, passed[i].Sub(passed[i-sampleMost]), time.Minute)
		}
		assert.EqualValues(t, drops+1, uint64(len(passed))+suppressed)
	})
}

// Each drop is passed on or counted as suppressed, whoever else is dropped at the same time.
func TestSampleDropsConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var passed, suppressed atomic.Uint64
		onDrop := SampleDrops(func(_ Peer, _ *DropError, n uint64) {
			passed.Add(1)
			suppressed.Add(n)
		})
		const peers, each = 8, 1000
		var wg sync.WaitGroup
		for i := range peers {
			wg.Go(func() {
				for port := range each {
					addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
					onDrop(Peer{Addr: netip.AddrPortFrom(addr, uint16(port))},
						dropOf(ReasonEvicted))
				}
			})
		}
		wg.Wait()
		assert.EqualValues(t, peers, passed.Load(), "one of each peer")
		onDrop(ownProxy, dropOf(ReasonLate))
		assert.EqualValues(t, peers*each+1, passed.Load()+suppressed.Load())
	})
}

// A function that blocks delays nobody else, and one that drops something itself isn't stuck.
func TestSampleDropsHoldsNothingInTheFunction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []Reason
		leave := make(chan bool)
		var onDrop func(Peer, *DropError)
		onDrop = SampleDrops(func(p Peer, drop *DropError, _ uint64) {
			if drop.Reason == ReasonTimeout {
				<-leave
				return
			}
			got = append(got, drop.Reason)
			onDrop(p, dropOf(ReasonInvalid))
		})
		go onDrop(ownProxy, dropOf(ReasonTimeout))
		synctest.Wait()
		onDrop(ownProxy, dropOf(ReasonLate))
		assert.Equal(t, []Reason{ReasonLate, ReasonInvalid}, got)
		close(leave)
	})
}

// Peers on Unix sockets are one, whatever their names.
func TestSampleDropsOfUnixPeers(t *testing.T) {
	client, server := testenv.UnixPair(t)
	calls := 0
	onDrop := SampleDrops(func(Peer, *DropError, uint64) { calls++ })
	onDrop(Peer{Conn: client}, dropOf(ReasonNoHeader))
	onDrop(Peer{Conn: server}, dropOf(ReasonNoHeader))
	assert.Equal(t, 1, calls)
}

// What a logger's level leaves out is counted as suppressed, and takes no place of what it logs.
func TestLogDropsOfALevelThatIsntLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, lines := logLines()
		onDrop := LogDrops(slog.New(warnings{l.Handler()}))
		addr := netip.MustParseAddr("10.1.0.0")
		for range sampleMost {
			addr = addr.Next()
			onDrop(peerAt(addr), dropOf(ReasonBroken))
		}
		onDrop(ownProxy, dropOf(ReasonNoHeader))
		logged := lines()
		require.Len(t, logged, 1)
		assert.Contains(t, logged[0], `reason="no header"`)
		assert.Contains(t, logged[0], "suppressed=128")
	})
}

type warnings struct{ slog.Handler }

func (warnings) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

// However many peers are the first at once, one of them gets the hint.
func TestLogDropsHintsOnce(t *testing.T) {
	l, lines := logLines()
	const peers = 8
	h := &together{Handler: l.Handler()}
	h.all.Add(peers)
	onDrop := LogDrops(slog.New(h))
	var wg sync.WaitGroup
	for i := range peers {
		wg.Go(func() {
			onDrop(peerAt(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})), dropOf(ReasonRejected))
		})
	}
	wg.Wait()
	all := strings.Join(lines(), "\n")
	assert.Equal(t, 1, strings.Count(all, "hint="))
	assert.Equal(t, 1, strings.Count(all, "level=WARN"))
}

// A together handler is asked whether it logs by all at once.
type together struct {
	slog.Handler
	asked atomic.Int32
	all   sync.WaitGroup
}

func (h *together) Enabled(context.Context, slog.Level) bool {
	if h.asked.Add(1) <= 8 {
		h.all.Done()
	}
	h.all.Wait()
	return true
}

// A panic in the function leaves the others working.
func TestSampleDropsAfterPanic(t *testing.T) {
	calls := 0
	onDrop := SampleDrops(func(Peer, *DropError, uint64) {
		if calls++; calls == 1 {
			panic("once")
		}
	})
	assert.Panics(t, func() { onDrop(ownProxy, dropOf(ReasonLate)) })
	onDrop(ownProxy, dropOf(ReasonTimeout))
	assert.Equal(t, 2, calls)
	assert.Panics(t, func() { SampleDrops(nil) })
}

func TestSampleDropsAllocs(t *testing.T) {
	onDrop := SampleDrops(func(Peer, *DropError, uint64) {})
	drop, addr := dropOf(ReasonRejected), netip.MustParseAddr("192.0.2.0")
	for range 2 * sampleMost {
		addr = addr.Next()
		onDrop(peerAt(addr), drop)
	}
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		addr = addr.Next()
		onDrop(peerAt(addr), drop)
	}), "for each peer of a flood")
}
