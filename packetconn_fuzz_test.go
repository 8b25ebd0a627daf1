package proxyproto

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzPacket gives a datagram to a PacketConn under each Action and compares what comes out
// with what Parse says: nothing but a payload and its address may, and the next datagram always does.
func FuzzPacket(f *testing.F) {
	for i, seed := range fuzzSeeds() {
		f.Add(seed, uint16(1500), uint16(0))
		f.Add(append(seed[:len(seed):len(seed)], "payload"...), uint16(i%10), uint16(i))
	}
	peer := netip.MustParseAddrPort("10.0.0.1:7777")
	f.Fuzz(func(t *testing.T, datagram []byte, size, limit uint16) {
		for _, action := range []Action{Reject, Require, Skip, Optional, Ignore} {
			inner := &fakePackets{local: &net.UDPAddr{}, in: []fakePacket{
				{string(datagram), net.UDPAddrFromAddrPort(peer)},
				{testLineV1, net.UDPAddrFromAddrPort(peer)},
			}}
			cfg := &Config{MaxHeaderSize: int(limit), OnDrop: func(from netip.AddrPort, err error) {
				assert.Equal(t, peer, from)
				assert.Error(t, err)
			}}
			asked := 0
			cfg.Policy = func(netip.AddrPort, netip.AddrPort) Action {
				if asked++; asked == 1 {
					return action
				}
				return Require
			}
			pc, err := NewPacketConn(inner, cfg)
			require.NoError(t, err)
			b, h := make([]byte, size), Header{}
			n, addr, err := pc.ReadHeaderFrom(b, &h)
			want, payload, served := fuzzPacketWant(datagram, action, pc.cfg.maxHeaderSize())
			if served {
				require.NoError(t, err)
				require.Equal(t, string(payload[:min(len(payload), int(size))]), string(b[:n]))
				require.True(t, sameHeader(want, h), "%v and not %v", h, want)
				fuzzPacketAddr(t, addr, &want, peer)
				_, err = pc.WriteTo(b[:n], addr)
				require.NoError(t, err)
				require.Equal(t, []fakePacket{{string(b[:n]), net.UDPAddrFromAddrPort(peer)}}, inner.out)
				n, addr, err = pc.ReadHeaderFrom(b, &h)
			}
			if limit == 0 || int(limit) >= len(testLineV1) {
				require.NoError(t, err, "the next datagram")
				require.Zero(t, n)
				require.Equal(t, testSource, addr.String())
				_, _, err = pc.ReadHeaderFrom(b, &h)
			}
			require.ErrorIs(t, err, net.ErrClosed)
			s := pc.Stats()
			require.EqualValues(t, 2, s.Accepted)
			require.EqualValues(t, 2, s.V1+s.V2+s.Local+s.Bare+s.Ignored+s.Skipped+s.Probes+s.TotalDropped())
		}
	})
}

// fuzzPacketWant says what is to come of a datagram, slowly and readably.
func fuzzPacketWant(datagram []byte, action Action, limit int) (h Header, payload []byte, served bool) {
	h, n, err := Parse(datagram)
	declared, _ := declaredSize(datagram)
	switch action {
	case Reject:
		return Header{}, nil, false
	case Skip:
		return Header{}, datagram, true
	case Require:
		return h, datagram[n:], err == nil && n <= limit
	}
	switch { // Optional and Ignore
	case err == nil && n <= limit && action == Ignore:
		return Header{}, datagram[n:], true
	case err == nil:
		return h, datagram[n:], n <= limit
	case err == ErrNoHeader, err == ErrIncomplete && !begun(datagram) && max(declared, len(datagram)) <= limit:
		return Header{}, datagram, true
	}
	return Header{}, nil, false
}

func fuzzPacketAddr(t *testing.T, a *PacketAddr, h *Header, peer netip.AddrPort) {
	require.Equal(t, peer, a.Peer())
	require.Equal(t, unmap(h.Destination).IsValid(), a.Destination().IsValid())
	want := h.SourceAddr()
	if want == nil {
		want = net.UDPAddrFromAddrPort(peer)
	}
	require.Equal(t, want.String(), a.String())
	require.Equal(t, want.String(), a.Unwrap().String())
	require.Equal(t, addrPort(want), a.AddrPort())
}
