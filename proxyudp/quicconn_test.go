package proxyudp

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/ipv4"

	"github.com/seed2e8fe8ee/proxyproto"
)

func newQUICConn(t testing.TB, addr string, cfg *Config) *QUICConn {
	t.Helper()
	c, err := NewQUICConn(listenUDP(t, addr), cfg)
	require.NoError(t, err)
	return c
}

// messages are for ReadBatch: n of them, each with room for size bytes.
func messages(n, size int) []ipv4.Message {
	ms := make([]ipv4.Message, n)
	for i := range ms {
		ms[i] = ipv4.Message{Buffers: [][]byte{make([]byte, size)}, OOB: make([]byte, 128)}
	}
	return ms
}

// readBatches reads n datagrams, with ReadBatch and its messages or with ReadMsgUDP.
func readBatches(t testing.TB, c *QUICConn, ms []ipv4.Message, n int) (all []ipv4.Message) {
	t.Helper()
	for len(all) < n {
		if ms == nil {
			m := messages(1, 1452)[0]
			var addr *net.UDPAddr
			var err error
			m.N, m.NN, m.Flags, addr, err = c.ReadMsgUDP(m.Buffers[0], m.OOB)
			require.NoError(t, err)
			m.Addr = addr
			all = append(all, m)
			continue
		}
		got, err := c.ReadBatch(ms, 0)
		require.NoError(t, err)
		require.NotZero(t, got)
		for i := range ms[:got] {
			own := ms[i]
			own.Buffers = [][]byte{append([]byte(nil), ms[i].Buffers[0]...)}
			all = append(all, own)
		}
	}
	return all
}

// Datagrams with headers of many sizes and junk between them, in one batch and one by one: what
// comes out is whole, is its client's, and fits in buffers that have room for the payload alone.
func TestQUICConnReads(t *testing.T) {
	for name, ms := range map[string][]ipv4.Message{
		"ReadMsgUDP": nil, "eight": messages(8, 1452), "one": messages(1, 1452),
	} {
		t.Run(name, func(t *testing.T) {
			c := newQUICConn(t, "127.0.0.1:0", &Config{Policy: requireAll})
			proxy := listenUDP(t, "127.0.0.1:0")
			payload := strings.Repeat("0123456789abcdef", 100)[:1452]
			var want []string
			for i, size := range []int{1, 1452, 0, 1452, 700, 1452} {
				h := testHeader(noop(t, 3+200*i)...)
				if i%2 == 1 {
					h = headerOf(proxyproto.UDP6, "[2001:db8::7]:443", "[2001:db8::1]:443")
				}
				send(t, proxy, c, "junk")
				send(t, proxy, c, packet(t, h, payload[:size]))
				want = append(want, h.Source.String()+payload[:size])
			}
			var got []string
			for _, m := range readBatches(t, c, ms, len(want)) {
				got = append(got, m.Addr.String()+string(m.Buffers[0][:m.N]))
				r, ok := RouteOf(m.Addr)
				assert.True(t, ok)
				assert.Equal(t, proxy.LocalAddr().String(), r.Peer.String())
				n, oobn, err := c.WriteMsgUDP([]byte("reply"), nil, m.Addr.(*net.UDPAddr))
				require.NoError(t, err)
				assert.Equal(t, 5, n)
				assert.Zero(t, oobn)
				reply, _ := receive(t, proxy)
				assert.Equal(t, "reply", reply)
			}
			assert.Equal(t, want, got)
			assert.EqualValues(t, 2*len(want), c.Stats().Accepted)
		})
	}
}

func TestQUICConnBuffers(t *testing.T) {
	c := newQUICConn(t, "127.0.0.1:0", &Config{Policy: requireAll, MaxHeaderSize: 28})
	proxy := listenUDP(t, "127.0.0.1:0")
	read := func(payload string, ms []ipv4.Message) ipv4.Message {
		send(t, proxy, c, packet(t, testHeader(), payload))
		n, err := c.ReadBatch(ms, 0)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		return ms[0]
	}
	m := read("0123456789", []ipv4.Message{{Buffers: [][]byte{make([]byte, 3), make([]byte, 100)}}})
	assert.Equal(t, 10, m.N)
	assert.Equal(t, "012"+"3456789", string(m.Buffers[0])+string(m.Buffers[1][:7]), "scattered")
	m = read("0123456789", []ipv4.Message{{Buffers: [][]byte{make([]byte, 3), make([]byte, 4)}}})
	assert.Equal(t, 7, m.N, "cut")
	m = read("0123456789", []ipv4.Message{{}})
	assert.Zero(t, m.N, "no room at all")
	m = read("0123456789", messages(8, 10))
	assert.Equal(t, "0123456789", string(m.Buffers[0][:m.N]), "as much as there is")
	b := make([]byte, 4)
	send(t, proxy, c, packet(t, testHeader(), "0123456789"))
	n, _, _, _, err := c.ReadMsgUDP(b, nil)
	require.NoError(t, err)
	assert.Equal(t, "0123", string(b[:n]))
}

func TestQUICConnErrors(t *testing.T) {
	c := newQUICConn(t, "127.0.0.1:0", &Config{Policy: requireAll})
	for _, addr := range []*net.UDPAddr{nil, {}, {IP: net.IPv4(192, 0, 2, 7), Port: 443}} {
		n, oobn, err := c.WriteMsgUDP([]byte("reply"), nil, addr)
		assert.Zero(t, n+oobn)
		assert.ErrorIs(t, err, ErrNoRoute)
		assert.NotEmpty(t, err.Error())
	}
	require.NoError(t, c.SetReadDeadline(time.Unix(1, 0)))
	_, err := c.ReadBatch(messages(8, 100), 0)
	netErr, ok := err.(net.Error)
	require.True(t, ok, "%T", err)
	assert.True(t, netErr.Timeout())
	_, _, _, _, err = c.ReadMsgUDP(nil, nil)
	assert.Error(t, err)
	require.NoError(t, c.SetReadDeadline(time.Time{}))
	read := make(chan error, 1)
	go func() {
		_, err := c.ReadBatch(messages(8, 100), 0)
		read <- err
	}()
	require.NoError(t, c.Close())
	assert.ErrorIs(t, <-read, net.ErrClosed)
	_, err = c.SyscallConn()
	assert.NoError(t, err, "as a closed socket's")
}

// Remember serves WriteMsgUDP too: a QUIC connection outlives the proxy's socket.
func TestQUICConnRemembers(t *testing.T) {
	c := newQUICConn(t, "127.0.0.1:0", &Config{Policy: requireAll})
	c.Remember(10, time.Minute)
	first, second := listenUDP(t, "127.0.0.1:0"), listenUDP(t, "127.0.0.1:0")
	hello := packet(t, testHeader(), "hello")
	send(t, first, c, hello)
	kept := readBatches(t, c, messages(8, 100), 1)[0].Addr.(*net.UDPAddr)
	send(t, second, c, hello)
	readBatches(t, c, messages(8, 100), 1)
	for _, addr := range []*net.UDPAddr{kept, anew(t, kept)} {
		_, _, err := c.WriteMsgUDP([]byte("reply"), nil, addr)
		require.NoError(t, err)
		payload, _ := receive(t, second)
		assert.Equal(t, "reply", payload)
	}
}

// An address is shared by the datagrams of one route, as long as it is what it was made for.
func TestSharedAddrs(t *testing.T) {
	var mem addrMemory
	in := route{client: netip.MustParseAddrPort(testSource)}
	in.peer = netip.MustParseAddrPort("10.0.0.1:7777")
	first := mem.sharedAddr(&in)
	assert.Same(t, first, mem.sharedAddr(&in))
	for _, change := range []func(r *route){
		func(r *route) { r.client = netip.MustParseAddrPort("192.0.2.8:5353") },
		func(r *route) { r.peer = netip.MustParseAddrPort("10.0.0.1:7778") },
		func(r *route) { r.destination = netip.MustParseAddrPort(testDestination) },
		func(r *route) { r.local.addr = netip.MustParseAddr("10.0.0.2") },
		func(r *route) { r.tlvs = []byte{1} },
	} {
		other := in
		change(&other)
		out, ok := routeOf(mem.sharedAddr(&other))
		assert.True(t, ok)
		assert.Equal(t, other, out)
	}
	last := mem.sharedAddr(&in)
	last.Port++
	assert.Equal(t, testSource, mem.sharedAddr(&in).String(), "the last one was changed")
}

// BenchmarkReadBatch is what a datagram costs in a batch, on a bare socket and on a QUICConn.
func BenchmarkReadBatch(b *testing.B) {
	const batch = 8
	for _, name := range []string{"bare", "QUICConn"} {
		b.Run(name, func(b *testing.B) {
			inner, client := listenUDP(b, "127.0.0.1:0"), listenUDP(b, "127.0.0.1:0")
			var reader interface {
				ReadBatch(ms []ipv4.Message, flags int) (int, error)
			} = ipv4.NewPacketConn(inner)
			datagram := make([]byte, 1452)
			if name == "QUICConn" {
				c, err := NewQUICConn(inner, &Config{Policy: requireAll})
				require.NoError(b, err)
				reader = c
				datagram = []byte(packet(b, testHeader(), string(datagram)))
			}
			ms := messages(batch, 1452)
			b.ReportAllocs()
			left := 0
			for b.Loop() {
				if left == 0 {
					b.StopTimer()
					for range batch {
						send(b, client, inner, string(datagram))
					}
					left = batch
					b.StartTimer()
				}
				n, err := reader.ReadBatch(ms[:1], 0)
				require.NoError(b, err)
				left -= n
			}
		})
	}
}
