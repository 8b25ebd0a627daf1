package proxyproto

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	packetSource      = "192.0.2.7:5353"
	packetDestination = "198.51.100.1:53"
)

// packetHeader is what a proxy puts before a datagram of the tests' client.
func packetHeader(tlvs ...byte) Header {
	h := testHeader(tlvs...)
	h.Protocol = UDP4
	h.Source, h.Destination = netip.MustParseAddrPort(packetSource), netip.MustParseAddrPort(packetDestination)
	return h
}

// localHeader is a health check's.
var localHeader = Header{Version: V2, Command: Local}

// noop returns a TLV that makes a header longer by size bytes.
func noop(t testing.TB, size int) []byte {
	t.Helper()
	tlvs, err := TLVs(nil).Append(TypeNoop, make([]byte, size-lenTLV))
	require.NoError(t, err)
	return tlvs
}

// packet returns a datagram.
func packet(t testing.TB, h Header, payload string) string {
	t.Helper()
	b, err := h.AppendPacket(nil, []byte(payload), 0)
	require.NoError(t, err)
	return string(b)
}

// listenUDP returns a socket that is closed with the test.
func listenUDP(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenPacket("udp", addr)
	if err != nil && netip.MustParseAddrPort(addr).Addr().Is6() {
		t.Skipf("no IPv6 here: %v", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	// It ends a test that would hang.
	require.NoError(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	return c.(*net.UDPConn)
}

// newPacketConn returns a PacketConn on a socket of its own.
func newPacketConn(t testing.TB, cfg *Config) *PacketConn {
	t.Helper()
	pc, err := NewPacketConn(listenUDP(t, "127.0.0.1:0"), cfg)
	require.NoError(t, err)
	return pc
}

// send sends a datagram to pc.
func send(t testing.TB, from net.PacketConn, pc *PacketConn, datagram string) {
	t.Helper()
	n, err := from.WriteTo([]byte(datagram), pc.LocalAddr())
	require.NoError(t, err)
	require.Equal(t, len(datagram), n)
}

// receive reads what comes next.
func receive(t testing.TB, from net.PacketConn) (payload string, addr net.Addr) {
	t.Helper()
	b := make([]byte, maxDatagram)
	n, addr, err := from.ReadFrom(b)
	require.NoError(t, err)
	return string(b[:n]), addr
}

// fakePackets is an inner connection that isn't a socket. What it receives was given to it, and
// it keeps what it sends.
type fakePackets struct {
	net.PacketConn
	local net.Addr
	in    []fakePacket
	out   []fakePacket
}

type fakePacket struct {
	datagram string
	addr     net.Addr
}

func (f *fakePackets) ReadFrom(b []byte) (int, net.Addr, error) {
	if len(f.in) == 0 {
		return 0, nil, net.ErrClosed
	}
	next := f.in[0]
	f.in = f.in[1:]
	return copy(b, next.datagram), next.addr, nil
}

func (f *fakePackets) WriteTo(b []byte, addr net.Addr) (int, error) {
	f.out = append(f.out, fakePacket{string(b), addr})
	return len(b), nil
}

func (f *fakePackets) LocalAddr() net.Addr { return f.local }

// marked lets in what requireNothing sends.
func marked(p Policy) Policy {
	return func(peer, local netip.AddrPort) Action {
		if peer.Addr() == netip.MustParseAddr("127.0.0.9") {
			return Skip
		}
		return p(peer, local)
	}
}

// requireNothing checks that of the datagrams that were sent to pc up to now, and not read, none
// comes out; sent is how many there were in all. pc has a marked Policy. It returns how many more
// it has sent to tell that they were all read: loopback may let one overtake another.
func requireNothing(t testing.TB, pc *PacketConn, sent uint64) (markers uint64) {
	t.Helper()
	marker := listenUDP(t, "127.0.0.9:0")
	for markers == 0 || pc.Stats().Accepted < sent+markers && markers < 1000 {
		send(t, marker, pc, "end")
		payload, addr := receive(t, pc)
		require.Equal(t, "end", payload, "from %v", addr)
		markers++
	}
	return markers
}
