package proxyudp

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// inNamespace runs the test in a network namespace of its own, as the test program's child. It
// returns true there.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv("PROXYUDP_NAMESPACE") != "" {
		return true
	}
	for _, program := range []string{"unshare", "nsenter", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			missing(t, err)
		}
	}
	if out, err := exec.Command("unshare", "-rn", "true").CombinedOutput(); err != nil {
		missing(t, fmt.Errorf("no network namespace: %w: %s", err, out))
	}
	c := exec.Command("unshare", "-rn", os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), "PROXYUDP_NAMESPACE=1")
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name())
	return false
}

func missing(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		require.NoError(t, err)
	}
	t.Skip(err)
}

func ip(t *testing.T, commands string) {
	t.Helper()
	for line := range strings.Lines(commands) {
		args := strings.Fields(line)
		if len(args) == 0 {
			continue
		}
		out, err := exec.Command("ip", args...).CombinedOutput()
		require.NoError(t, err, "ip %s: %s", line, out)
	}
}

// elsewhere runs f in another namespace, which its thread alone is in. Both are given as files.
func elsewhere(t *testing.T, f func(home, there string)) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never back: the thread ends with the goroutine
		home, err := os.Open("/proc/thread-self/ns/net")
		if !assert.NoError(t, err) {
			return
		}
		defer home.Close()
		if err := syscall.Unshare(syscall.CLONE_NEWNET); assert.NoError(t, err) {
			f(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), home.Fd()),
				fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), syscall.Gettid()))
		}
	}()
	<-done
}

// A host with several addresses on several interfaces, and a peer on another host: the reply
// comes from the address that the datagram was sent to, by every socket that can get it.
func TestRepliesLeaveFromWhereDatagramsCameTo(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	ip(t, `link set lo up
		link add one type veth peer name far1
		link add two type veth peer name far2
		addr add 10.1.0.1/24 dev one
		addr add 10.1.0.2/24 dev one
		addr add 10.2.0.1/24 dev two
		addr add 10.9.0.1/32 dev lo
		addr add 2001:db8:1::1/64 dev one nodad
		addr add 2001:db8:1::2/64 dev one nodad
		addr add 2001:db8:2::1/64 dev two nodad
		addr add 2001:db8:9::1/128 dev lo nodad
		addr add fe80::a/64 dev one nodad
		addr add fe80::b/64 dev one nodad
		addr add fe80::a/64 dev two nodad
		link set one up
		link set two up`)
	four := []string{"10.1.0.1", "10.1.0.2", "10.2.0.1", "10.9.0.1"}
	six := []string{"2001:db8:1::1", "2001:db8:1::2", "2001:db8:2::1", "2001:db8:9::1",
		"fe80::a%far1", "fe80::b%far1", "fe80::a%far2"}
	// Sockets are made here, in this namespace, and talked to from the other.
	type server struct {
		name string
		conn net.PacketConn
		to   []string
	}
	var servers []server
	for network, to := range map[string][]string{
		"udp4": four, "udp6": six, "udp": append(append([]string(nil), four...), six...),
	} {
		for _, quic := range []bool{false, true} {
			inner, err := net.ListenPacket(network, ":0")
			require.NoError(t, err)
			defer inner.Close()
			cfg := &Config{Policy: proxyproto.Always(proxyproto.Optional)}
			var conn net.PacketConn
			if conn, err = NewPacketConn(inner, cfg); quic {
				conn, err = NewQUICConn(inner.(*net.UDPConn), cfg)
			}
			require.NoError(t, err)
			go echo(t, conn)
			name := fmt.Sprintf("%s, %T", network, conn)
			servers = append(servers, server{name, conn, to})
		}
	}
	elsewhere(t, func(home, there string) {
		for _, far := range []string{"far1", "far2"} { // ip runs in this thread's namespace
			out, err := exec.Command("nsenter", "--net="+home, "ip", "link", "set", far, "netns",
				there).CombinedOutput()
			if !assert.NoError(t, err, "%s", out) {
				return
			}
		}
		ip(t, `link set lo up
			addr add 10.1.0.9/24 dev far1
			addr add 10.2.0.9/24 dev far2
			addr add 2001:db8:1::9/64 dev far1 nodad
			addr add 2001:db8:2::9/64 dev far2 nodad
			addr add fe80::9/64 dev far1 nodad
			addr add fe80::9/64 dev far2 nodad
			link set far1 up
			link set far2 up
			route add 10.9.0.1 via 10.1.0.1
			route add 2001:db8:9::1 via 2001:db8:1::1`)
		for _, s := range servers {
			port := s.conn.LocalAddr().(*net.UDPAddr).Port
			for _, to := range s.to {
				addr := netip.AddrPortFrom(netip.MustParseAddr(to), uint16(port))
				for _, header := range []string{"", packet(t, testHeader(), ""),
					packet(t, headerOf(proxyproto.UDP6, "[2001:db8::7]:1", "[2001:db8::1]:2"), "")} {
					assertAnswers(t, addr, header, fmt.Sprintf("%s, %v, %d bytes of header", s.name, to, len(header)))
				}
			}
		}
	})
}

// echo answers each datagram of a PacketConn or, by its own methods, of a QUICConn.
func echo(t *testing.T, conn net.PacketConn) {
	b := make([]byte, 1500)
	for {
		var n int
		var err error
		if c, ok := conn.(*QUICConn); ok {
			ms := messages(8, 1500)
			if _, err = c.ReadBatch(ms, 0); err == nil {
				_, _, err = c.WriteMsgUDP(ms[0].Buffers[0][:ms[0].N], nil, ms[0].Addr.(*net.UDPAddr))
			}
		} else {
			var addr net.Addr
			if n, addr, err = conn.ReadFrom(b); err == nil {
				_, err = conn.WriteTo(b[:n], addr)
			}
		}
		if err != nil {
			assert.ErrorIs(t, err, net.ErrClosed)
			return
		}
	}
}

// assertAnswers checks that addr answers, from where it was asked.
func assertAnswers(t *testing.T, addr netip.AddrPort, header, what string) {
	c, err := net.ListenUDP("udp", nil)
	if !assert.NoError(t, err) {
		return
	}
	defer c.Close()
	b := make([]byte, 100)
	var from netip.AddrPort
	var n int
	for range 20 { // a neighbour has to be found first
		c.SetDeadline(time.Now().Add(time.Second))
		if _, err = c.WriteToUDPAddrPort([]byte(header+"hello"), addr); err != nil {
			continue
		}
		if n, from, err = c.ReadFromUDPAddrPort(b); err == nil {
			break
		}
	}
	if assert.NoError(t, err, what) {
		assert.Equal(t, "hello", string(b[:n]), what)
		assert.Equal(t, addr, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), what)
	}
}

// On one host, from the loopback's many addresses, and without Optional's direct clients.
func TestWildcardOnLoopback(t *testing.T) {
	inner := listenUDP(t, "0.0.0.0:0")
	pc, err := NewPacketConn(inner, &Config{Policy: requireAll})
	require.NoError(t, err)
	require.True(t, pc.wildcard)
	port := inner.LocalAddr().(*net.UDPAddr).Port
	proxy := listenUDP(t, "127.0.0.1:0")
	var addrs []net.Addr
	for i := range 4 {
		to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, byte(1+i)), Port: port}
		_, err := proxy.WriteTo([]byte(packet(t, testHeader(), "hello")), to)
		require.NoError(t, err)
		_, addr := receive(t, pc)
		addrs = append(addrs, addr)
	}
	reply := func(addr net.Addr, from string) {
		t.Helper()
		_, err := pc.WriteTo([]byte("reply"), addr)
		require.NoError(t, err)
		_, is := receive(t, proxy)
		assert.Equal(t, fmt.Sprintf("%s:%d", from, port), is.String())
	}
	for i, addr := range addrs {
		reply(addr, fmt.Sprintf("127.0.0.%d", 1+i))
	}
	pc.Remember(10, time.Minute)
	_, err = proxy.WriteTo([]byte(packet(t, testHeader(), "hello")),
		&net.UDPAddr{IP: net.IPv4(127, 0, 0, 3), Port: port})
	require.NoError(t, err)
	receive(t, pc)
	reply(addrs[0], "127.0.0.3")
	assert.False(t, newPacketConn(t, &Config{Policy: requireAll}).wildcard, "it pays nothing")
}

// A datagram that came to a group or to all can't be answered from there.
func TestLocalOfGroups(t *testing.T) {
	_, data := appendControl(nil, syscall.IPPROTO_IPV6, syscall.IPV6_PKTINFO, lenPktInfo6)
	for to, want := range map[string]local{
		"ff02::1":          {},
		"fe80::1":          {netip.MustParseAddr("fe80::1"), 0},
		"2001:db8::1":      {addr: netip.MustParseAddr("2001:db8::1")},
		"::ffff:10.0.0.1":  {addr: netip.MustParseAddr("10.0.0.1")},
		"::ffff:224.0.0.1": {},
	} {
		oob, data := appendControl(nil, syscall.IPPROTO_IPV6, syscall.IPV6_PKTINFO, len(data))
		ip := netip.MustParseAddr(to).As16()
		copy(data, ip[:])
		assert.Equal(t, want, parseLocal(oob), to)
	}
	oob, data := appendControl(nil, syscall.IPPROTO_IP, syscall.IP_PKTINFO, lenPktInfo4)
	copy(data[4:], []byte{10, 0, 0, 1, 255, 255, 255, 255})
	assert.Equal(t, "10.0.0.1", parseLocal(oob).addr.String(), "to all, answered from here")
}
