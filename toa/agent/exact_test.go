package agent

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/toa"
)

// server returns a Listener behind the wire, and its port. It believes uncertain options too.
func (w *wire) server(network, addr string, mptcp bool) (*toa.Listener, net.Listener, uint16) {
	w.t.Helper()
	inner := listen(w.t, network, addr, mptcp)
	inner.(*net.TCPListener).SetDeadline(time.Now().Add(2 * time.Minute))
	ln, err := toa.NewListener(inner, &toa.Config{
		Policy: proxyproto.Always(proxyproto.Optional), Uncertain: true,
	})
	require.NoError(w.t, err)
	return ln, inner, uint16(inner.Addr().(*net.TCPAddr).Port)
}

// The bytes of the packet that completes the handshake, and what is read from them.
func TestExactBytes(t *testing.T) {
	a4, b4, a6 := claim4(11), claim4(12), claim6(11)
	o4, o6 := option(254, a4), option(253, a6)
	atPort := netip.AddrPortFrom(a4.Addr(), 0xf989)
	mapped := netip.AddrPortFrom(netip.AddrFrom16(a4.Addr().As16()), a4.Port())
	cases := []struct {
		name     string
		syn, ack []byte
		data     string
		want     netip.AddrPort
		certain  string // whether as the last, as the first, both
	}{
		{name: "alone", ack: o4, want: a4, certain: "both"},
		{name: "IPv6 alone", ack: o6, want: a6, certain: "both"},
		{name: "none"},
		{name: "before timestamps", syn: cat(mss, timestamps), ack: cat(o4, timestamps), want: a4, certain: "first"},
		{name: "after timestamps", syn: cat(mss, timestamps), ack: cat(timestamps, o4), want: a4, certain: "last"},
		{name: "no-ops last", ack: cat(o4, noOps(4)), want: a4, certain: "first"},
		{name: "IPv6 after timestamps", syn: cat(mss, timestamps), ack: cat(timestamps, o6), want: a6},
		{name: "with data", ack: o4, data: "hello", want: a4, certain: "both"},
		{name: "with the most data", ack: o4, data: strings.Repeat("x", 1240-28-20), want: a4, certain: "both"},
		{name: "with more data", ack: o4, data: strings.Repeat("x", 1240-28-19), want: a4},
		{name: "with a full packet", ack: o4, data: strings.Repeat("x", 1400), want: a4},
		{name: "SYN only", syn: cat(mss, o4)},
		{name: "SYN and ACK differ", syn: cat(mss, o4), ack: option(254, b4), want: b4, certain: "both"},
		{name: "room for the longest", ack: cat(noOps(12), o4), want: a4, certain: "last"},
		{name: "no room for the longest", ack: cat(noOps(16), o4), want: a4},
		{name: "last of 40 bytes", ack: cat(noOps(32), o4), want: a4},
		{name: "IPv6 last of 40 bytes", ack: cat(noOps(20), o6), want: a6},
		{name: "40 no-ops", ack: noOps(40)},
		{name: "unaligned", ack: cat(noOps(1), o4, noOps(3)), want: a4},
		{name: "an end behind it", ack: cat(o4, noOps(1)), want: a4, certain: "first"}, // the padding
		{name: "an end hides another", ack: cat(o4, []byte{0, 0, 0, 0}, option(254, b4)), want: a4, certain: "first"},
		{name: "after an unknown option", ack: cat([]byte{251, 7, 254, 8, 1, 1, 1}, o4, noOps(1)), want: a4},
		{name: "inside an unknown option", ack: cat([]byte{251, 10}, o4)},
		{name: "after the end", ack: cat([]byte{0}, o4)},
		{name: "length 0", ack: withLength(o4, 0)},
		{name: "length 1", ack: withLength(o4, 1)},
		{name: "length 2", ack: cat(o4[:1], []byte{2}, noOps(6))},
		{name: "length 6", ack: withLength(o4, 6)},
		{name: "length 7", ack: withLength(o4, 7)},
		{name: "length 9 of 12", ack: cat(withLength(o4, 9), noOps(4))},
		{name: "length 40 of 8", ack: withLength(o4, 40)},
		{name: "length 255", ack: withLength(o4, 255)},
		{name: "cut off", ack: cat(noOps(2), o4[:6])},
		{name: "kind in the last byte", ack: cat(noOps(3), []byte{254})},
		{name: "IPv6 length 19", ack: cat(withLength(o6, 19)[:19], noOps(1))},
		{name: "IPv6 kind, length 8", ack: withLength(o6, 8)[:8]},
		{name: "IPv6 cut off", ack: o6[:16]},
		{name: "254 of length 20", ack: option(254, a6), want: a6, certain: "both"},
		{name: "two", ack: cat(o4, option(254, b4)), want: a4, certain: "first"},
		{name: "two kinds", ack: cat(o4, option(200, b4)), want: a4, certain: "first"},
		{name: "five", ack: cat(option(200, b4), o4, o4, o4, o4), want: b4},
		{name: "IPv4, then IPv6", ack: cat(o4, o6), want: a4},
		{name: "IPv6, then IPv4", ack: cat(o6, o4), want: a6},
		{name: "good, then bad", ack: cat(o4, withLength(o4, 0)), want: a4, certain: "first"},
		{name: "bad, then good", ack: cat(withLength(o4, 0), o4)},
		{name: "a Fast Open cookie in the SYN", syn: cat(mss, fastOpen)},
		{name: "F989 as a port", ack: option(254, atPort), want: atPort, certain: "both"},
		{name: "IPv4-mapped", ack: option(253, mapped), want: a4, certain: "both"},
		{name: "unspecified", ack: option(254, netip.MustParseAddrPort("0.0.0.0:0")),
			want: netip.MustParseAddrPort("0.0.0.0:0"), certain: "both"},
	}
	run := func(place, cookies string, ipv6 bool) {
		t.Run(fmt.Sprintf("%s, cookies %s, IPv6 %v", place, cookies, ipv6), func(t *testing.T) {
			inNamespace(t, func() {
				w := newWire(t)
				sysctl(t, "net.ipv4.tcp_syncookies", cookies)
				attach(t, map[string]string{"last": all, "first": allAhead}[place])
				ln, _, port := w.server("tcp", "[::]:0", true) // as net.Listen does it
				for _, tc := range cases {
					c := w.client(ipv6, port)
					c.syn(append(tc.syn, mss[:4*b2i(tc.syn == nil)]...), nil)
					c.send(flagACK|flagPSH*b2i(tc.data != ""), tc.ack, []byte(tc.data))
					accepted := accept(t, ln)
					wantClient(t, tc.want, accepted, tc.name)
					o, _ := accepted.Option()
					assert.Equal(t, tc.certain == "both" || tc.certain == place, o.Certain, tc.name)
					accepted.Close()
				}
				assert.Equal(t, cookies == "2", counter(t, "SyncookiesRecv") > 0)
			})
		})
	}
	for _, ipv6 := range []bool{false, true} {
		run("last", "1", ipv6) // SYN cookies when the queue is full
		run("last", "2", ipv6) // always
		run("first", "1", ipv6)
	}
}

func b2i(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// counter reads one of the namespace's counters.
func counter(t *testing.T, name string) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/net/netstat")
	require.NoError(t, err)
	lines := strings.Split(string(b), "\n")
	values := strings.Fields(lines[1])
	for i, key := range strings.Fields(lines[0]) {
		if key == name {
			fmt.Sscan(values[i], &n)
			return n
		}
	}
	require.Fail(t, "no counter "+name)
	return 0
}

// The packet that completes the handshake is the one that counts. Which one that is depends on the
// listener.
func TestWhichPacket(t *testing.T) {
	first, second := option(254, claim4(21)), option(254, claim4(22))
	inNamespace(t, func() {
		w := newWire(t)
		sysctl(t, "net.ipv4.tcp_fastopen", "519") // 0x207: no cookie is required
		attach(t, all)
		ln, inner, port := w.server("tcp4", "10.77.0.1:0", false)
		set := func(name, value int) {
			socket, err := inner.(*net.TCPListener).SyscallConn()
			require.NoError(t, err)
			require.NoError(t, socket.Control(func(fd uintptr) {
				assert.NoError(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, name, value))
			}))
		}
		client := func(options, data []byte) *rawClient {
			c := w.client(false, port)
			c.syn(options, data)
			return c
		}

		c := client(mss, nil)
		c.send(flagACK, nil, nil)
		c.send(flagACK|flagPSH, first, []byte("late"))
		wantClient(t, none, accept(t, ln), "an ACK without, then data with the option")
		c = client(mss, nil)
		c.send(flagACK|flagPSH, first, []byte("first"))
		wantClient(t, claim4(21), accept(t, ln), "data, because the bare ACK got lost")
		c = client(mss, nil)
		c.send(flagACK|flagFIN, first, []byte("all"))
		accepted := accept(t, ln)
		wantClient(t, claim4(21), accepted, "data and the end")
		o, _ := accepted.Option()
		assert.False(t, o.Certain, "not all balancers write into a FIN")

		set(unix.TCP_DEFER_ACCEPT, 5)
		c = client(mss, nil)
		c.send(flagACK, first, nil) // the kernel drops it
		c.send(flagACK|flagPSH, second, []byte("data"))
		wantClient(t, claim4(22), accept(t, ln), "DEFER_ACCEPT")
		c = client(mss, nil)
		c.send(flagACK, first, nil)
		c.send(flagACK|flagPSH, nil, []byte("data"))
		wantClient(t, none, accept(t, ln), "DEFER_ACCEPT, the option in the ACK alone")
		set(unix.TCP_DEFER_ACCEPT, 0)

		set(unix.TCP_FASTOPEN, 16) // the connection is made from the SYN
		client(cat(mss, first), []byte("0-RTT"))
		accepted = accept(t, ln)
		wantClient(t, claim4(21), accepted, "Fast Open")
		o, _ = accepted.Option()
		assert.False(t, o.Certain, "balancers need not write into a SYN")
		b := make([]byte, 10)
		n, err := accepted.Read(b)
		require.NoError(t, err)
		assert.Equal(t, "0-RTT", string(b[:n]))
		c = client(mss, []byte("0-RTT"))
		accepted = accept(t, ln) // before the ACK
		c.send(flagACK, first, nil)
		wantClient(t, none, accepted, "Fast Open, the option in the ACK")
		client(cat(mss, fastOpen), []byte("0-RTT"))
		wantClient(t, none, accept(t, ln), "Fast Open, a cookie")
	})
}

// What a client can forge through a balancer that never takes a client's option out: it must be
// uncertain, and refused. The balancers are the three kinds that there are: the option in front of all
// others, or behind them, and for IPv6 too.
func TestForgedThroughBalancer(t *testing.T) {
	const mtu = 1500
	truth4, truth6 := claim4(1), claim6(1)
	lie4, lie6 := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("[fd00::1]:1")
	balance := func(behind, ipv6 bool, options []byte, data int) []byte {
		own, header := option(254, truth4), 20
		if ipv6 {
			own, header = option(254, truth6), 40
		}
		n := (len(options) + 3) / 4 * 4
		if n+len(own) > 40 || header+tcpHeader+n+data+len(own) > mtu {
			return options
		}
		if behind {
			return cat(options, make([]byte, n-len(options)), own)
		}
		return cat(own, options)
	}
	forgeries := []struct {
		name string
		ipv6 bool
		own  []byte
		data int
	}{
		{"beside the balancer's", false, option(254, lie4), 0},
		{"in a full header", false, cat(option(254, lie4), noOps(28)), 0},
		{"in a full packet", false, option(254, lie4), mtu - 20 - 28},
		{"behind it an end, to hide the balancer's", false, cat(option(254, lie4), []byte{0}), 0},
		{"behind it an option to swallow the balancer's", false, cat(option(254, lie4), []byte{251, 12, 1, 1}), 0},
		{"behind it a broken one", false, cat(option(254, lie4), []byte{251, 1, 1, 1}), 0},
		{"IPv6, in a full header", true, cat(option(254, lie6), noOps(4)), 0},
		{"IPv6, with an IPv4 option in a full header", true, cat(option(254, lie4), noOps(16)), 0},
	}
	inNamespace(t, func() {
		w := newWire(t)
		inner := listen(t, "tcp", "[::]:0", true)
		dropped := make(chan error, 1)
		ln, err := toa.NewListener(inner, &toa.Config{
			Policy: proxyproto.Always(proxyproto.Require), WithoutAgent: true,
			OnDrop: func(_ proxyproto.Peer, drop *proxyproto.DropError) { dropped <- drop.Err },
		})
		require.NoError(t, err)
		served := make(chan string, 1)
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				served <- c.RemoteAddr().String()
				c.Close()
			}
		}()
		for _, behind := range []bool{false, true} {
			dir := pins(t)
			formats, err := ParseFormats(map[bool]string{false: "dpvs", true: "254/8,254/20"}[behind])
			require.NoError(t, err)
			_, err = Attach(Config{Cgroup: cgroup, Dir: dir, Formats: formats})
			require.NoError(t, err)
			for _, f := range forgeries {
				c := w.client(f.ipv6, uint16(inner.Addr().(*net.TCPAddr).Port))
				c.syn(mss, nil)
				c.send(flagACK|flagPSH*b2i(f.data > 0), balance(behind, f.ipv6, f.own, f.data), make([]byte, f.data))
				select {
				case err := <-dropped:
					assert.ErrorIs(t, err, toa.ErrUncertain, f.name)
				case addr := <-served:
					// Never the lie; the truth, where the client's option was swallowed.
					assert.Equal(t, truth4.String(), addr, "%s, behind %v", f.name, behind)
				}
			}
			require.NoError(t, Detach(dir))
		}
	})
}
