package proxyudp

import (
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// The client that the tests' headers speak of, and what it sent to.
const (
	testSource      = "192.0.2.7:5353"
	testDestination = "198.51.100.1:53"
	testLineV1      = "PROXY TCP4 192.0.2.7 198.51.100.1 5353 53\r\n"
)

var requireAll = proxyproto.Always(proxyproto.Require)

// testHeader is what a proxy puts before a datagram of the tests' client.
func testHeader(tlvs ...byte) proxyproto.Header {
	return headerOf(proxyproto.UDP4, testSource, testDestination, tlvs...)
}

func headerOf(p proxyproto.Protocol, source, destination string, tlvs ...byte) proxyproto.Header {
	return proxyproto.Header{
		Version:     proxyproto.V2,
		Command:     proxyproto.Proxy,
		Protocol:    p,
		Source:      netip.MustParseAddrPort(source),
		Destination: netip.MustParseAddrPort(destination),
		TLVs:        tlvs,
	}
}

// clientHeader is testHeader for another client.
func clientHeader(source string) proxyproto.Header {
	return headerOf(proxyproto.UDP4, source, testDestination)
}

// localHeader is a health check's.
var localHeader = proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Local}

// noop returns a TLV that makes a header longer by size bytes.
func noop(t testing.TB, size int) []byte {
	t.Helper()
	tlvs, err := proxyproto.TLVs(nil).Append(proxyproto.TypeNoop, make([]byte, size-3))
	require.NoError(t, err)
	return tlvs
}

// packet returns a datagram, with the header as it is.
func packet(t testing.TB, h proxyproto.Header, payload string) string {
	t.Helper()
	b, err := h.AppendTo(nil)
	require.NoError(t, err)
	return string(b) + payload
}

// unhex returns the bytes of a hexadecimal text, in which spaces don't count.
func unhex(t testing.TB, s string) string {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return string(b)
}

// listenUDP returns a socket that is closed with the test.
func listenUDP(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenPacket("udp", addr)
	if err != nil && strings.HasPrefix(addr, "[") {
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
func send(t testing.TB, from, pc net.PacketConn, datagram string) {
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

// exchange sends a datagram to pc and returns the address that it comes out with.
func exchange(t testing.TB, from, pc net.PacketConn, datagram string) *net.UDPAddr {
	t.Helper()
	send(t, from, pc, datagram)
	_, addr := receive(t, pc)
	require.IsType(t, (*net.UDPAddr)(nil), addr)
	return addr.(*net.UDPAddr)
}

// assertReply checks that what pc sends to addr gets to the proxy.
func assertReply(t testing.TB, pc net.PacketConn, addr net.Addr, proxy *net.UDPConn, why string) {
	t.Helper()
	n, err := pc.WriteTo([]byte(why), addr)
	require.NoError(t, err, why)
	require.Equal(t, len(why), n)
	payload, from := receive(t, proxy)
	assert.Equal(t, why, payload, "without a header")
	assert.Equal(t, pc.LocalAddr().String(), from.String())
}

// requireSilent checks that nothing has been sent to c.
func requireSilent(t testing.TB, c *net.UDPConn) {
	t.Helper()
	_, err := c.WriteTo([]byte("end"), c.LocalAddr())
	require.NoError(t, err)
	payload, from := receive(t, c)
	require.Equal(t, "end", payload, "from %v", from)
}

// anew returns an address as a program makes it of another's text.
func anew(t testing.TB, addr net.Addr) *net.UDPAddr {
	t.Helper()
	a, err := net.ResolveUDPAddr("udp", addr.String())
	require.NoError(t, err)
	return a
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
func marked(p proxyproto.Policy) proxyproto.Policy {
	return func(peer proxyproto.Peer) proxyproto.Action {
		if peer.Addr.Addr() == netip.MustParseAddr("127.0.0.9") {
			return proxyproto.Skip
		}
		return p(peer)
	}
}

// requireNothing checks that of the datagrams that were sent to pc up to now, and not read, none
// comes out; sent is how many there were in all. pc has a marked Policy. It returns how many more
// it has sent to know that they were all read: loopback may let one overtake another.
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

// dropped is how many datagrams were dropped for any Reason.
func dropped(s proxyproto.Stats) (n uint64) {
	for _, of := range s.Dropped {
		n += of
	}
	return n
}

// drop is what OnDrop was told.
type drop struct {
	peer proxyproto.Peer
	*proxyproto.DropError
}

// logDrops makes cfg log what it drops.
func logDrops(cfg *Config) <-chan drop {
	c := make(chan drop, 1024)
	cfg.OnDrop = func(p proxyproto.Peer, d *proxyproto.DropError) { c <- drop{p, d} }
	return c
}

// addrText is an address that is known by its text alone.
type addrText string

func (a addrText) Network() string { return "udp" }
func (a addrText) String() string  { return string(a) }
