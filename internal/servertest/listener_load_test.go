package servertest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
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

// countingListener counts what is accepted from it.
type countingListener struct {
	net.Listener
	accepted atomic.Int32
}

func (ln *countingListener) Accept() (net.Conn, error) {
	c, err := ln.Listener.Accept()
	if err == nil {
		ln.accepted.Add(1)
	}
	return c, err
}

func TestBacklogFillsWhenNobodyAccepts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipes := newPipeListener()
		inner := &countingListener{Listener: pipes}
		ln, err := NewListener(inner, &Config{Policy: Always(Require)})
		require.NoError(t, err)
		var clients sync.WaitGroup
		dialMany := func() {
			for range 10 {
				clients.Go(func() {
					client, server := net.Pipe()
					defer client.Close()
					select {
					case pipes.conns <- server:
						io.WriteString(client, testLineV1)
					case <-pipes.closed:
					}
				})
			}
			synctest.Wait()
		}
		dialMany()
		assert.Zero(t, inner.accepted.Load(), "nobody has called Accept")
		for range 3 {
			c, err := ln.Accept() // while it waits for headers, others are accepted beside
			require.NoError(t, err)
			assertTestClient(t, c)
			synctest.Wait()
			before := inner.accepted.Load()
			dialMany()
			assert.LessOrEqual(t, inner.accepted.Load(), before+1, "nobody is in Accept")
		}
		ln.Close()
		clients.Wait()
	})
}

// ownListener counts the Accepts that its test doesn't call itself, by the Listener around it.
type ownListener struct {
	net.Listener
	test   string
	others atomic.Int32
}

func (ln *ownListener) Accept() (net.Conn, error) {
	stack := make([]byte, 1<<14)
	if !bytes.Contains(stack[:runtime.Stack(stack, false)], []byte(ln.test+"(")) {
		ln.others.Add(1)
	}
	return ln.Listener.Accept()
}

func TestHeaderThatIsThereCostsNoGoroutine(t *testing.T) {
	if testenv.Portable {
		t.Skip("sockets can't be read without waiting here")
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	inner := &ownListener{Listener: tcp, test: t.Name()}
	ln, err := NewListener(inner, &Config{Policy: Always(Require)})
	require.NoError(t, err)
	defer ln.Close()
	before := runtime.NumGoroutine()
	for range 100 {
		dial(t, ln, testLineV1)
		accept(t, ln)
	}
	assert.Zero(t, inner.others.Load(), "Accepts on another goroutine")
	assert.LessOrEqual(t, runtime.NumGoroutine(), before)
}

func TestSetPolicyWhileServing(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Reject)})
	go func() {
		for range 1000 {
			ln.SetPolicy(Always(Reject))
			ln.SetPolicy(nil)
		}
		ln.SetPolicy(Always(Require))
	}()
	accepted := make(chan net.Conn)
	go func() {
		c, err := ln.Accept()
		assert.NoError(t, err)
		accepted <- c
	}()
	for {
		c, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		io.WriteString(c, testLineV1) // which fails if it was rejected
		select {
		case c := <-accepted:
			assertTestClient(t, c)
			c.Close()
			return
		default:
		}
	}
}

// Many clients at once, in every way to send a header: each is told apart, none is lost.
func TestManyClients(t *testing.T) {
	const workers, each = 16, 40
	ln := listen(t, &Config{Policy: Always(Require), MaxPending: 2 * workers})
	for range 3 { // callers of Accept
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					name := make([]byte, 16)
					io.ReadFull(c, name)
					fmt.Fprintf(c, "%v %s", c.RemoteAddr(), name)
				}()
			}
		}()
	}
	var clients sync.WaitGroup
	for w := range workers {
		clients.Go(func() {
			for i := range each {
				source := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(w), byte(i)}),
					uint16(1000*w+i+1))
				h := testHeader()
				h.Source = source
				if i%2 == 0 {
					h.Version = V1
				}
				name := fmt.Sprintf("client %9d", 1000*w+i)
				wire := encode(t, h) + name
				cut := (i * 7) % len(wire)
				if i%3 == 0 {
					cut = 0
				}
				c, err := net.Dial("tcp", ln.Addr().String())
				if !assert.NoError(t, err) {
					return
				}
				io.WriteString(c, wire[:cut])
				runtime.Gosched()
				io.WriteString(c, wire[cut:])
				answer, err := io.ReadAll(c)
				assert.NoError(t, err)
				assert.Equal(t, source.String()+" "+name, string(answer))
				c.Close()
			}
		})
	}
	clients.Wait()
	stats := ln.Stats()
	assert.Equal(t, uint64(workers*each), stats.Accepted)
	assert.Equal(t, uint64(workers*each/2), stats.V1)
	assert.Equal(t, uint64(workers*each/2), stats.V2)
	assert.Zero(t, stats.Pending)
	assert.Zero(t, stats.TotalDropped())
}

func TestStatsAddUp(t *testing.T) {
	cfg := &Config{Policy: Always(Require)}
	drops := logDrops(cfg)
	ln := listen(t, cfg)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	h := testHeader()
	sends := []string{testLineV1, encode(t, h), signatureV2 + "\x20\x00\x00\x00",
		"PROXY UNKNOWN\r\n", "GET", "PROXY x"}
	for _, send := range sends {
		dial(t, ln, send)
	}
	dial(t, ln, "").Close()
	dial(t, ln, "PROXY").CloseWrite()
	total := func() (n uint64, s Stats) {
		s = ln.Stats()
		return s.V1 + s.V2 + s.Local + s.Bare + s.Ignored + s.Skipped + s.Probes +
			s.TotalDropped(), s
	}
	want := uint64(len(sends) + 2)
	for n, _ := total(); n < want; n, _ = total() {
		time.Sleep(time.Microsecond)
	}
	_, s := total()
	assert.Equal(t, want, s.Accepted)
	assert.Equal(t, uint64(2), s.V1)
	assert.Equal(t, uint64(1), s.V2)
	assert.Equal(t, uint64(1), s.Local)
	assert.Equal(t, uint64(1), s.Probes)
	assert.Equal(t, map[Reason]uint64{ReasonNoHeader: 1, ReasonMalformed: 1, ReasonIncomplete: 1},
		s.Dropped)
	for range 3 {
		drops.next(t)
	}
	drops.empty(t)
	assert.True(t, strings.HasPrefix(Reason(200).String(), "Reason("))
}
