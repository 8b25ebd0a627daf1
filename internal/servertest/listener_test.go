package servertest

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
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
		"GET / HTTP/1.1\r\nHost: x\r\n": "proxyproto: not a PROXY protocol header " +
			"but an HTTP request: the proxy sends no header " +
			`(sent "GET / HTTP/1.1\r\n")`,
		"PROXY TCP4 10.0.0.1 10.0.0.2 65536 1\r\n": "proxyproto: malformed v1 header at byte 33: " +
			`a port is over 65535 (section 2.1) (sent "1 10.0.0.2 65536")`,
		signatureV2 + "\x21\x41\x00\x00": "proxyproto: malformed v2 header at byte 13: " +
			"the address family must be UNSPEC, INET, INET6 or UNIX (section 2.2) " +
			`(sent "\r\n\r\n\x00\r\nQUIT\n!A\x00\x00")`,
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
