package proxyudp

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

func TestRemember(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: requireAll})
	proxy, second := listenUDP(t, "127.0.0.1:0"), listenUDP(t, "127.0.0.1:0")
	hello := packet(t, testHeader(), "hello")
	plain := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 5353} // in the longer form too
	fails := func(why string) {
		t.Helper()
		_, err := pc.WriteTo([]byte(why), plain)
		assert.ErrorIs(t, err, ErrNoRoute, why)
	}

	pc.Remember(10, time.Hour)
	fails("a client that hasn't been heard of")
	exchange(t, proxy, pc, hello)
	assertReply(t, pc, plain, proxy, "it has")
	exchange(t, second, pc, hello)
	assertReply(t, pc, plain, second, "through the proxy that was heard of last")
	exchange(t, proxy, pc, packet(t, localHeader, "health"))
	assertReply(t, pc, proxy.LocalAddr(), proxy, "peers that speak for themselves too")

	nowhere := headerOf(proxyproto.UDP6, "[::]:0", "[::]:0")
	exchange(t, proxy, pc, packet(t, nowhere, "hello"))
	for _, none := range []net.Addr{nil, (*net.UDPAddr)(nil)} {
		_, err := pc.WriteTo([]byte("reply"), none)
		assert.ErrorIs(t, err, ErrNoRoute)
	}

	pc.Remember(0, time.Hour)
	fails("ended")
	exchange(t, proxy, pc, hello)
	fails("nobody is remembered")
	pc.Remember(10, time.Hour)
	fails("forgotten")
	pc.Remember(10, 0)
	exchange(t, proxy, pc, hello)
	fails("no age")
	requireSilent(t, proxy)
}

// The address that a server keeps gets older than the proxy's socket.
func TestRememberFollowsTheClient(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: requireAll})
	first, second := listenUDP(t, "127.0.0.1:0"), listenUDP(t, "127.0.0.1:0")
	hello := packet(t, testHeader(), "hello")
	kept := exchange(t, first, pc, hello)
	exchange(t, second, pc, hello)
	assertReply(t, pc, kept, first, "nothing is remembered")
	pc.Remember(10, time.Hour)
	assertReply(t, pc, kept, first, "nothing is remembered yet")
	exchange(t, second, pc, hello)
	assertReply(t, pc, kept, second, "the client has come through the second proxy")
	exchange(t, first, pc, hello)
	assertReply(t, pc, kept, first, "and through the first again")

	other := packet(t, headerOf(proxyproto.UDP4, testSource, "198.51.100.1:54"), "hello")
	elsewhere := exchange(t, second, pc, other)
	assertReply(t, pc, kept, first, "what it has sent elsewhere is another matter")
	assertReply(t, pc, elsewhere, second, "this is it")
	health := exchange(t, first, pc, packet(t, localHeader, "health"))
	assertReply(t, pc, health, first, "a peer that speaks for itself")
	requireSilent(t, first)
	requireSilent(t, second)
}

func heardAddr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 53)
}

func TestHeardIsBounded(t *testing.T) {
	h := newHeard[int](3, time.Hour)
	known := func() (known []int) {
		for i := range 20 {
			if what, ok := h.find(heardAddr(i), false); ok {
				assert.Equal(t, i, what)
				known = append(known, i)
			}
		}
		assert.Len(t, h.byAddr, h.order.Len())
		assert.LessOrEqual(t, h.order.Len(), 3)
		return known
	}
	note := func(is ...int) {
		for _, i := range is {
			h.note(heardAddr(i), i)
		}
	}
	note(1, 2, 3)
	assert.Equal(t, []int{1, 2, 3}, known())
	note(1, 4) // 2 is the one heard of the longest time ago
	assert.Equal(t, []int{1, 3, 4}, known())
	h.find(heardAddr(3), true)
	note(5)
	assert.Equal(t, []int{3, 4, 5}, known(), "3 was heard of after 1")
	note(10, 11, 12, 13)
	assert.Equal(t, []int{11, 12, 13}, known())
}

func TestHeardExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeard[int](100, time.Minute)
		found := func(i int, again bool) bool {
			_, ok := h.find(heardAddr(i), again)
			return ok
		}
		h.note(heardAddr(1), 1)
		time.Sleep(40 * time.Second)
		h.note(heardAddr(2), 2)
		time.Sleep(20*time.Second - 1)
		assert.True(t, found(1, false))
		time.Sleep(time.Nanosecond)
		assert.False(t, found(1, true))
		assert.False(t, found(1, false), "to ask for it doesn't bring it back")
		assert.True(t, found(2, true))
		time.Sleep(59 * time.Second)
		assert.True(t, found(2, false), "heard of again since")
		time.Sleep(time.Second)
		assert.False(t, found(2, false), "to look isn't to hear")
		h.note(heardAddr(3), 3)
		assert.Equal(t, 1, h.order.Len(), "what has expired takes no memory when others come")
		assert.Len(t, h.byAddr, 1)
	})
}

// For the race detector: clients that move between proxies while others write to them.
func TestHeardConcurrently(t *testing.T) {
	h := newHeard[int](3, time.Hour)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 200 {
				h.note(heardAddr(i%5), i%5)
				if what, ok := h.find(heardAddr(i%5), true); ok {
					assert.Equal(t, i%5, what)
				}
			}
		})
	}
	wg.Wait()
}

// With sessions a header speaks for the datagrams after it, from the same address and port.
func TestSessions(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: marked(requireAll), Sessions: 2})
	proxy, other := listenUDP(t, "127.0.0.1:0"), listenUDP(t, "127.0.0.1:0")
	first := testHeader(0xE0, 0, 1, 'x')
	is := func(from *net.UDPConn, datagram, client, payload string) {
		t.Helper()
		send(t, from, pc, datagram)
		got, addr := receive(t, pc)
		assert.Equal(t, payload, got)
		assert.Equal(t, client, addr.String())
		assertReply(t, pc, addr, from, "reply")
	}
	is(proxy, packet(t, first, "one"), testSource, "one")
	for _, payload := range []string{"two", "", "PRO", "\r\n\r\n"} {
		send(t, proxy, pc, payload)
		got, addr := receive(t, pc)
		assert.Equal(t, payload, got)
		assert.Equal(t, testSource, addr.String())
		r, ok := RouteOf(addr)
		assert.True(t, ok)
		assert.Equal(t, proxy.LocalAddr().String(), r.Peer.String())
		assert.Equal(t, testDestination, r.Destination.String())
		assert.Equal(t, "\xe0\x00\x01x", string(r.TLVs), "the session's header has them")
		assertReply(t, pc, addr, proxy, "reply")
	}
	assert.EqualValues(t, 5, pc.Stats().V2, "as the session's header")

	send(t, other, pc, "no session")
	more := requireNothing(t, pc, 6)
	assert.EqualValues(t, 1, pc.Stats().Dropped[proxyproto.ReasonNoHeader])
	send(t, proxy, pc, "PROXY TCP5") // begins as a header and isn't one
	requireNothing(t, pc, 7+more)
	assert.EqualValues(t, 1, pc.Stats().Dropped[proxyproto.ReasonMalformed])

	is(proxy, packet(t, clientHeader("192.0.2.8:8"), "next"), "192.0.2.8:8", "next")
	is(proxy, "more", "192.0.2.8:8", "more")
	is(proxy, packet(t, localHeader, "health"), proxy.LocalAddr().String(), "health")
	is(proxy, "again", proxy.LocalAddr().String(), "again")
	is(proxy, packet(t, first, "one"), testSource, "one")

	// Two at most: the one silent longest gives way.
	third := listenUDP(t, "127.0.0.1:0")
	is(other, packet(t, clientHeader("192.0.2.9:9"), "other"), "192.0.2.9:9", "other")
	is(proxy, "proxy", testSource, "proxy")
	is(third, packet(t, clientHeader("192.0.2.10:10"), "third"), "192.0.2.10:10", "third")
	is(proxy, "proxy", testSource, "proxy")
	send(t, other, pc, "gave way")
	requireNothing(t, pc, pc.Stats().Accepted+1)
	assert.EqualValues(t, 2, pc.Stats().Dropped[proxyproto.ReasonNoHeader])

	// What the Policy says counts for each datagram.
	for action, client := range map[proxyproto.Action]string{
		proxyproto.Optional: testSource,
		proxyproto.Skip:     proxy.LocalAddr().String(),
		proxyproto.Ignore:   proxy.LocalAddr().String(),
	} {
		pc.SetPolicy(marked(proxyproto.Always(action)))
		is(proxy, "bare", client, "bare")
	}
	pc.SetPolicy(marked(proxyproto.Always(proxyproto.Reject)))
	send(t, proxy, pc, "rejected")
	requireNothing(t, pc, pc.Stats().Accepted+1)
}

// A header that isn't believed begins no session, nor does one that Validate refuses.
func TestSessionsBeginWithBelievedHeaders(t *testing.T) {
	cfg := Config{Policy: marked(proxyproto.Always(proxyproto.Ignore)), Sessions: 10}
	cfg.Validate = func(proxyproto.Peer, *proxyproto.Header) error { return net.ErrClosed }
	pc := newPacketConn(t, &cfg)
	proxy := listenUDP(t, "127.0.0.1:0")
	exchange(t, proxy, pc, packet(t, testHeader(), "ignored"))
	pc.SetPolicy(marked(requireAll))
	send(t, proxy, pc, packet(t, testHeader(), "refused"))
	send(t, proxy, pc, "no session")
	requireNothing(t, pc, 3)
	s := pc.Stats()
	assert.EqualValues(t, 1, s.Dropped[proxyproto.ReasonInvalid])
	assert.EqualValues(t, 1, s.Dropped[proxyproto.ReasonNoHeader])
}

func TestSessionsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proxy := &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7777}
		inner := &fakePackets{local: &net.UDPAddr{}}
		pc, err := NewPacketConn(inner, &Config{Policy: requireAll, Sessions: 1})
		require.NoError(t, err)
		ask := func(datagram string) string {
			inner.in = append(inner.in, fakePacket{datagram, proxy})
			_, addr, err := pc.ReadFrom(make([]byte, 100))
			if err != nil {
				return "dropped"
			}
			return addr.String()
		}
		header := packet(t, testHeader(), "one")
		assert.Equal(t, testSource, ask(header))
		for range 3 {
			time.Sleep(30*time.Second - 1) // each datagram makes it last
			assert.Equal(t, testSource, ask("bare"))
		}
		time.Sleep(29 * time.Second)
		assert.Equal(t, testSource, ask(header)) // with the same header too
		time.Sleep(29 * time.Second)
		assert.Equal(t, testSource, ask("bare"))
		time.Sleep(30 * time.Second)
		assert.Equal(t, "dropped", ask("bare"))
		assert.Equal(t, testSource, ask(header))
	})
}
