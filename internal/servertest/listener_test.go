package servertest

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/testenv"
)

func TestNewListenerRefusesConfig(t *testing.T) {
	inner := newPipeListener()
	for want, cfg := range map[string]*Config{
		"no Policy":                  nil,
		"no Policy: say whose":       {},
		"HeaderTimeout is negative":  {Policy: Always(Require), HeaderTimeout: -2},
		"MaxHeaderSize is negative":  {Policy: Always(Require), MaxHeaderSize: -1},
		"MaxPending is negative":     {Policy: Always(Require), MaxPending: -1},
		"is 5 nanoseconds: multiply": {Policy: Always(Require), HeaderTimeout: 5},
		"Versions has v3":            {Policy: Always(Require), Versions: []Version{V1, 3}},
	} {
		ln, err := NewListener(inner, cfg)
		assert.Nil(t, ln)
		assert.ErrorContains(t, err, want)
		conn, err := NewConn(nil, cfg)
		assert.Nil(t, conn)
		assert.ErrorContains(t, err, want)
	}
	select {
	case <-inner.closed:
		assert.Fail(t, "a refused Config must leave the inner listener open")
	default:
	}
}

// Every Action with what it makes of a header, of other bytes, and of a broken header.
func TestActions(t *testing.T) {
	const payload, broken = "GET / HTTP/1.0\r\n\r\n", "PROXY TCP4 x"
	for _, row := range []struct {
		action                   Action
		header, payload, broken  string // what the connection reads; "" if it is dropped
		client                   bool   // whether it then has the header's addresses
		droppedPayload, droppedB Reason
	}{
		{Reject, "", "", "", false, ReasonRejected, ReasonRejected},
		{Require, "hi", "", "", true, ReasonNoHeader, ReasonMalformed},
		{Skip, testLineV1 + "hi", payload, broken, false, 0, 0},
		{Optional, "hi", payload, "", true, 0, ReasonMalformed},
		{Ignore, "hi", payload, "", false, 0, ReasonMalformed},
		{Action(77), "", "", "", false, ReasonRejected, ReasonRejected},
	} {
		for _, lazy := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v lazy %v", row.action, lazy), func(t *testing.T) {
				cfg := &Config{Policy: Always(row.action), Lazy: lazy}
				drops := logDrops(cfg)
				ln := listen(t, cfg)
				accepted := make(chan net.Conn)
				go func() {
					defer close(accepted)
					for {
						c, err := ln.Accept()
						if err != nil {
							return
						}
						accepted <- c
					}
				}()
				try := func(send, want string, reason Reason) {
					client := dial(t, ln, send)
					client.CloseWrite()
					if want == "" && row.action == Ignore { // dropped by Accept or by Read
						select {
						case c := <-accepted:
							io.ReadAll(c)
							assert.Equal(t, reason, drops.next(t).Reason)
						case drop := <-drops.c:
							assert.Equal(t, reason, drop.Reason)
						}
						assertClosed(t, client)
						return
					}
					if want == "" && (!lazy || reason == ReasonRejected) {
						assert.Equal(t, reason, drops.next(t).Reason)
						assertClosed(t, client)
						return
					}
					c := <-accepted
					defer c.Close()
					got, err := io.ReadAll(c)
					assert.Equal(t, want, string(got))
					if want == "" {
						var op *net.OpError
						require.ErrorAs(t, err, &op)
						assert.Equal(t, "read", op.Op)
						assert.Equal(t, reason, drops.next(t).Reason)
						assertClosed(t, client)
						_, again := c.Read(make([]byte, 1))
						assert.Equal(t, err, again)
						return
					}
					assert.NoError(t, err)
					conn, ok := c.(*Conn)
					assert.Equal(t, row.action != Skip, ok)
					if row.client && send != payload {
						assertTestClient(t, c)
						assert.NotNil(t, conn.Header())
						return
					}
					assertSocket(t, c, client)
					if ok {
						assert.Nil(t, conn.Header())
					}
				}
				try(testLineV1+"hi", row.header, row.droppedPayload)
				try(payload, row.payload, row.droppedPayload)
				try(broken, row.broken, row.droppedB)
				drops.empty(t)
			})
		}
	}
}

// A Policy gets plain addresses, those of the socket.
func TestPolicyIsAskedBeforeAByteIsRead(t *testing.T) {
	var asked atomic.Int32
	asks := make(chan [2]netip.AddrPort, 1)
	inner, err := net.Listen("tcp", "[::]:0")
	require.NoError(t, err)
	ln, err := NewListener(inner, &Config{Policy: func(p Peer) Action {
		asked.Add(1)
		asks <- [2]netip.AddrPort{p.Addr, p.Local}
		return Require
	}})
	require.NoError(t, err)
	defer ln.Close()
	go ln.Accept()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	require.NoError(t, err)
	client, err := net.Dial("tcp4", "127.0.0.1:"+port)
	require.NoError(t, err)
	defer client.Close()
	got := <-asks
	assert.Equal(t, client.LocalAddr().String(), got[0].String())
	assert.Equal(t, client.RemoteAddr().String(), got[1].String())
	assert.Equal(t, int32(1), asked.Load())
}

func TestUnixSocketPeerHasNoAddress(t *testing.T) {
	path := t.TempDir() + "/socket"
	inner, err := net.Listen("unix", path)
	require.NoError(t, err)
	ln, err := NewListener(inner, &Config{Policy: func(p Peer) Action {
		assert.Zero(t, p.Addr)
		assert.Zero(t, p.Local)
		assert.Equal(t, "unix", p.String())
		return Require
	}})
	require.NoError(t, err)
	defer ln.Close()
	client, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer client.Close()
	_, err = io.WriteString(client, testLineV1)
	require.NoError(t, err)
	assertTestClient(t, accept(t, ln))
}

func TestVersions(t *testing.T) {
	h := testHeader()
	wires := map[Version]string{V1: testLineV1, V2: encode(t, h)}
	for _, only := range []Version{V1, V2} {
		cfg := &Config{Policy: Always(Optional), Versions: []Version{only}}
		drops := logDrops(cfg)
		ln := listen(t, cfg)
		for version, wire := range wires {
			if version != only {
				dial(t, ln, wire)
			}
		}
		dial(t, ln, wires[only])
		assertTestClient(t, accept(t, ln))
		assert.Equal(t, ReasonVersion, drops.next(t).Reason)
	}
}

func TestMaxHeaderSize(t *testing.T) {
	cfg := &Config{Policy: Always(Require), MaxHeaderSize: 100}
	drops := logDrops(cfg)
	ln := listen(t, cfg)
	for _, more := range []int{0, 1, 1000} {
		h := testHeader()
		h.TLVs, _ = h.TLVs.Append(TypeNoop, make([]byte, 100-lenV2-lenIPv4-lenTLV+more))
		dial(t, ln, encode(t, h)[:lenV2]) // its claim is enough
		dial(t, ln, encode(t, h))
	}
	assertTestClient(t, accept(t, ln))
	go ln.Accept()
	for range 4 {
		drop := drops.next(t)
		assert.Equal(t, ReasonTooLarge, drop.Reason)
		assert.ErrorContains(t, drop, "over the limit of 100")
	}
}

func TestOnDropSaysWhatAndWhere(t *testing.T) {
	for send, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: x\r\n": "proxyproto: not a PROXY protocol header but an HTTP request: the proxy sends no header " +
			`(sent "GET / HTTP/1.1\r\n")`,
		"PROXY TCP4 10.0.0.1 10.0.0.2 65536 1\r\n": "proxyproto: malformed v1 header at byte 33: " +
			`a port is over 65535 (section 2.1) (sent "1 10.0.0.2 65536")`,
		signatureV2 + "\x21\x41\x00\x00": "proxyproto: malformed v2 header at byte 13: " +
			`the address family must be UNSPEC, INET, INET6 or UNIX (section 2.2) (sent "\r\n\r\n\x00\r\nQUIT\n!A\x00\x00")`,
	} {
		cfg := &Config{Policy: Always(Require)}
		drops := logDrops(cfg)
		ln := listen(t, cfg)
		go ln.Accept()
		dial(t, ln, send)
		assert.EqualError(t, drops.next(t), want)
	}
}

func TestMaxPendingEvictsTheOldest(t *testing.T) {
	cfg := &Config{Policy: Always(Require), MaxPending: 3}
	drops := logDrops(cfg)
	ln := listen(t, cfg)
	accepted := make(chan net.Conn)
	go func() {
		c, _ := ln.Accept()
		accepted <- c
	}()
	var clients []net.Conn
	for i := range 5 {
		clients = append(clients, dial(t, ln, "P"))
		for ln.Stats().Accepted != uint64(i+1) || ln.Stats().Pending != min(i+1, 3) {
			time.Sleep(time.Microsecond)
		}
	}
	for i := range 2 {
		assert.Equal(t, ReasonEvicted, drops.next(t).Reason)
		assertClosed(t, clients[i])
	}
	_, err := io.WriteString(clients[2], testLineV1[1:])
	require.NoError(t, err)
	c := <-accepted
	require.NotNil(t, c)
	assertTestClient(t, c)
	drops.empty(t)
	assert.Equal(t, uint64(2), ln.Stats().Dropped[ReasonEvicted])
	assert.Equal(t, 2, ln.Stats().Pending)
}

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

func TestHeaderThatIsThereCostsNoGoroutine(t *testing.T) {
	if testenv.Portable {
		t.Skip("sockets can't be read without waiting here")
	}
	ln := listen(t, &Config{Policy: Always(Require)})
	before := runtime.NumGoroutine()
	for range 100 {
		dial(t, ln, testLineV1)
		accept(t, ln)
		assert.LessOrEqual(t, runtime.NumGoroutine(), before)
	}
}

func (timedOutConn) Read([]byte) (int, error) {
	return 0, &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}
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
				source := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(w), byte(i)}), uint16(1000*w+i+1))
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
	sends := []string{testLineV1, encode(t, h), signatureV2 + "\x20\x00\x00\x00", "PROXY UNKNOWN\r\n", "GET", "PROXY x"}
	for _, send := range sends {
		dial(t, ln, send)
	}
	dial(t, ln, "").Close()
	dial(t, ln, "PROXY").CloseWrite()
	total := func() (n uint64, s Stats) {
		s = ln.Stats()
		return s.V1 + s.V2 + s.Local + s.Bare + s.Ignored + s.Skipped + s.Probes + s.TotalDropped(), s
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
	assert.Equal(t, map[Reason]uint64{ReasonNoHeader: 1, ReasonMalformed: 1, ReasonIncomplete: 1}, s.Dropped)
	for range 3 {
		drops.next(t)
	}
	drops.empty(t)
	assert.True(t, strings.HasPrefix(Reason(200).String(), "Reason("))
}

func (rudeListener) Addr() net.Addr { return nil }
