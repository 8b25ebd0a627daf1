package proxyudp

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// Every kind of datagram under every Action: what is read, and how it is counted.
func TestPacketActions(t *testing.T) {
	const (
		reject   = proxyproto.Reject
		mustHave = proxyproto.Require
		skip     = proxyproto.Skip
		optional = proxyproto.Optional
		ignore   = proxyproto.Ignore
	)
	type counts = proxyproto.Stats
	header, local := packet(t, testHeader(), "hello"), packet(t, localHeader, "hello")
	unspec := packet(t, proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Proxy}, "hello")
	const v1, unknown = testLineV1 + "hello", "PROXY UNKNOWN\r\nhello"
	begun, malformed := header[:20], strings.Replace(header, "\x21", "\x2f", 1)
	drops := func(r proxyproto.Reason) counts {
		return counts{Dropped: map[proxyproto.Reason]uint64{r: 1}}
	}
	rejected := drops(proxyproto.ReasonRejected)
	incomplete, broken := drops(proxyproto.ReasonIncomplete), drops(proxyproto.ReasonMalformed)
	own := "" // the sender's own address
	type outcome struct {
		payload, client string
		stats           counts
	}
	for _, c := range []struct {
		name, datagram string
		want           map[proxyproto.Action]outcome
	}{
		{"header", header, map[proxyproto.Action]outcome{
			reject:   {stats: rejected},
			99:       {stats: rejected},
			mustHave: {"hello", testSource, counts{V2: 1}},
			skip:     {header, own, counts{Skipped: 1}},
			optional: {"hello", testSource, counts{V2: 1}},
			ignore:   {"hello", own, counts{Ignored: 1}},
		}},
		{"version 1", v1, map[proxyproto.Action]outcome{
			mustHave: {"hello", testSource, counts{V1: 1}},
			optional: {"hello", testSource, counts{V1: 1}},
			ignore:   {"hello", own, counts{Ignored: 1}},
		}},
		{"UNKNOWN", unknown, map[proxyproto.Action]outcome{
			mustHave: {"hello", own, counts{V1: 1}},
			ignore:   {"hello", own, counts{Ignored: 1}},
		}},
		{"UNSPEC", unspec, map[proxyproto.Action]outcome{
			mustHave: {"hello", own, counts{V2: 1}},
		}},
		{"LOCAL", local, map[proxyproto.Action]outcome{
			reject:   {stats: rejected},
			mustHave: {"hello", own, counts{Local: 1}},
			optional: {"hello", own, counts{Local: 1}},
			ignore:   {"hello", own, counts{Ignored: 1}},
		}},
		{"LOCAL with a block",
			unhex(t, "0d0a0d0a000d0a515549540a 20110005 0102030405") + "hello",
			map[proxyproto.Action]outcome{mustHave: {"hello", own, counts{Local: 1}}}},
		{"no header", "hello", map[proxyproto.Action]outcome{
			reject:   {stats: rejected},
			mustHave: {stats: drops(proxyproto.ReasonNoHeader)},
			skip:     {"hello", own, counts{Skipped: 1}},
			optional: {"hello", own, counts{Bare: 1}},
			ignore:   {"hello", own, counts{Bare: 1}},
		}},
		{"the start of a header, too short to tell", "PRO", map[proxyproto.Action]outcome{
			mustHave: {stats: incomplete},
			optional: {"PRO", own, counts{Bare: 1}},
			ignore:   {"PRO", own, counts{Bare: 1}},
		}},
		{"half a header", begun, map[proxyproto.Action]outcome{
			mustHave: {stats: incomplete},
			skip:     {begun, own, counts{Skipped: 1}},
			optional: {stats: incomplete},
			ignore:   {stats: incomplete},
		}},
		{"malformed", malformed, map[proxyproto.Action]outcome{
			mustHave: {stats: broken},
			optional: {stats: broken},
			ignore:   {stats: broken},
		}},
		{"header alone", header[:28], map[proxyproto.Action]outcome{
			mustHave: {"", testSource, counts{V2: 1}},
			optional: {"", testSource, counts{V2: 1}},
			ignore:   {"", own, counts{Ignored: 1}},
		}},
		{"empty", "", map[proxyproto.Action]outcome{
			reject:   {stats: rejected},
			mustHave: {stats: counts{Probes: 1}},
			skip:     {"", own, counts{Skipped: 1}},
			optional: {"", own, counts{Bare: 1}},
			ignore:   {"", own, counts{Bare: 1}},
		}},
		{"a second header", header[:28] + header, map[proxyproto.Action]outcome{
			mustHave: {header, testSource, counts{V2: 1}},
		}},
	} {
		for action, want := range c.want {
			t.Run(c.name+"/"+action.String(), func(t *testing.T) {
				pc := newPacketConn(t, &Config{Policy: marked(proxyproto.Always(action))})
				proxy := listenUDP(t, "127.0.0.1:0")
				if want.client == own {
					want.client = proxy.LocalAddr().String()
				}
				send(t, proxy, pc, c.datagram)
				if want.stats.Dropped == nil && want.stats.Probes == 0 {
					payload, addr := receive(t, pc)
					assert.Equal(t, want.payload, payload)
					assert.Equal(t, want.client, addr.String())
					assertReply(t, pc, addr, proxy, "reply")
				}
				more := requireNothing(t, pc, 1)
				want.stats.Accepted = 1 + more
				want.stats.Skipped += more
				if want.stats.Dropped == nil {
					want.stats.Dropped = map[proxyproto.Reason]uint64{}
				}
				assert.Equal(t, want.stats, pc.Stats())
			})
		}
	}
}

// What isn't served is counted, and reported with its reason, under the Policy that it was read
// under.
func TestPacketDropsAreCountedAndReported(t *testing.T) {
	header := testHeader()
	forty := packet(t, testHeader(noop(t, 12)...), "hello")
	refused := errors.New("not this one")
	refuse := func(proxyproto.Peer, *proxyproto.Header) error { return refused }
	v2 := []proxyproto.Version{proxyproto.V2}
	for _, c := range []struct {
		name     string
		cfg      Config
		datagram string
		reason   proxyproto.Reason
		err      error
		bytes    string
	}{
		{"rejected", Config{Policy: proxyproto.Always(proxyproto.Reject)}, forty,
			proxyproto.ReasonRejected, errRejected, ""},
		{"no header", Config{}, "hello", proxyproto.ReasonNoHeader, proxyproto.ErrNoHeader, "hello"},
		{"malformed", Config{}, "PROXY TCP5", proxyproto.ReasonMalformed, proxyproto.ErrMalformed,
			"PROXY TCP5"},
		{"malformed late", Config{}, "PROXY TCP4 192.0.2.7 x", proxyproto.ReasonMalformed,
			proxyproto.ErrMalformed, "TCP4 192.0.2.7 x"},
		{"incomplete", Config{}, "PROXY TCP4", proxyproto.ReasonIncomplete,
			proxyproto.ErrIncomplete, "PROXY TCP4"},
		{"version", Config{Versions: v2}, testLineV1 + "hello", proxyproto.ReasonVersion, nil,
			testLineV1[:16]},
		{"too large", Config{MaxHeaderSize: 39}, forty, proxyproto.ReasonTooLarge, nil, forty[:16]},
		{"too large and cut off", Config{MaxHeaderSize: 39}, forty[:30],
			proxyproto.ReasonTooLarge, nil, forty[:16]},
		{"too large by the length alone", Config{MaxHeaderSize: 39}, forty[:16],
			proxyproto.ReasonTooLarge, nil, forty[:16]},
		{"cut off before the length", Config{MaxHeaderSize: 39}, forty[:15],
			proxyproto.ReasonIncomplete, proxyproto.ErrIncomplete, forty[:15]},
		{"invalid", Config{Validate: refuse}, packet(t, header, "hello"),
			proxyproto.ReasonInvalid, refused, packet(t, header, "")[:16]},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.cfg.Policy == nil {
				c.cfg.Policy = requireAll
			}
			c.cfg.Policy = marked(c.cfg.Policy)
			drops := logDrops(&c.cfg)
			reported := c.cfg.OnDrop
			proxy := listenUDP(t, "127.0.0.1:0")
			for _, onDrop := range []func(proxyproto.Peer, *proxyproto.DropError){
				nil, // it is counted all the same
				reported,
			} {
				cfg := c.cfg
				cfg.OnDrop = onDrop
				pc := newPacketConn(t, &cfg)
				send(t, proxy, pc, c.datagram)
				more := requireNothing(t, pc, 1)
				s := pc.Stats()
				assert.EqualValues(t, 1+more, s.Accepted)
				assert.Equal(t, map[proxyproto.Reason]uint64{c.reason: 1}, s.Dropped)
			}
			require.Len(t, drops, 1)
			drop := <-drops
			assert.Equal(t, proxy.LocalAddr().String(), drop.peer.String())
			assert.Nil(t, drop.peer.Conn)
			assert.Equal(t, c.reason, drop.Reason)
			if c.err != nil {
				assert.ErrorIs(t, drop, c.err)
			}
			assert.Equal(t, c.bytes, string(drop.Bytes))
		})
	}
	cfg := Config{Policy: requireAll, MaxHeaderSize: 40}
	drops := logDrops(&cfg)
	pc := newPacketConn(t, &cfg)
	send(t, listenUDP(t, "127.0.0.1:0"), pc, forty)
	payload, _ := receive(t, pc)
	assert.Equal(t, "hello", payload, "a header of just MaxHeaderSize")
	assert.Empty(t, drops)
}

func TestPacketValidateSeesHeaderAndPeer(t *testing.T) {
	want := testHeader(noop(t, 10)...)
	proxy := listenUDP(t, "127.0.0.1:0")
	var seen []*proxyproto.Header
	pc := newPacketConn(t, &Config{
		Policy: requireAll,
		Validate: func(peer proxyproto.Peer, h *proxyproto.Header) error {
			assert.Equal(t, proxy.LocalAddr().String(), peer.String())
			seen = append(seen, h)
			return nil
		},
	})
	exchange(t, proxy, pc, packet(t, want, "hello"))
	exchange(t, proxy, pc, packet(t, localHeader, "health"))
	require.Len(t, seen, 2)
	assert.Equal(t, want, *seen[0], "the next datagram leaves it as it is")
	assert.Equal(t, proxyproto.Local, seen[1].Command)
	seen[0].TLVs[0], seen[0].Source = 99, netip.AddrPort{} // it is Validate's own

	pc.SetPolicy(proxyproto.Always(proxyproto.Ignore))
	exchange(t, proxy, pc, packet(t, want, "hello"))
	pc.SetPolicy(proxyproto.Always(proxyproto.Optional))
	exchange(t, proxy, pc, "bare")
	assert.Len(t, seen, 2, "headers that aren't believed aren't validated")
}

// What Validate changes in its header changes nothing else.
func TestPacketValidateHasACopy(t *testing.T) {
	pc := newPacketConn(t, &Config{
		Policy: requireAll,
		Validate: func(_ proxyproto.Peer, h *proxyproto.Header) error {
			h.Source, h.TLVs[3] = netip.MustParseAddrPort("192.0.2.66:6"), 'y'
			return nil
		},
	})
	addr := exchange(t, listenUDP(t, "127.0.0.1:0"), pc,
		packet(t, testHeader(0xE0, 0, 1, 'x'), "hello"))
	assert.Equal(t, testSource, addr.String())
	r, _ := RouteOf(addr)
	assert.Equal(t, "\xe0\x00\x01x", string(r.TLVs))
}

func TestPacketPolicyGetsPlainAddresses(t *testing.T) {
	inner := listenUDP(t, "[::]:0")
	var peers []proxyproto.Peer
	pc, err := NewPacketConn(inner, &Config{Policy: func(p proxyproto.Peer) proxyproto.Action {
		peers = append(peers, p)
		return proxyproto.Require
	}})
	require.NoError(t, err)
	port := inner.LocalAddr().(*net.UDPAddr).Port
	proxy := listenUDP(t, "127.0.0.1:0")
	to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
	if _, err = proxy.WriteTo([]byte(packet(t, testHeader(), "hello")), to); err != nil {
		t.Skipf("no dual-stack sockets here: %v", err)
	}
	_, addr := receive(t, pc)
	require.Len(t, peers, 1)
	assert.Equal(t, proxy.LocalAddr().String(), peers[0].Addr.String())
	assert.EqualValues(t, port, peers[0].Local.Port())
	if pc.wildcard {
		assert.Equal(t, "127.0.0.1", peers[0].Local.Addr().String(), "which of our addresses")
	}
	r, _ := RouteOf(addr)
	assert.Equal(t, peers[0].Addr, r.Peer)
	_, err = pc.WriteTo([]byte("reply"), addr)
	require.NoError(t, err)
	payload, from := receive(t, proxy)
	assert.Equal(t, "reply", payload)
	assert.Equal(t, to.String(), from.String())
}

// A header cut off at any byte by the end of its datagram is refused, and the next datagram
// doesn't complete it.
func TestPacketsAreJudgedAlone(t *testing.T) {
	for _, header := range []string{packet(t, testHeader(noop(t, 10)...), ""), testLineV1} {
		pc := newPacketConn(t, &Config{Policy: requireAll})
		proxy := listenUDP(t, "127.0.0.1:0")
		for i := 1; i < len(header); i++ {
			send(t, proxy, pc, header[:i])
			send(t, proxy, pc, header[i:])
			send(t, proxy, pc, header+"hello")
			payload, _ := receive(t, pc)
			require.Equal(t, "hello", payload, "cut at %d", i)
		}
		s := pc.Stats().Dropped
		assert.EqualValues(t, 2*(len(header)-1),
			s[proxyproto.ReasonIncomplete]+s[proxyproto.ReasonNoHeader])
	}
}
