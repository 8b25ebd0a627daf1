package servertest

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
)

const localV2 = signatureV2 + "\x20\x00\x00\x00"

const (
	probeHold      = 100 * time.Millisecond // how long a LOCAL header alone is held back
	interruptGrace = time.Second            // how long a Read may take to note its deadline
)

// accepting is a Listener over pipes whose Accept is called all the time.
type accepting struct {
	*Listener
	inner *pipeListener
	drops *dropLog
	conns chan net.Conn // closed with the Listener
}

// acceptAll makes one; it is closed with the test.
func acceptAll(t testing.TB, cfg *Config) *accepting {
	t.Helper()
	a := &accepting{inner: newPipeListener(), conns: make(chan net.Conn, 2000)}
	a.drops = logDrops(cfg)
	ln, err := NewListener(a.inner, cfg)
	require.NoError(t, err)
	a.Listener = ln
	go func() {
		defer close(a.conns)
		for {
			c, err := ln.Accept()
			if err != nil {
				assert.ErrorIs(t, err, net.ErrClosed)
				return
			}
			a.conns <- c
		}
	}()
	t.Cleanup(func() { ln.Close() })
	return a
}

// none checks that Accept has returned nothing more.
func (a *accepting) none(t testing.TB) {
	t.Helper()
	synctest.Wait()
	select {
	case c := <-a.conns:
		assert.Nil(t, c, "Accept returned a connection")
	default:
	}
}

// What Accept makes of silence and of what comes after it, by Action. An idle preconnect is one
// that says nothing for an hour and then sends a request.
func TestSilence(t *testing.T) {
	for _, row := range []struct {
		name, late string
		action     Action
		servedAt   time.Duration // when Accept returns it; -1: never
		read       string        // what the server reads
		reason     Reason
	}{
		{"for ever", "", Require, -1, "", ReasonTimeout},
		{"for ever", "", Optional, 5 * time.Second, "", 0},
		{"for ever", "", Ignore, 0, "", 0},
		{"preconnect", "GET /", Require, -1, "", ReasonTimeout},
		{"preconnect", "GET /", Optional, 5 * time.Second, "GET /", 0},
		{"preconnect", "GET /", Ignore, 0, "GET /", 0},
		{"late header", testLineV1 + "GET /", Require, -1, "", ReasonTimeout},
		{"late header", testLineV1 + "GET /", Optional, 5 * time.Second, "", ReasonLate},
		{"late header", testLineV1 + "GET /", Ignore, 0, "GET /", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := acceptAll(t, &Config{Policy: Always(row.action)})
			defer a.Close()
			client := a.inner.dial()
			defer client.Close()
			start := time.Now()
			time.AfterFunc(time.Hour, func() {
				if row.late != "" {
					io.WriteString(client, row.late)
				}
				client.Close()
			})
			if row.servedAt < 0 {
				assert.Equal(t, row.reason, a.drops.next(t).Reason)
				assert.Equal(t, 5*time.Second, time.Since(start))
				a.none(t)
				return
			}
			c := <-a.conns
			assert.Equal(t, row.servedAt, time.Since(start), "%s %v", row.name, row.action)
			assert.Equal(t, "pipe", c.RemoteAddr().String())
			b, err := io.ReadAll(c)
			assert.Equal(t, row.read, string(b), "%s %v", row.name, row.action)
			if row.reason != 0 {
				assert.Equal(t, row.reason, requireDrop(t, err).Reason)
				assert.Equal(t, row.reason, a.drops.next(t).Reason)
			}
			assert.Equal(t, "pipe", c.RemoteAddr().String())
			s := a.Stats()
			counted := s.Bare + s.Ignored + s.Probes + s.TotalDropped()
			assert.Equal(t, uint64(1), counted, "%s %v: %+v", row.name, row.action, s)
		})
	}
}

// A header split over the moment of the hand-over: its first part keeps the connection from it.
func TestHeaderSplitOverTheHandOver(t *testing.T) {
	wire := testLineV1 + "hi"
	for split := 1; split < len(testLineV1); split++ {
		synctest.Test(t, func(t *testing.T) {
			a := acceptAll(t, &Config{Policy: Always(Optional)})
			defer a.Close()
			client := a.inner.dial()
			time.Sleep(5*time.Second - 1)
			io.WriteString(client, wire[:split])
			time.Sleep(5*time.Second - 1) // HeaderTimeout from the first byte on
			go io.WriteString(client, wire[split:])
			c := <-a.conns
			assertTestClient(t, c)
			assert.Equal(t, "hi", readString(t, c, 2))
			a.drops.empty(t)
		})
		synctest.Test(t, func(t *testing.T) {
			a := acceptAll(t, &Config{Policy: Always(Optional)})
			defer a.Close()
			client := a.inner.dial()
			time.Sleep(5*time.Second - 1)
			io.WriteString(client, wire[:split])
			time.Sleep(5*time.Second + 1)
			assert.Equal(t, ReasonTimeout, a.drops.next(t).Reason)
			_, err := io.WriteString(client, wire[split:])
			assert.Error(t, err)
			a.none(t)
		})
	}
}

// Of many idle preconnects all are served, however few may wait: those that give way are handed
// over, and leave nothing running.
func TestPreconnectsAreHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, pending = 1500, 100
		a := acceptAll(t, &Config{Policy: Always(Optional), MaxPending: pending})
		var conns []net.Conn
		for range clients {
			conns = append(conns, a.inner.dial())
			assert.LessOrEqual(t, a.Stats().Pending, pending)
		}
		time.Sleep(time.Hour)
		for _, client := range conns {
			go io.WriteString(client, "GET /")
		}
		for range clients {
			assert.Equal(t, "GET /", readString(t, <-a.conns, 5))
		}
		assert.Equal(t, uint64(clients), a.Stats().Bare)
		a.drops.empty(t)
	})
}

// A LOCAL header and then the end is a health check, wherever the end comes within the hold.
func TestLocalAndTheEndIsAProbe(t *testing.T) {
	for _, action := range []Action{Require, Optional} {
		for _, wait := range []time.Duration{0, 1, probeHold - 1} {
			synctest.Test(t, func(t *testing.T) {
				a := acceptAll(t, &Config{Policy: Always(action)})
				defer a.Close()
				client := a.inner.dial()
				io.WriteString(client, localV2)
				time.Sleep(wait)
				client.Close()
				a.none(t)
				s := a.Stats()
				assert.Equal(t, Stats{Accepted: 1, Probes: 1, Dropped: map[Reason]uint64{}}, s, "%v after %v", action, wait)
				a.drops.empty(t)
			})
		}
	}
}

// One that goes on is served: at its first byte, or when the hold is over.
func TestLocalThatGoesOnIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := acceptAll(t, &Config{Policy: Always(Require)})
		defer a.Close()
		start := time.Now()
		client := a.inner.dial()
		go func() {
			io.WriteString(client, localV2)
			time.Sleep(probeHold / 2)
			io.WriteString(client, "PING")
		}()
		c := <-a.conns
		assert.Equal(t, probeHold/2, time.Since(start))
		assert.Equal(t, "PING", readString(t, c, 4))
		assert.Equal(t, Local, c.(*Conn).Header().Command)
	})
	synctest.Test(t, func(t *testing.T) {
		a := acceptAll(t, &Config{Policy: Always(Require)})
		defer a.Close()
		start := time.Now()
		client := a.inner.dial()
		io.WriteString(client, localV2)
		synctest.Wait()
		assert.Equal(t, 1, a.Stats().Pending)
		c := <-a.conns
		assert.Equal(t, probeHold, time.Since(start))
		time.Sleep(time.Hour) // no deadline of the Listener's is left
		go io.WriteString(client, "hi")
		assert.Equal(t, "hi", readString(t, c, 2))
		assert.Equal(t, uint64(1), a.Stats().Local)
	})
	synctest.Test(t, func(t *testing.T) { // its header is good: at MaxPending it isn't dropped
		a := acceptAll(t, &Config{Policy: Always(Require), MaxPending: 1})
		defer a.Close()
		start := time.Now()
		client := a.inner.dial()
		io.WriteString(client, localV2)
		synctest.Wait()
		a.inner.dial()
		c := <-a.conns
		assert.Equal(t, Local, c.(*Conn).Header().Command)
		assert.Zero(t, time.Since(start))
		a.drops.empty(t)
	})
}

// Peers that are stuck inside TLS go when their time is over, when others need their place, and
// with the Listener: by closing, since their deadlines don't end a Write.
func TestStuckHandshakesEnd(t *testing.T) {
	certificate, _ := testCertificate(t)
	config := &tls.Config{Certificates: []tls.Certificate{certificate}}
	synctest.Test(t, func(t *testing.T) {
		hello := clientHello(t)
		inner := newPipeListener()
		cfg := &Config{Policy: Always(Require), MaxPending: 5}
		drops := logDrops(cfg)
		ln, err := NewListener(tls.NewListener(inner, config), cfg)
		require.NoError(t, err)
		go ln.Accept()
		stick := func() { go inner.dial().Write(hello) }
		for range 10 {
			stick()
			synctest.Wait()
		}
		for range 5 {
			assert.Equal(t, ReasonEvicted, drops.next(t).Reason)
		}
		time.Sleep(5 * time.Second)
		for range 5 {
			assert.Equal(t, ReasonTimeout, drops.next(t).Reason)
		}
		for range 3 {
			stick()
		}
		synctest.Wait()
		assert.Equal(t, 3, ln.Stats().Pending)
		ln.Close()
		synctest.Wait()
		assert.Zero(t, ln.Stats().Pending)
		assert.Equal(t, uint64(3), ln.Stats().Dropped[ReasonClosed])
	}) // the bubble ends only if no goroutine is left
}

// undead is a connection whose deadlines fail, or do nothing.
type undead struct {
	net.Conn
	err error
}

func (c undead) SetReadDeadline(time.Time) error  { return c.err }
func (c undead) SetWriteDeadline(time.Time) error { return c.err }
func (c undead) SetDeadline(time.Time) error      { return c.err }

func TestConnectionsWithoutDeadlines(t *testing.T) {
	for _, err := range []error{nil, errors.New("no deadlines")} {
		for _, action := range []Action{Require, Optional} {
			synctest.Test(t, func(t *testing.T) {
				a := acceptAll(t, &Config{Policy: Always(action), MaxPending: 2})
				dial := func() net.Conn {
					client, server := net.Pipe()
					a.inner.conns <- undead{server, err}
					return client
				}
				io.WriteString(dial(), testLineV1)
				assertTestClient(t, <-a.conns)
				first := dial()
				dial()
				dial() // takes the first one's place
				time.Sleep(interruptGrace)
				assert.Equal(t, ReasonEvicted, a.drops.next(t).Reason)
				assertClosed(t, first)
				time.Sleep(5*time.Second + interruptGrace)
				assert.Equal(t, ReasonTimeout, a.drops.next(t).Reason)
				assert.Equal(t, ReasonTimeout, a.drops.next(t).Reason)
				dial()
				synctest.Wait()
				a.Close()
				synctest.Wait()
				assert.Zero(t, a.Stats().Pending)
				a.none(t)
			})
		}
	}
}

// A connection that gives way while Validate looks at it was evicted, and nothing else.
func TestEvictedWhileValidated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, release := make(chan bool, 1), make(chan bool)
		first <- true
		cfg := &Config{Policy: Always(Require), MaxPending: 1}
		cfg.Validate = func(Peer, *Header) error {
			select {
			case <-first:
				<-release
			default:
			}
			return nil
		}
		a := acceptAll(t, cfg)
		defer a.Close()
		io.WriteString(a.inner.dial(), testLineV1)
		synctest.Wait()
		for range 2 {
			io.WriteString(a.inner.dial(), testLineV1)
			assertTestClient(t, <-a.conns)
		}
		close(release)
		assert.Equal(t, ReasonEvicted, a.drops.next(t).Reason)
		a.none(t)
		s := a.Stats()
		assert.Equal(t, Stats{Accepted: 3, V1: 2, Dropped: map[Reason]uint64{ReasonEvicted: 1}}, s)
	})
}

// Together the counts never exceed Accepted.
func TestStatsNeverExceedAccepted(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require)})
	go whoServer(ln)
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			s := ln.Stats()
			sum := s.V1 + s.V2 + s.Local + s.Probes + s.TotalDropped() + uint64(s.Pending)
			if !assert.LessOrEqual(t, sum, s.Accepted) {
				return
			}
			runtime.Gosched()
		}
	}()
	for i := range 2000 {
		c := dial(t, ln, testLineV1[:i%len(testLineV1)])
		io.WriteString(c, testLineV1[i%len(testLineV1):])
		c.Close()
	}
	stop.Store(true)
	<-done
}
