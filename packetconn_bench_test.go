package proxyproto

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// packetLoad sends the same payloads to a server again and again, each client from a socket of
// its own: as they are, or with a header in front.
type packetLoad struct {
	server    net.PacketConn
	to        netip.AddrPort
	sockets   []*net.UDPConn
	datagrams [][]byte
	b         []byte
}

const lenBenchPayload = 100

func newPacketLoad(t testing.TB, wrapped bool, clients int) *packetLoad {
	inner := listenUDP(t, "127.0.0.1:0")
	l := &packetLoad{server: inner, to: inner.LocalAddr().(*net.UDPAddr).AddrPort(), b: make([]byte, 2048)}
	if wrapped {
		pc, err := NewPacketConn(inner, &Config{Policy: Trust(netip.MustParsePrefix("127.0.0.0/8"))})
		require.NoError(t, err)
		l.server = pc
	}
	for i := range clients {
		l.sockets = append(l.sockets, listenUDP(t, "127.0.0.1:0"))
		datagram := make([]byte, lenBenchPayload)
		if wrapped {
			h := packetHeader()
			h.Source = netip.AddrPortFrom(h.Source.Addr(), uint16(i))
			datagram = []byte(packet(t, h, string(datagram)))
		}
		l.datagrams = append(l.datagrams, datagram)
	}
	return l
}

// send makes the server's socket hold n datagrams.
func (l *packetLoad) send(t testing.TB, n int) {
	for i := range n {
		i %= len(l.sockets)
		if _, err := l.sockets[i].WriteToUDPAddrPort(l.datagrams[i], l.to); err != nil {
			t.Fatal(err)
		}
	}
}

// serve reads one, and replies.
func (l *packetLoad) serve(t testing.TB, reply bool) {
	n, addr, err := l.server.ReadFrom(l.b)
	if err != nil || n != lenBenchPayload {
		t.Fatal(n, err)
	}
	if reply {
		if _, err := l.server.WriteTo(l.b[:n], addr); err != nil {
			t.Fatal(err)
		}
	}
}

// drain takes the replies to send from the clients' sockets.
func (l *packetLoad) drain(t testing.TB, n int) {
	for i := range n {
		if _, _, err := l.sockets[i%len(l.sockets)].ReadFromUDPAddrPort(l.b); err != nil {
			t.Fatal(err)
		}
	}
}

func benchmarkPackets(b *testing.B, wrapped bool, clients int, reply bool) {
	const batch = 64 // that no socket's buffer is too small for
	l := newPacketLoad(b, wrapped, clients)
	b.ReportAllocs()
	left, sent := 0, 0
	for b.Loop() {
		if left == 0 {
			b.StopTimer()
			if reply {
				l.drain(b, sent)
			}
			l.send(b, batch)
			left, sent = batch, batch
			b.StartTimer()
		}
		left--
		l.serve(b, reply)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "datagrams/s")
}

// What serving a datagram costs, reading or reading and replying, on a bare *net.UDPConn and on
// a PacketConn around one. Sending it there isn't counted.
func BenchmarkPacketConn(b *testing.B) {
	for _, clients := range []int{1, 64} {
		name := map[int]string{1: "one client", 64: "64 clients"}[clients]
		for _, reply := range []bool{false, true} {
			work := map[bool]string{false: "read", true: "reply"}[reply]
			b.Run(name+"/"+work+"/bare", func(b *testing.B) { benchmarkPackets(b, false, clients, reply) })
			b.Run(name+"/"+work+"/PacketConn", func(b *testing.B) { benchmarkPackets(b, true, clients, reply) })
		}
	}
}

// Eight datagrams cost one allocation, for their addresses. (On a bare *net.UDPConn they cost
// sixteen.)
func TestPacketConnAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	const eight, runs = 8, 20
	l := newPacketLoad(t, true, 1)
	pc := l.server.(*PacketConn)
	l.datagrams[0] = []byte(packet(t, packetHeader(noop(t, 100)...), string(make([]byte, lenBenchPayload))))
	var h Header
	for name, read := range map[string]func(){
		"ReadFrom and WriteTo": func() { l.serve(t, true) },
		"ReadHeaderFrom": func() {
			if _, _, err := pc.ReadHeaderFrom(l.b, &h); err != nil {
				t.Error(err)
			}
		},
	} {
		for _, action := range []Action{Require, Optional, Ignore} {
			pc.SetPolicy(Always(action))
			allocs := testing.AllocsPerRun(runs, func() {
				l.send(t, eight)
				for range eight {
					read()
				}
			})
			assert.LessOrEqual(t, allocs, 1.0, "%v: %s", action, name)
		}
	}

	// What is dropped leaves no garbage if nobody is told.
	pc.SetPolicy(Always(Require))
	l.datagrams[0] = []byte("no header")
	good := packet(t, packetHeader(), "")
	allocs := testing.AllocsPerRun(runs, func() {
		l.send(t, 4*eight)
		if _, err := l.sockets[0].WriteToUDPAddrPort([]byte(good), l.to); err != nil {
			t.Error(err)
		}
		if _, _, err := pc.ReadHeaderFrom(l.b, &h); err != nil {
			t.Error(err)
		}
	})
	assert.Zero(t, allocs, "drops")
	assert.NotZero(t, pc.Stats().TotalDropped())
}
