package proxyudp

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// load sends a datagram to a server again and again, each client from a socket of its own.
type load struct {
	server    net.PacketConn
	to        netip.AddrPort
	sockets   []*net.UDPConn
	datagrams [][]byte
	b         []byte
}

const lenPayload = 100

// kind is what a server's socket is.
type kind struct {
	name    string
	bind    string // an address
	wrapped bool
}

var kinds = []kind{
	{"bare", "127.0.0.1", false},
	{"PacketConn", "127.0.0.1", true},
	{"PacketConn on every address", "0.0.0.0", true},
}

func newLoad(t testing.TB, k kind, clients int) *load {
	inner := listenUDP(t, k.bind+":0")
	port := inner.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	l := &load{server: inner, b: make([]byte, 2048)}
	l.to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	if k.wrapped {
		pc, err := NewPacketConn(inner, &Config{
			Policy: proxyproto.Trust(netip.MustParsePrefix("127.0.0.0/8")),
		})
		require.NoError(t, err)
		l.server = pc
	}
	for i := range clients {
		l.sockets = append(l.sockets, listenUDP(t, "127.0.0.1:0"))
		datagram := make([]byte, lenPayload)
		if k.wrapped {
			h := testHeader()
			h.Source = netip.AddrPortFrom(h.Source.Addr(), uint16(i))
			datagram = []byte(packet(t, h, string(datagram)))
		}
		l.datagrams = append(l.datagrams, datagram)
	}
	return l
}

// send makes the server's socket hold n datagrams.
func (l *load) send(t testing.TB, n int) {
	for i := range n {
		i %= len(l.sockets)
		if _, err := l.sockets[i].WriteToUDPAddrPort(l.datagrams[i], l.to); err != nil {
			t.Fatal(err)
		}
	}
}

// serve reads one, and replies.
func (l *load) serve(t testing.TB, reply bool) {
	n, addr, err := l.server.ReadFrom(l.b)
	if err != nil || n != lenPayload {
		t.Fatal(n, err)
	}
	if reply {
		if _, err := l.server.WriteTo(l.b[:n], addr); err != nil {
			t.Fatal(err)
		}
	}
}

// drain takes the replies to send from the clients' sockets.
func (l *load) drain(t testing.TB, n int) {
	for i := range n {
		if _, _, err := l.sockets[i%len(l.sockets)].ReadFromUDPAddrPort(l.b); err != nil {
			t.Fatal(err)
		}
	}
}

// What serving a datagram costs, reading or reading and replying, on a bare *net.UDPConn and on a
// PacketConn around one. Sending it there isn't counted.
func BenchmarkPacketConn(b *testing.B) {
	const batch = 64 // that no socket's buffer is too small for
	for _, work := range []string{"read", "reply"} {
		for _, k := range kinds {
			b.Run(work+"/"+k.name, func(b *testing.B) {
				l := newLoad(b, k, 64)
				b.ReportAllocs()
				left, sent := 0, 0
				for b.Loop() {
					if left == 0 {
						b.StopTimer()
						if work == "reply" {
							l.drain(b, sent)
						}
						l.send(b, batch)
						left, sent = batch, batch
						b.StartTimer()
					}
					left--
					l.serve(b, work == "reply")
				}
			})
		}
	}
}

// Eight addresses cost one allocation, and their forms half a kilobyte for every eighteen or
// less. (On a bare *net.UDPConn eight cost sixteen allocations.)
func TestPacketConnAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	const datagrams, runs = 32, 20
	for _, k := range kinds[1:] {
		l := newLoad(t, k, 1)
		pc := l.server.(*PacketConn)
		for tlvs, most := range map[int]float64{0: 4 + 4, 60: 4 + 10} {
			l.datagrams[0] = []byte(packet(t, testHeader(make([]byte, tlvs)...),
				string(make([]byte, lenPayload))))
			for action := proxyproto.Require; action <= proxyproto.Ignore; action++ {
				if action == proxyproto.Skip {
					continue
				}
				pc.SetPolicy(proxyproto.Always(action))
				allocs := testing.AllocsPerRun(runs, func() {
					l.send(t, datagrams)
					for range datagrams {
						l.serve(t, true)
					}
				})
				assert.LessOrEqual(t, allocs, most, "%s, %v, %d bytes of TLVs", k.name, action, tlvs)
			}
		}

		// What is dropped leaves no garbage if nobody is told.
		pc.SetPolicy(requireAll)
		l.datagrams[0] = []byte("no header")
		good := []byte(packet(t, testHeader(), ""))
		allocs := testing.AllocsPerRun(runs, func() {
			l.send(t, datagrams)
			if _, err := l.sockets[0].WriteToUDPAddrPort(good, l.to); err != nil {
				t.Error(err)
			}
			if _, _, err := pc.ReadFrom(l.b); err != nil {
				t.Error(err)
			}
		})
		assert.LessOrEqual(t, allocs, 1.0, "drops")
		assert.NotZero(t, dropped(pc.Stats()))
	}
}
