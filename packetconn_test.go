package proxyproto

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNewPacketConnRefusesConfig(t *testing.T) {
	inner := listenUDP(t, "127.0.0.1:0")
	for _, cfg := range []*Config{nil, {}, {Policy: Always(Require), MaxHeaderSize: -1}} {
		pc, err := NewPacketConn(inner, cfg)
		assert.Error(t, err)
		assert.Nil(t, pc)
	}
	_, err := inner.WriteTo([]byte("still open"), inner.LocalAddr())
	assert.NoError(t, err)
}

func TestPacketConnCopiesConfig(t *testing.T) {
	cfg := &Config{Policy: Always(Require), Versions: []Version{V2}}
	pc := newPacketConn(t, cfg)
	cfg.Policy, cfg.Versions[0] = nil, V1
	proxy := listenUDP(t, "127.0.0.1:0")
	send(t, proxy, pc, packet(t, packetHeader(), "hello"))
	payload, addr := receive(t, pc)
	assert.Equal(t, "hello", payload)
	assert.Equal(t, packetSource, addr.String())
}

// Every kind of datagram under every Action: what is read, and how it is counted.
func TestPacketActions(t *testing.T) {
	header, local := packet(t, packetHeader(), "hello"), packet(t, localHeader, "hello")
	unspec := packet(t, Header{Version: V2, Command: Proxy}, "hello")
	const v1, unknown = testLineV1 + "hello", "PROXY UNKNOWN\r\nhello"
	begun, malformed := header[:20], strings.Replace(header, "\x21", "\x2f", 1)
	dropped := func(r Reason) Stats {
		s := Stats{Accepted: 1}
		s.dropped[r]++
		return s
	}
	own := "" // the sender's own address
	type outcome struct {
		payload, client string
		stats           Stats
	}
	for _, c := range []struct {
		name, datagram string
		want           map[Action]outcome
	}{
		{"header", header, map[Action]outcome{
			Reject:   {stats: dropped(ReasonRejected)},
			Require:  {"hello", packetSource, Stats{Accepted: 1, V2: 1}},
			Skip:     {header, own, Stats{Accepted: 1, Skipped: 1}},
			Optional: {"hello", packetSource, Stats{Accepted: 1, V2: 1}},
			Ignore:   {"hello", own, Stats{Accepted: 1, Ignored: 1}},
		}},
		{"version 1", v1, map[Action]outcome{
			Require:  {"hello", testSource, Stats{Accepted: 1, V1: 1}},
			Optional: {"hello", testSource, Stats{Accepted: 1, V1: 1}},
			Ignore:   {"hello", own, Stats{Accepted: 1, Ignored: 1}},
		}},
		{"UNKNOWN", unknown, map[Action]outcome{
			Require: {"hello", own, Stats{Accepted: 1, V1: 1}},
			Ignore:  {"hello", own, Stats{Accepted: 1, Ignored: 1}},
		}},
		{"UNSPEC", unspec, map[Action]outcome{
			Require: {"hello", own, Stats{Accepted: 1, V2: 1}},
		}},
		{"LOCAL", local, map[Action]outcome{
			Reject:   {stats: dropped(ReasonRejected)},
			Require:  {"hello", own, Stats{Accepted: 1, Local: 1}},
			Optional: {"hello", own, Stats{Accepted: 1, Local: 1}},
			Ignore:   {"hello", own, Stats{Accepted: 1, Ignored: 1}},
		}},
		{"LOCAL with a block", unhex(t, "0d0a0d0a000d0a515549540a 20110005 0102030405") + "hello", map[Action]outcome{
			Require: {"hello", own, Stats{Accepted: 1, Local: 1}},
		}},
		{"no header", "hello", map[Action]outcome{
			Reject:   {stats: dropped(ReasonRejected)},
			Require:  {stats: dropped(ReasonNoHeader)},
			Skip:     {"hello", own, Stats{Accepted: 1, Skipped: 1}},
			Optional: {"hello", own, Stats{Accepted: 1, Bare: 1}},
			Ignore:   {"hello", own, Stats{Accepted: 1, Bare: 1}},
		}},
		{"the start of a header, too short to tell", "PRO", map[Action]outcome{
			Require:  {stats: dropped(ReasonIncomplete)},
			Optional: {"PRO", own, Stats{Accepted: 1, Bare: 1}},
			Ignore:   {"PRO", own, Stats{Accepted: 1, Bare: 1}},
		}},
		{"half a header", begun, map[Action]outcome{
			Require:  {stats: dropped(ReasonIncomplete)},
			Skip:     {begun, own, Stats{Accepted: 1, Skipped: 1}},
			Optional: {stats: dropped(ReasonIncomplete)},
			Ignore:   {stats: dropped(ReasonIncomplete)},
		}},
		{"malformed", malformed, map[Action]outcome{
			Require:  {stats: dropped(ReasonMalformed)},
			Optional: {stats: dropped(ReasonMalformed)},
			Ignore:   {stats: dropped(ReasonMalformed)},
		}},
		{"header alone", header[:28], map[Action]outcome{
			Require:  {"", packetSource, Stats{Accepted: 1, V2: 1}},
			Optional: {"", packetSource, Stats{Accepted: 1, V2: 1}},
			Ignore:   {"", own, Stats{Accepted: 1, Ignored: 1}},
		}},
		{"empty", "", map[Action]outcome{
			Reject:   {stats: dropped(ReasonRejected)},
			Require:  {stats: Stats{Accepted: 1, Probes: 1}},
			Skip:     {"", own, Stats{Accepted: 1, Skipped: 1}},
			Optional: {"", own, Stats{Accepted: 1, Bare: 1}},
			Ignore:   {"", own, Stats{Accepted: 1, Bare: 1}},
		}},
		{"a second header", header[:28] + header, map[Action]outcome{
			Require: {header, packetSource, Stats{Accepted: 1, V2: 1}},
		}},
	} {
		for action, want := range c.want {
			t.Run(c.name+"/"+action.String(), func(t *testing.T) {
				pc := newPacketConn(t, &Config{Policy: marked(Always(action))})
				proxy := listenUDP(t, "127.0.0.1:0")
				if want.client == own {
					want.client = proxy.LocalAddr().String()
				}
				send(t, proxy, pc, c.datagram)
				if want.stats.TotalDropped()+want.stats.Probes == 0 {
					payload, addr := receive(t, pc)
					assert.Equal(t, want.payload, payload)
					assert.Equal(t, want.client, addr.String())
				}
				more := requireNothing(t, pc, 1)
				want.stats.Accepted += more
				want.stats.Skipped += more
				assert.Equal(t, want.stats, pc.Stats())
			})
		}
	}
}

// What isn't served is counted, with the reason, when it was read under the Policy.
func TestPacketDropsAreCountedAndTold(t *testing.T) {
	header := packetHeader()
	forty := packet(t, packetHeader(noop(t, 12)...), "hello")
	refused := errors.New("not this one")
	for _, c := range []struct {
		name     string
		cfg      Config
		datagram string
		reason   Reason
		err      error
		bytes    string
	}{
		{"rejected", Config{Policy: Always(Reject)}, packet(t, header, "hello"), ReasonRejected, errRejected, ""},
		{"no header", Config{Policy: Always(Require)}, "hello", ReasonNoHeader, ErrNoHeader, "hello"},
		{"malformed", Config{Policy: Always(Require)}, "PROXY TCP5", ReasonMalformed, ErrMalformed, "PROXY TCP5"},
		{"incomplete", Config{Policy: Always(Require)}, "PROXY TCP4", ReasonIncomplete, ErrIncomplete, "PROXY TCP4"},
		{"version", Config{Policy: Always(Require), Versions: []Version{V2}}, testLineV1 + "hello", ReasonVersion, nil, testLineV1[:16]},
		{"too large", Config{Policy: Always(Require), MaxHeaderSize: 39}, forty, ReasonTooLarge, nil, forty[:16]},
		{"too large and cut off", Config{Policy: Always(Require), MaxHeaderSize: 39}, forty[:30], ReasonTooLarge, nil, forty[:16]},
		{"invalid", Config{Policy: Always(Require), Validate: func(netip.AddrPort, *Header) error { return refused }},
			packet(t, header, "hello"), ReasonInvalid, refused, packet(t, header, "")[:16]},
	} {
		t.Run(c.name, func(t *testing.T) {
			drops := logDrops(&c.cfg)
			told := c.cfg.OnDrop
			proxy := listenUDP(t, "127.0.0.1:0")
			for _, onDrop := range []func(netip.AddrPort, error){
				nil, // it is counted all the same
				func(peer netip.AddrPort, err error) {
					assert.Equal(t, proxy.LocalAddr().String(), peer.String())
					told(peer, err)
				},
			} {
				cfg := c.cfg
				cfg.Policy, cfg.OnDrop = marked(cfg.Policy), onDrop
				pc := newPacketConn(t, &cfg)
				send(t, proxy, pc, c.datagram)
				more := requireNothing(t, pc, 1)
				s := pc.Stats()
				assert.EqualValues(t, 1+more, s.Accepted)
				assert.EqualValues(t, 1, s.Dropped(c.reason))
				assert.EqualValues(t, 1, s.TotalDropped())
			}
			drop := drops.next(t)
			assert.Equal(t, c.reason, drop.Reason)
			if c.err != nil {
				assert.ErrorIs(t, drop, c.err)
			}
			assert.Equal(t, c.bytes, string(drop.Bytes))
			drops.empty(t)
		})
	}
	cfg := Config{Policy: Always(Require), MaxHeaderSize: 40}
	drops := logDrops(&cfg)
	pc := newPacketConn(t, &cfg)
	send(t, listenUDP(t, "127.0.0.1:0"), pc, forty)
	payload, _ := receive(t, pc)
	assert.Equal(t, "hello", payload, "a header of just MaxHeaderSize")
	drops.empty(t)
}

func TestPacketValidateSeesHeaderAndPeer(t *testing.T) {
	want := packetHeader(noop(t, 10)...)
	proxy := listenUDP(t, "127.0.0.1:0")
	seen := 0
	pc := newPacketConn(t, &Config{Policy: Always(Require), Validate: func(peer netip.AddrPort, h *Header) error {
		seen++
		assert.Equal(t, proxy.LocalAddr().String(), peer.String())
		if h.Command == Proxy {
			assert.Equal(t, want, *h)
		}
		return nil
	}})
	send(t, proxy, pc, packet(t, want, "hello"))
	send(t, proxy, pc, packet(t, localHeader, "health"))
	receive(t, pc)
	receive(t, pc)
	assert.Equal(t, 2, seen)
	pc.SetPolicy(Always(Ignore))
	send(t, proxy, pc, packet(t, want, "hello"))
	receive(t, pc)
	pc.SetPolicy(Always(Optional))
	send(t, proxy, pc, "bare")
	receive(t, pc)
	assert.Equal(t, 2, seen, "headers that aren't believed aren't validated")
}

func TestPacketPolicyGetsPlainAddresses(t *testing.T) {
	inner := listenUDP(t, "[::]:0")
	var peers, locals []netip.AddrPort
	pc, err := NewPacketConn(inner, &Config{Policy: func(peer, local netip.AddrPort) Action {
		peers, locals = append(peers, peer), append(locals, local)
		return Require
	}})
	require.NoError(t, err)
	port := inner.LocalAddr().(*net.UDPAddr).Port
	proxy := listenUDP(t, "127.0.0.1:0")
	_, err = proxy.WriteTo([]byte(packet(t, packetHeader(), "hello")), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		t.Skipf("no dual-stack sockets here: %v", err)
	}
	_, addr := receive(t, pc)
	assert.Equal(t, []netip.AddrPort{proxy.LocalAddr().(*net.UDPAddr).AddrPort()}, peers)
	assert.Equal(t, []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port))}, locals)
	assert.Equal(t, peers[0], addr.(*PacketAddr).Peer())
	_, err = pc.WriteTo([]byte("reply"), addr)
	require.NoError(t, err)
	payload, _ := receive(t, proxy)
	assert.Equal(t, "reply", payload)

	pc.SetPolicy(Always(Skip))
	_, err = proxy.WriteTo([]byte("direct"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	require.NoError(t, err)
	_, addr = receive(t, pc)
	assert.Equal(t, proxy.LocalAddr().String(), addr.String())
	_, err = pc.WriteTo([]byte("reply"), addr)
	require.NoError(t, err)
	payload, _ = receive(t, proxy)
	assert.Equal(t, "reply", payload)
}

func TestPacketSetPolicyNilRejects(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: Always(Skip)})
	pc.SetPolicy(nil)
	drained := make(chan error)
	go func() {
		_, _, err := pc.ReadFrom(make([]byte, 100))
		drained <- err
	}()
	stranger := listenUDP(t, "127.0.0.1:0")
	for pc.Stats().Dropped(ReasonRejected) == 0 {
		send(t, stranger, pc, "hello")
	}
	pc.Close()
	assert.ErrorIs(t, <-drained, net.ErrClosed)
}

// Two clients behind two proxies each, and a health check: every reply goes out by the proxy
// that its datagram came in by, from copies of the addresses and in any order.
func TestPacketRepliesGoThroughTheirProxy(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: Always(Require)})
	proxies := []*net.UDPConn{listenUDP(t, "127.0.0.1:0"), listenUDP(t, "127.0.0.2:0")}
	var addrs []net.Addr
	for _, proxy := range proxies {
		for _, source := range []string{"192.0.2.1:1", "192.0.2.2:2"} {
			h := packetHeader()
			h.Source = netip.MustParseAddrPort(source)
			send(t, proxy, pc, packet(t, h, "hello"))
			_, addr := receive(t, pc)
			require.Equal(t, source, addr.String())
			assert.Equal(t, proxy.LocalAddr().String(), addr.(*PacketAddr).Peer().String())
			addrs = append(addrs, addr)
		}
		send(t, proxy, pc, packet(t, localHeader, "health"))
		_, addr := receive(t, pc)
		require.Equal(t, proxy.LocalAddr().String(), addr.String())
		addrs = append(addrs, addr)
	}
	for i := len(addrs) - 1; i >= 0; i-- {
		a := *addrs[i].(*PacketAddr)
		n, err := pc.WriteTo([]byte{byte(i)}, &a)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		payload, from := receive(t, proxies[i/3])
		assert.Equal(t, string([]byte{byte(i)}), payload, "without a header")
		assert.Equal(t, pc.LocalAddr().String(), from.String())
	}
}

// A buffer needs no room for the header, and a payload that is longer than it is cut.
func TestPacketBuffers(t *testing.T) {
	payload := strings.Repeat("0123456789abcdef", 32) // 512 bytes
	for _, header := range []Header{packetHeader(), packetHeader(noop(t, 172)...), packetHeader(noop(t, 4068)...)} {
		pc := newPacketConn(t, &Config{Policy: Always(Require)})
		proxy := listenUDP(t, "127.0.0.1:0")
		for _, size := range []int{0, 1, 511, 512, 513, 1500, 9000, maxDatagram, maxDatagram + 1000} {
			send(t, proxy, pc, packet(t, header, payload))
			b := make([]byte, size+10)
			copy(b[size:], "untouched!")
			n, addr, err := pc.ReadFrom(b[:size])
			require.NoError(t, err)
			assert.Equal(t, payload[:min(size, 512)], string(b[:n]), "into %d bytes", size)
			assert.Equal(t, packetSource, addr.String())
			assert.Equal(t, "untouched!", string(b[size:]))
		}
		assert.Zero(t, pc.Stats().TotalDropped())
	}
}

// The longest datagrams of UDP come whole, with the longest header and without.
func TestPacketLongest(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: Always(Require), MaxHeaderSize: maxHeader})
	proxy := listenUDP(t, "127.0.0.1:0")
	payload := strings.Repeat("x", maxPayload4-28)
	for _, size := range []int{1000, len(payload), maxDatagram} {
		send(t, proxy, pc, packet(t, packetHeader(), payload))
		b := make([]byte, size)
		n, _, err := pc.ReadFrom(b)
		require.NoError(t, err)
		assert.Equal(t, payload[:min(size, len(payload))], string(b[:n]))
	}
	send(t, proxy, pc, packet(t, packetHeader(noop(t, maxPayload4-28-4)...), "tiny"))
	got, _ := receive(t, pc)
	assert.Equal(t, "tiny", got)
	pc.SetPolicy(Always(Skip))
	send(t, proxy, pc, payload)
	got, _ = receive(t, pc)
	assert.Equal(t, payload, got)
}

// A header cut off at any byte by the end of its datagram is refused, and the next datagram
// doesn't complete it.
func TestPacketsAreJudgedAlone(t *testing.T) {
	for _, header := range []string{packet(t, packetHeader(noop(t, 10)...), ""), testLineV1} {
		pc := newPacketConn(t, &Config{Policy: Always(Require)})
		proxy := listenUDP(t, "127.0.0.1:0")
		for i := 1; i < len(header); i++ {
			send(t, proxy, pc, header[:i])
			send(t, proxy, pc, header[i:])
			send(t, proxy, pc, header+"hello")
			payload, _ := receive(t, pc)
			require.Equal(t, "hello", payload, "cut at %d", i)
		}
		s := pc.Stats()
		assert.EqualValues(t, 2*(len(header)-1), s.Dropped(ReasonIncomplete)+s.Dropped(ReasonNoHeader))
	}
}

func TestReadHeaderFrom(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: Always(Require)})
	proxy := listenUDP(t, "127.0.0.1:0")
	b := make([]byte, 100)
	var h Header

	first := packetHeader(noop(t, 50)...)
	send(t, proxy, pc, packet(t, first, "hello"))
	n, addr, err := pc.ReadHeaderFrom(b, &h)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(b[:n]))
	assert.Equal(t, packetSource, addr.String())
	assert.Equal(t, packetDestination, addr.Destination().String())
	assert.Equal(t, first, h)
	kept, memory := h.Clone(), &h.TLVs[0]

	second := packetHeader(0xE0, 0, 1, 'x')
	send(t, proxy, pc, packet(t, second, "again"))
	_, _, err = pc.ReadHeaderFrom(b, &h)
	require.NoError(t, err)
	assert.Equal(t, second, h)
	assert.Same(t, memory, &h.TLVs[0], "the TLVs' memory is used again")
	assert.Equal(t, first, kept)

	// What h has is its own: the buffer that the datagram was read into is used by the next.
	var other Header
	send(t, proxy, pc, packet(t, packetHeader(0xE1, 0, 1, 'y'), "other"))
	_, _, err = pc.ReadHeaderFrom(b, &other)
	require.NoError(t, err)
	assert.Equal(t, second, h)

	unix, err := NewUnixAddrs("/run/client", "/run/server")
	require.NoError(t, err)
	third := Header{Version: V2, Command: Proxy, Protocol: UnixDatagram, Unix: unix}
	send(t, proxy, pc, packet(t, third, "unix"))
	_, _, err = pc.ReadHeaderFrom(b, &h)
	require.NoError(t, err)
	assert.Empty(t, h.TLVs)
	assert.Equal(t, *unix, *h.Unix)
	send(t, proxy, pc, packet(t, packetHeader(noop(t, 300)...), "over it"))
	_, _, err = pc.ReadHeaderFrom(b, nil)
	require.NoError(t, err, "nobody wants the header")
	assert.Equal(t, *unix, *h.Unix)

	for _, action := range []Action{Skip, Ignore, Optional} {
		pc.SetPolicy(Always(action))
		datagram := packet(t, first, "hello")
		if action == Optional {
			datagram = "bare"
		}
		send(t, proxy, pc, datagram)
		_, addr, err = pc.ReadHeaderFrom(b, &h)
		require.NoError(t, err)
		assert.Equal(t, Header{TLVs: TLVs{}}, h, "%v", action)
		assert.Equal(t, proxy.LocalAddr().String(), addr.String())
		assert.False(t, addr.Destination().IsValid())
	}
}

// A stream of datagrams that are dropped neither ends reading nor outlasts its deadline.
func TestPacketFloodHeedsDeadlineAndClose(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: Always(Require)})
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
	require.NoError(t, pc.NetPacketConn().SetDeadline(time.Time{})) // no other than this:
	require.NoError(t, pc.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, _, err := pc.ReadFrom(make([]byte, 100))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	netErr, ok := err.(net.Error)
	require.True(t, ok)
	assert.True(t, netErr.Timeout())
	assert.NotZero(t, pc.Stats().Dropped(ReasonNoHeader))

	require.NoError(t, pc.SetReadDeadline(time.Time{}))
	read := make(chan error, 1)
	go func() {
		_, _, err := pc.ReadFrom(make([]byte, 100))
		read <- err
	}()
	require.NoError(t, pc.Close())
	assert.ErrorIs(t, <-read, net.ErrClosed)
}

func TestPacketDeadlines(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: Always(Skip)})
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
	var pc any = newPacketConn(t, &Config{Policy: Always(Require)})
	_, ok := pc.(syscall.Conn)
	assert.False(t, ok, "SyscallConn")
	_, ok = pc.(interface {
		ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error)
	})
	assert.False(t, ok, "ReadMsgUDP")
	_, ok = pc.(interface{ ReadBatch() })
	assert.False(t, ok, "ReadBatch")
	_, ok = pc.(io.Reader)
	assert.False(t, ok, "Read")
}

func TestPacketSocketBuffersUnsupported(t *testing.T) {
	pc, err := NewPacketConn(&fakePackets{local: &net.UDPAddr{}}, &Config{Policy: Always(Require)})
	require.NoError(t, err)
	assert.ErrorIs(t, pc.SetReadBuffer(1), errors.ErrUnsupported)
	assert.ErrorIs(t, pc.SetWriteBuffer(1), errors.ErrUnsupported)
}

// Readers, writers and whoever changes things, all at once: for the race detector.
func TestPacketConnConcurrently(t *testing.T) {
	const readers, senders, datagrams = 4, 4, 200
	pc := newPacketConn(t, &Config{Policy: Always(Require)})
	var wg, readersDone sync.WaitGroup
	for range readers {
		readersDone.Go(func() {
			b, h := make([]byte, 100), Header{}
			for {
				n, addr, err := pc.ReadHeaderFrom(b, &h)
				if err != nil {
					assert.ErrorIs(t, err, net.ErrClosed)
					return
				}
				assert.Equal(t, h.Source, addr.AddrPort())
				assert.Equal(t, addr.String(), string(b[:n]))
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
				h := packetHeader(noop(t, 10+k)...)
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
			pc.SetPolicy(Always(Require))
			pc.Remember(k%3*10, time.Minute)
			pc.Stats()
		}
	})
	wg.Wait()
	pc.Close()
	readersDone.Wait()
	assert.EqualValues(t, senders*datagrams, pc.Stats().V2)
}
