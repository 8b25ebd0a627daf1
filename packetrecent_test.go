package proxyproto

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPacketWriteToPlainAddress(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: Always(Require)})
	proxy := listenUDP(t, "127.0.0.1:0")
	send(t, proxy, pc, packet(t, packetHeader(), "hello"))
	_, addr := receive(t, pc)
	plain := addr.(*PacketAddr).Unwrap()
	for _, to := range []net.Addr{plain, proxy.LocalAddr(), nil, (*PacketAddr)(nil), &PacketAddr{}, &net.UnixAddr{Net: "unixgram", Name: "/run/x"}} {
		n, err := pc.WriteTo([]byte("reply"), to)
		assert.Zero(t, n)
		assert.ErrorIs(t, err, ErrNoProxy, "%v", to)
		var op *net.OpError
		require.ErrorAs(t, err, &op)
		assert.Equal(t, "write", op.Op)
		assert.Equal(t, to, op.Addr)
	}
	requireSilent(t, proxy)
}

// requireSilent checks that nothing has been sent to c.
func requireSilent(t testing.TB, c *net.UDPConn) {
	t.Helper()
	_, err := c.WriteTo([]byte("end"), c.LocalAddr())
	require.NoError(t, err)
	payload, from := receive(t, c)
	require.Equal(t, "end", payload, "from %v", from)
}

func TestPacketRemember(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: Always(Require)})
	proxy, second := listenUDP(t, "127.0.0.1:0"), listenUDP(t, "127.0.0.1:0")
	plain := func() net.Addr { // as one makes it from its text
		a, err := net.ResolveUDPAddr("udp", packetSource)
		require.NoError(t, err)
		return a
	}
	hello := packet(t, packetHeader(), "hello")

	pc.Remember(10, time.Hour)
	_, err := pc.WriteTo([]byte("reply"), plain())
	assert.ErrorIs(t, err, ErrNoProxy, "a client that hasn't been heard of")
	send(t, proxy, pc, hello)
	receive(t, pc)
	_, err = pc.WriteTo([]byte("reply"), plain())
	require.NoError(t, err)
	payload, _ := receive(t, proxy)
	assert.Equal(t, "reply", payload)
	nowhere := packetHeader()
	nowhere.Protocol = UDP6
	nowhere.Source, nowhere.Destination = netip.MustParseAddrPort("[::]:0"), netip.MustParseAddrPort("[::]:0")
	send(t, proxy, pc, packet(t, nowhere, "hello"))
	receive(t, pc)
	for _, none := range []net.Addr{nil, (*PacketAddr)(nil), &PacketAddr{}} {
		_, err = pc.WriteTo([]byte("reply"), none)
		assert.ErrorIs(t, err, ErrNoProxy)
	}

	send(t, second, pc, hello)
	receive(t, pc)
	_, err = pc.WriteTo([]byte("reply"), plain())
	require.NoError(t, err)
	payload, _ = receive(t, second)
	assert.Equal(t, "reply", payload, "through the proxy that was heard last")
	requireSilent(t, proxy)

	send(t, proxy, pc, packet(t, localHeader, "health"))
	receive(t, pc)
	_, err = pc.WriteTo([]byte("reply"), proxy.LocalAddr())
	require.NoError(t, err, "peers that speak for themselves are remembered too")
	payload, _ = receive(t, proxy)
	assert.Equal(t, "reply", payload)

	pc.Remember(0, time.Hour)
	_, err = pc.WriteTo([]byte("reply"), plain())
	assert.ErrorIs(t, err, ErrNoProxy, "ended")
	pc.Remember(10, time.Hour)
	_, err = pc.WriteTo([]byte("reply"), plain())
	assert.ErrorIs(t, err, ErrNoProxy, "forgotten")
}

// The address that a server keeps gets older than the proxy's socket.
func TestPacketRememberFollowsTheClient(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: Always(Require)})
	first, second := listenUDP(t, "127.0.0.1:0"), listenUDP(t, "127.0.0.1:0")
	from := func(proxy *net.UDPConn, h Header) net.Addr {
		send(t, proxy, pc, packet(t, h, "hello"))
		_, addr := receive(t, pc)
		return addr
	}
	reply := func(to net.Addr, through *net.UDPConn, why string) {
		t.Helper()
		_, err := pc.WriteTo([]byte(why), to)
		require.NoError(t, err)
		payload, _ := receive(t, through)
		assert.Equal(t, why, payload)
	}
	h := packetHeader()
	kept := from(first, h)
	from(second, h)
	reply(kept, first, "nothing is remembered")
	pc.Remember(10, time.Hour)
	reply(kept, first, "nothing is remembered yet")
	from(second, h)
	reply(kept, second, "the client has come through the second proxy")
	from(first, h)
	reply(kept, first, "and through the first again")

	other := h
	other.Destination = netip.AddrPortFrom(h.Destination.Addr(), 54)
	elsewhere := from(second, other)
	reply(kept, first, "what it has sent elsewhere is another matter")
	reply(elsewhere, second, "this is it")
	health := from(first, localHeader)
	reply(health, first, "a peer that speaks for itself")
	requireSilent(t, first)
	requireSilent(t, second)
}

func recentTestAddr(i int) (netip.AddrPort, *PacketAddr) {
	client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 53)
	proxy := netip.MustParseAddrPort(fmt.Sprintf("10.0.0.1:%d", 1000+i))
	a := new(PacketAddr)
	a.own(proxy, nil)
	a.behind(&Header{Source: client, Destination: client})
	return client, a
}

func TestRecentClientsAreBounded(t *testing.T) {
	r := newRecentClients(3, time.Hour)
	known := func() (known []int) {
		for i := range 20 {
			client, want := recentTestAddr(i)
			if a := r.find(client); a != nil {
				assert.Equal(t, want, a)
				known = append(known, i)
			}
		}
		assert.Len(t, r.byAddr, r.order.Len())
		assert.LessOrEqual(t, r.order.Len(), 3)
		return known
	}
	note := func(i int) {
		_, a := recentTestAddr(i)
		r.note(a)
	}
	note(1)
	note(2)
	note(3)
	assert.Equal(t, []int{1, 2, 3}, known())
	note(1) // heard again: 2 is now the one heard of the longest time ago
	note(4)
	assert.Equal(t, []int{1, 3, 4}, known())
	for i := range 10 {
		note(i + 10)
	}
	assert.Equal(t, []int{17, 18, 19}, known())
	var unix PacketAddr
	unix.own(netip.AddrPort{}, &net.UnixAddr{Name: "/run/x"})
	r.note(&unix)
	assert.Equal(t, []int{17, 18, 19}, known(), "without an IP address it can't be looked for")
}

func TestRecentClientsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecentClients(100, time.Minute)
		first, a := recentTestAddr(1)
		second, b := recentTestAddr(2)
		r.note(a)
		time.Sleep(40 * time.Second)
		r.note(b)
		time.Sleep(20*time.Second - 1)
		assert.NotNil(t, r.find(first))
		time.Sleep(time.Nanosecond)
		assert.Nil(t, r.find(first))
		assert.NotNil(t, r.find(second))
		r.note(a)
		r.note(b)
		assert.Equal(t, 2, r.order.Len())
		time.Sleep(59 * time.Second)
		assert.NotNil(t, r.find(second), "heard of again since")
		time.Sleep(2 * time.Minute)
		_, c := recentTestAddr(3)
		r.note(c)
		assert.Equal(t, 1, r.order.Len(), "what has expired takes no memory when others come")
		assert.Len(t, r.byAddr, 1)
	})
}

// For the race detector: clients that move between proxies while others write to them.
func TestRecentClientsConcurrently(t *testing.T) {
	r := newRecentClients(3, time.Hour)
	var wg sync.WaitGroup
	for proxy := range 4 {
		wg.Go(func() {
			for i := range 200 {
				_, a := recentTestAddr(i % 5)
				a.peer.port = uint16(proxy)
				r.note(a)
				way := r.way(a)
				assert.Equal(t, a.client, way.client)
				assert.Less(t, way.socketPeer().Port(), uint16(4))
			}
		})
	}
	wg.Wait()
}
