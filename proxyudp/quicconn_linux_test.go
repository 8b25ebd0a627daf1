package proxyudp

import (
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// option sets an option of a socket, or returns it.
func setOption(t testing.TB, c *net.UDPConn, level, option, value int) {
	t.Helper()
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), level, option, value)
	}))
	require.NoError(t, err)
}

func option(t testing.TB, c *net.UDPConn, level, option int) (value int) {
	t.Helper()
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		value, err = syscall.GetsockoptInt(int(fd), level, option)
	}))
	require.NoError(t, err)
	return value
}

func TestQUICConnSwitchesGROOff(t *testing.T) {
	const udpGRO = 104
	inner := listenUDP(t, "127.0.0.1:0")
	setOption(t, inner, syscall.IPPROTO_UDP, udpGRO, 1)
	require.Equal(t, 1, option(t, inner, syscall.IPPROTO_UDP, udpGRO))
	_, err := NewQUICConn(inner, &Config{Policy: requireAll})
	require.NoError(t, err)
	assert.Zero(t, option(t, inner, syscall.IPPROTO_UDP, udpGRO))
}

// A proxy asks to be told the marks and addresses that datagrams come with.
func markedSocket(t testing.TB, addr string) *net.UDPConn {
	c := listenUDP(t, addr)
	if c.LocalAddr().(*net.UDPAddr).IP.To4() != nil {
		setOption(t, c, syscall.IPPROTO_IP, syscall.IP_RECVTOS, 1)
	} else {
		setOption(t, c, syscall.IPPROTO_IPV6, syscall.IPV6_RECVTCLASS, 1)
	}
	return c
}

// quicMark is an ECN mark as quic-go writes it: in the family of the client.
func quicMark(client *net.UDPAddr, mark byte) []byte {
	if client.IP.To4() != nil {
		oob, data := appendControl(nil, syscall.IPPROTO_IP, syscall.IP_TOS, 4)
		data[0] = mark
		return oob
	}
	oob, data := appendControl(nil, syscall.IPPROTO_IPV6, syscall.IPV6_TCLASS, 4)
	data[0] = mark
	return oob
}

// An ECN mark gets to the proxy, whatever the families of client, hop and socket.
func TestQUICConnMarks(t *testing.T) {
	const mark = 2 // ECT(0)
	for _, c := range []struct{ socket, proxy, target string }{
		{"127.0.0.1:0", "127.0.0.1:0", ""}, {"0.0.0.0:0", "127.0.0.1:0", "127.0.0.1"},
		{"[::1]:0", "[::1]:0", ""}, {"[::]:0", "[::1]:0", "::1"}, {"[::]:0", "127.0.0.1:0", "127.0.0.1"},
	} {
		for _, h := range []proxyproto.Header{
			testHeader(), headerOf(proxyproto.UDP6, "[2001:db8::7]:443", "[2001:db8::1]:443"),
		} {
			server := newQUICConn(t, c.socket, &Config{Policy: requireAll})
			proxy := markedSocket(t, c.proxy)
			to := *server.LocalAddr().(*net.UDPAddr)
			if c.target != "" {
				to.IP = net.ParseIP(c.target)
			}
			_, err := proxy.WriteTo([]byte(packet(t, h, "hello")), &to)
			require.NoError(t, err)
			addr := readBatches(t, server, messages(8, 100), 1)[0].Addr.(*net.UDPAddr)
			require.Equal(t, h.Source.String(), addr.String())
			oob := quicMark(addr, mark)
			n, oobn, err := server.WriteMsgUDP([]byte("reply"), oob, addr)
			require.NoError(t, err)
			assert.Equal(t, 5, n)
			assert.Equal(t, len(oob), oobn, "as of the caller's")
			b, got := make([]byte, 100), make([]byte, 100)
			n, oobn, _, _, err = proxy.ReadMsgUDP(b, got)
			require.NoError(t, err)
			assert.Equal(t, "reply", string(b[:n]))
			control, _, ok := nextControl(got[:oobn])
			require.True(t, ok, "%v: no mark for %v", c, addr)
			is, ok := control.trafficClass()
			assert.True(t, ok)
			assert.EqualValues(t, mark, is, "%v: the mark for %v", c, addr)
		}
	}
}

// Control messages are rewritten for the next hop and where the datagram came to; others stay.
func TestControlsFor(t *testing.T) {
	gso, data := appendControl(nil, syscall.IPPROTO_UDP, 103, 2)
	data[0] = 100
	client4, client6 := testSource, "[2001:db8::7]:443"
	local4 := local{addr: netip.MustParseAddr("10.0.0.1")}
	local6 := local{netip.MustParseAddr("fe80::1"), 7}
	info4, info6 := appendLocal(nil, local{addr: netip.MustParseAddr("10.9.9.9")}), appendLocal(nil, local6)
	cat := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	tos, class := quicMark(anew(t, addrText(client4)), 1), quicMark(anew(t, addrText(client6)), 1)
	byteMark, one := appendControl(nil, syscall.IPPROTO_IP, syscall.IP_TOS, 1) // as some write it
	one[0] = 1
	for i, c := range []struct {
		peer     string
		local    local
		in, want []byte
	}{
		{"10.0.0.4:4", local{}, cat(class, gso), cat(tos, gso)},
		{"[::1]:4", local{}, cat(gso, tos), cat(gso, class)},
		{"[::1]:4", local{}, byteMark, class},
		{"10.0.0.4:4", local{}, tos, tos},
		{"10.0.0.4:4", local{}, cat(info4, gso), cat(info4, gso)},
		{"10.0.0.4:4", local{}, cat(info6, gso), gso},
		{"10.0.0.4:4", local4, cat(info4, gso), cat(gso, appendLocal(nil, local4))},
		{"[::1]:4", local6, cat(info4, class), cat(class, info6)},
		{"10.0.0.4:4", local4, nil, appendLocal(nil, local4)},
		{"10.0.0.4:4", local{}, gso[:5], nil}, // nothing that the kernel would take
	} {
		r := route{peer: netip.MustParseAddrPort(c.peer), local: c.local}
		assert.Equal(t, c.want, controlsFor(nil, c.in, &r), "%d", i)
	}
}

// Whatever the bytes are, taking them to pieces ends and stays inside.
func FuzzControls(f *testing.F) {
	f.Add(appendLocal(quicMark(&net.UDPAddr{}, 1), local{addr: netip.MustParseAddr("10.0.0.1")}))
	f.Add(make([]byte, 40))
	f.Fuzz(func(t *testing.T, oob []byte) {
		parseLocal(oob)
		r := route{peer: netip.MustParseAddrPort("10.0.0.1:1"), local: local{addr: netip.MustParseAddr("10.0.0.1")}}
		got := parseLocal(controlsFor(nil, oob, &r))
		assert.Equal(t, r.local, got)
	})
}
