package proxyudp

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

func TestNewPacketConnRefuses(t *testing.T) {
	inner := listenUDP(t, "127.0.0.1:0")
	for _, cfg := range []*Config{
		nil,
		{},
		{Policy: requireAll, MaxHeaderSize: -1},
		{Policy: requireAll, Sessions: -1},
		{Policy: requireAll, Sessions: 1, SessionTimeout: -1},
		{Policy: requireAll, Sessions: 1, SessionTimeout: 30},
		{Policy: requireAll, SessionTimeout: time.Minute},
		{Policy: requireAll, Versions: []proxyproto.Version{3}},
	} {
		pc, err := NewPacketConn(inner, cfg)
		assert.ErrorContains(t, err, "proxyudp: ")
		assert.Nil(t, pc)
	}
	cfg := &Config{Policy: requireAll}
	pc, err := NewPacketConn(inner, cfg)
	require.NoError(t, err)
	quic, err := NewQUICConn(inner, cfg)
	require.NoError(t, err)
	for _, inner := range []net.PacketConn{nil, (*net.UDPConn)(nil), pc, quic} {
		_, err := NewPacketConn(inner, cfg)
		assert.ErrorContains(t, err, "the inner connection", "%T", inner)
	}
	_, err = NewQUICConn(nil, cfg)
	assert.ErrorContains(t, err, "the inner connection is nil")
	_, err = NewQUICConn(inner, &Config{})
	assert.ErrorContains(t, err, "Policy")
	_, err = inner.WriteTo([]byte("still open"), inner.LocalAddr())
	assert.NoError(t, err)
}

func TestPacketConnCopiesConfig(t *testing.T) {
	cfg := &Config{Policy: requireAll, Versions: []proxyproto.Version{proxyproto.V2}}
	pc := newPacketConn(t, cfg)
	cfg.Policy, cfg.Versions[0] = nil, proxyproto.V1
	addr := exchange(t, listenUDP(t, "127.0.0.1:0"), pc, packet(t, testHeader(), "hello"))
	assert.Equal(t, testSource, addr.String())
}

func TestPacketSetPolicyNilRejects(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: proxyproto.Always(proxyproto.Skip)})
	pc.SetPolicy(nil)
	drained := make(chan error)
	go func() {
		_, _, err := pc.ReadFrom(make([]byte, 100))
		drained <- err
	}()
	stranger := listenUDP(t, "127.0.0.1:0")
	for pc.Stats().Dropped[proxyproto.ReasonRejected] == 0 {
		send(t, stranger, pc, "hello")
	}
	pc.Close()
	assert.ErrorIs(t, <-drained, net.ErrClosed)
}

// Two clients behind two proxies each, and a health check: every reply goes out by the proxy
// that its datagram came in by, from copies of the addresses and in any order.
func TestPacketRepliesGoThroughTheirProxy(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: requireAll})
	proxies := []*net.UDPConn{listenUDP(t, "127.0.0.1:0"), listenUDP(t, "127.0.0.2:0")}
	var addrs []net.UDPAddr
	for _, proxy := range proxies {
		for _, source := range []string{"192.0.2.1:1", "192.0.2.2:2"} {
			addr := exchange(t, proxy, pc, packet(t, clientHeader(source), "hello"))
			require.Equal(t, source, addr.String())
			addrs = append(addrs, *addr)
		}
		addr := exchange(t, proxy, pc, packet(t, localHeader, "health"))
		require.Equal(t, proxy.LocalAddr().String(), addr.String())
		addrs = append(addrs, *addr)
	}
	for i := len(addrs) - 1; i >= 0; i-- {
		assertReply(t, pc, &addrs[i], proxies[i/3], string([]byte{byte(i)}))
	}
}

// A buffer needs no room for the header, and a payload that is longer than it is cut.
func TestPacketBuffers(t *testing.T) {
	payload := strings.Repeat("0123456789abcdef", 32) // 512 bytes
	for _, tlvs := range [][]byte{nil, noop(t, 172), noop(t, 4068)} {
		pc := newPacketConn(t, &Config{Policy: requireAll})
		proxy := listenUDP(t, "127.0.0.1:0")
		for _, size := range []int{0, 1, 511, 512, 513, 1500, 9000, maxDatagram, maxDatagram + 1000} {
			send(t, proxy, pc, packet(t, testHeader(tlvs...), payload))
			b := make([]byte, size+10)
			copy(b[size:], "untouched!")
			n, addr, err := pc.ReadFrom(b[:size])
			require.NoError(t, err)
			assert.Equal(t, payload[:min(size, 512)], string(b[:n]), "into %d bytes", size)
			assert.Equal(t, testSource, addr.String())
			assert.Equal(t, "untouched!", string(b[size:]))
			r, ok := RouteOf(addr)
			require.True(t, ok)
			assert.Equal(t, string(tlvs), string(r.TLVs))
		}
		assert.Zero(t, dropped(pc.Stats()))
	}
}

// The longest datagrams of UDP come whole, with the longest header and without.
func TestPacketLongest(t *testing.T) {
	const most = 65507 // over IPv4
	pc := newPacketConn(t, &Config{Policy: requireAll, MaxHeaderSize: 65551})
	proxy := listenUDP(t, "127.0.0.1:0")
	payload := strings.Repeat("x", most-28)
	for _, size := range []int{1000, len(payload), maxDatagram} {
		send(t, proxy, pc, packet(t, testHeader(), payload))
		b := make([]byte, size)
		n, _, err := pc.ReadFrom(b)
		require.NoError(t, err)
		assert.Equal(t, payload[:min(size, len(payload))], string(b[:n]))
	}
	tlvs := noop(t, most-28-4)
	send(t, proxy, pc, packet(t, testHeader(tlvs...), "tiny"))
	got, addr := receive(t, pc)
	assert.Equal(t, "tiny", got)
	r, _ := RouteOf(addr)
	assert.Equal(t, string(tlvs), string(r.TLVs))
	assertReply(t, pc, addr, proxy, "reply")
	pc.SetPolicy(proxyproto.Always(proxyproto.Skip))
	send(t, proxy, pc, payload)
	got, _ = receive(t, pc)
	assert.Equal(t, payload, got)
}

// An inner connection that isn't a *net.UDPConn gets back the very addresses that it gave, unless
// those are plain.
func TestPacketConnAroundOthers(t *testing.T) {
	proxy := &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1).To4(), Port: 7777}
	unix := &net.UnixAddr{Net: "unixgram", Name: "/run/proxy"}
	hello, health := packet(t, testHeader(), "hello"), packet(t, localHeader, "health")
	inner := &fakePackets{local: &net.UDPAddr{Port: 53}, in: []fakePacket{
		{hello, proxy}, {health, proxy}, {hello, unix}, {health, unix}, {hello, nil}, {health, nil},
		{hello, (*net.UDPAddr)(nil)},
	}}
	var asked []netip.AddrPort
	pc, err := NewPacketConn(inner, &Config{Policy: func(p proxyproto.Peer) proxyproto.Action {
		asked = append(asked, p.Addr)
		return proxyproto.Require
	}})
	require.NoError(t, err)
	b := make([]byte, 100)
	for i, want := range []struct{ payload, network, client string }{
		{"hello", "udp", testSource}, {"health", "udp", "10.0.0.1:7777"},
		{"hello", "udp", testSource}, {"health", "unixgram", "/run/proxy"},
		{"hello", "udp", testSource}, {"health", "udp", "<nil>"}, {"hello", "udp", testSource},
	} {
		to := inner.in[0].addr
		n, addr, err := pc.ReadFrom(b)
		require.NoError(t, err)
		assert.Equal(t, want.payload, string(b[:n]))
		assert.Equal(t, want.client, addr.String())
		assert.Equal(t, want.network, addr.Network())
		r, ok := RouteOf(addr)
		assert.True(t, ok)
		assert.Equal(t, i < 2, r.Peer.IsValid())
		assert.Equal(t, want.payload == "hello", r.Destination.IsValid())
		_, err = pc.WriteTo([]byte("reply"), addr)
		if i >= 4 {
			assert.ErrorIs(t, err, ErrNoRoute, "a sender without an address")
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, fakePacket{"reply", to}, inner.out[len(inner.out)-1])
	}
	peer := proxy.AddrPort()
	assert.Equal(t, []netip.AddrPort{peer, peer, {}, {}, {}, {}, {}}, asked)
	_, addr, err := pc.ReadFrom(b)
	assert.ErrorIs(t, err, net.ErrClosed, "errors of the inner connection are passed on")
	assert.True(t, addr == nil, "%T", addr)

	pc.SetPolicy(proxyproto.Always(proxyproto.Optional))
	_, err = pc.WriteTo([]byte("direct"), unix)
	require.NoError(t, err)
	assert.Equal(t, fakePacket{"direct", unix}, inner.out[len(inner.out)-1])
}

// A stream of datagrams that are dropped neither ends reading nor outlasts its deadline.
func TestPacketFloodHeedsDeadlineAndClose(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: requireAll})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	strangers := listenUDP(t, "127.0.0.1:0")
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				strangers.WriteTo([]byte("no header"), pc.LocalAddr())
			}
		}
	})
	read := make(chan error, 1)
	readOne := func() {
		_, _, err := pc.ReadFrom(make([]byte, 100))
		read <- err
	}
	go readOne()
	for pc.Stats().Dropped[proxyproto.ReasonNoHeader] == 0 {
		runtime.Gosched()
	}
	require.NoError(t, pc.SetReadDeadline(time.Unix(1, 0)))
	err := <-read
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	netErr, ok := err.(net.Error)
	require.True(t, ok)
	assert.True(t, netErr.Timeout())

	require.NoError(t, pc.SetReadDeadline(time.Time{}))
	go readOne()
	require.NoError(t, pc.Close())
	assert.ErrorIs(t, <-read, net.ErrClosed)
}

func TestPacketDeadlines(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: proxyproto.Always(proxyproto.Skip)})
	send(t, pc.NetPacketConn(), pc, "to itself")
	_, self := receive(t, pc)
	past := time.Unix(1, 0)
	b := make([]byte, 10)

	require.NoError(t, pc.SetDeadline(past))
	_, _, err := pc.ReadFrom(b)
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	_, err = pc.WriteTo(b, self)
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)

	require.NoError(t, pc.SetWriteDeadline(time.Time{}))
	_, err = pc.WriteTo(b, self)
	assert.NoError(t, err)
	_, _, err = pc.ReadFrom(b)
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)

	require.NoError(t, pc.SetReadDeadline(time.Time{}))
	n, _, err := pc.ReadFrom(b)
	assert.NoError(t, err, "what came in the meantime is there")
	assert.Equal(t, len(b), n)
}

// Servers take it for a *net.UDPConn at their peril: nothing of it must lead past the headers.
func TestPacketConnOffersNoWayPastHeaders(t *testing.T) {
	var pc any = newPacketConn(t, &Config{Policy: requireAll})
	_, ok := pc.(syscall.Conn)
	assert.False(t, ok, "SyscallConn")
	_, ok = pc.(interface {
		ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error)
	})
	assert.False(t, ok, "ReadMsgUDP")
	_, ok = pc.(io.Reader)
	assert.False(t, ok, "Read")
}

func TestPacketSocketBuffers(t *testing.T) {
	pc, err := NewPacketConn(&fakePackets{local: &net.UDPAddr{}}, &Config{Policy: requireAll})
	require.NoError(t, err)
	assert.ErrorIs(t, pc.SetReadBuffer(1), errors.ErrUnsupported)
	assert.ErrorIs(t, pc.SetWriteBuffer(1), errors.ErrUnsupported)
	pc = newPacketConn(t, &Config{Policy: requireAll})
	assert.NoError(t, pc.SetReadBuffer(8<<10))
	assert.NoError(t, pc.SetWriteBuffer(8<<10))
	pc.Close()
	assert.ErrorIs(t, pc.SetReadBuffer(8<<10), net.ErrClosed, "it is the socket that is asked")
	assert.ErrorIs(t, pc.SetWriteBuffer(8<<10), net.ErrClosed)
}

// A callback that panics leaves a PacketConn working, if the panic is recovered.
func TestPacketPanics(t *testing.T) {
	panics := true
	check := func() {
		if panics {
			panic("callback")
		}
	}
	for name, cfg := range map[string]*Config{
		"Policy": {Policy: func(proxyproto.Peer) proxyproto.Action {
			check()
			return proxyproto.Require
		}},
		"Validate": {Policy: requireAll, Validate: func(proxyproto.Peer, *proxyproto.Header) error {
			check()
			return nil
		}},
		"OnDrop": {Policy: requireAll, OnDrop: func(proxyproto.Peer, *proxyproto.DropError) { check() }},
	} {
		cfg.Sessions = 10
		pc, err := NewQUICConn(listenUDP(t, "127.0.0.1:0"), cfg)
		require.NoError(t, err)
		pc.Remember(10, time.Minute)
		proxy := listenUDP(t, "127.0.0.1:0")
		for _, read := range []func(){
			func() { pc.ReadFrom(make([]byte, 100)) },
			func() { pc.ReadMsgUDP(make([]byte, 100), nil) },
			func() { pc.ReadBatch(messages(2, 100), 0) },
		} {
			panics = true
			datagram := packet(t, testHeader(), "hello")
			if name == "OnDrop" {
				datagram = "PROXY malformed"
			}
			send(t, proxy, pc, datagram)
			assert.PanicsWithValue(t, "callback", read, name)
			panics = false
			addr := exchange(t, proxy, pc, packet(t, testHeader(), "hello"))
			assertReply(t, pc, addr, proxy, "reply")
		}
	}
}

// Readers, writers and whoever changes things, all at once: for the race detector.
func TestPacketConnConcurrently(t *testing.T) {
	const readers, senders, datagrams = 4, 4, 200
	pc := newPacketConn(t, &Config{Policy: requireAll, Sessions: 3})
	var wg, readersDone sync.WaitGroup
	for range readers {
		readersDone.Go(func() {
			b := make([]byte, 100)
			for {
				n, addr, err := pc.ReadFrom(b)
				if err != nil {
					assert.ErrorIs(t, err, net.ErrClosed)
					return
				}
				assert.Equal(t, addr.String(), string(b[:n]))
				r, _ := RouteOf(addr)
				assert.Len(t, r.TLVs, 10+int(addr.(*net.UDPAddr).AddrPort().Port()))
				_, err = pc.WriteTo(b[:n], addr)
				assert.NoError(t, err)
			}
		})
	}
	for i := range senders {
		wg.Go(func() {
			proxy := listenUDP(t, "127.0.0.1:0")
			b := make([]byte, 100)
			for k := range datagrams {
				h := testHeader(noop(t, 10+k)...)
				h.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), uint16(k))
				send(t, proxy, pc, packet(t, h, h.Source.String()))
				n, _, err := proxy.ReadFrom(b)
				if assert.NoError(t, err) {
					assert.Equal(t, h.Source.String(), string(b[:n]))
				}
			}
		})
	}
	wg.Go(func() {
		for k := range 100 {
			pc.SetPolicy(requireAll)
			pc.Remember(k%3*10, time.Minute)
			pc.Stats()
		}
	})
	wg.Wait()
	pc.Close()
	readersDone.Wait()
	assert.EqualValues(t, senders*datagrams, pc.Stats().V2)
}
