package servertest

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/wiretest"
)

func udpAddr(s string) net.Addr { return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

func TestNewHeader(t *testing.T) {
	const unknown, local = "v1 PROXY UNSPEC", "v2 LOCAL UNSPEC"
	for _, test := range []struct {
		name                string
		source, destination net.Addr
		v1, v2              string // the wire forms, as text
	}{
		{"IPv4", tcpAddr("192.0.2.7:1"), tcpAddr("192.0.2.9:2"),
			"TCP4 192.0.2.7:1 192.0.2.9:2", "TCP4 192.0.2.7:1 192.0.2.9:2"},
		{"IPv6", tcpAddr("[2001:db8::7]:1"), tcpAddr("[2001:db8::9]:2"),
			"TCP6 [2001:db8::7]:1 [2001:db8::9]:2", "TCP6 [2001:db8::7]:1 [2001:db8::9]:2"},
		{"IPv4 to IPv6", tcpAddr("192.0.2.7:1"), tcpAddr("[2001:db8::9]:2"),
			"TCP6 [::ffff:192.0.2.7]:1 [2001:db8::9]:2",
			"TCP6 [::ffff:192.0.2.7]:1 [2001:db8::9]:2"},
		{"IPv6 to IPv4", tcpAddr("[2001:db8::7]:1"), tcpAddr("192.0.2.9:2"),
			"TCP6 [2001:db8::7]:1 [::ffff:192.0.2.9]:2",
			"TCP6 [2001:db8::7]:1 [::ffff:192.0.2.9]:2"},
		{"both mapped", tcpAddr("[::ffff:192.0.2.7]:1"), tcpAddr("[::ffff:192.0.2.9]:2"),
			"TCP4 192.0.2.7:1 192.0.2.9:2", "TCP4 192.0.2.7:1 192.0.2.9:2"},
		{"with a zone", tcpAddr("[fe80::7%eth0]:1"), tcpAddr("[fe80::9%eth0]:2"),
			"TCP6 [fe80::7]:1 [fe80::9]:2", "TCP6 [fe80::7]:1 [fe80::9]:2"},
		{"UDP", udpAddr("192.0.2.7:1"), udpAddr("192.0.2.9:2"),
			"TCP4 192.0.2.7:1 192.0.2.9:2", "UDP4 192.0.2.7:1 192.0.2.9:2"},
		{"UDP over IPv6", udpAddr("[2001:db8::7]:1"), udpAddr("192.0.2.9:2"),
			"TCP6 [2001:db8::7]:1 [::ffff:192.0.2.9]:2",
			"UDP6 [2001:db8::7]:1 [::ffff:192.0.2.9]:2"},
		{"TCP and UDP", tcpAddr("192.0.2.7:1"), udpAddr("192.0.2.9:2"), unknown, local},
		{"Unix", unixAddr("a"), unixAddr("b"), unknown, local},
		{"IP and Unix", tcpAddr("192.0.2.7:1"), unixAddr("b"), unknown, local},
		{"nothing", nil, nil, unknown, local},
		{"no destination", tcpAddr("192.0.2.7:1"), nil, unknown, local},
		{"no source", (*net.TCPAddr)(nil), tcpAddr("192.0.2.7:1"), unknown, local},
		{"an address without IP", &net.TCPAddr{Port: 1}, tcpAddr("192.0.2.9:2"), unknown, local},
	} {
		t.Run(test.name, func(t *testing.T) {
			for version, want := range map[Version]string{V1: test.v1, V2: test.v2} {
				h := NewHeader(test.source, test.destination, version)
				assert.Equal(t, version, h.Version)
				assert.Nil(t, h.TLVs)
				_, _, err := Parse([]byte(encode(t, *h)))
				assert.NoError(t, err)
				if want == unknown || want == local {
					assert.Equal(t, want, h.String())
					continue
				}
				assert.Equal(t, Proxy, h.Command)
				assert.Equal(t, want, addrsOf(h))
			}
		})
	}
	_, err := NewHeader(tcpAddr("192.0.2.7:1"), tcpAddr("192.0.2.9:2"), 0).AppendTo(nil)
	assert.ErrorContains(t, err, "version")
}

func unixAddr(name string) net.Addr { return &net.UnixAddr{Net: "unix", Name: name} }

func addrsOf(h *Header) string {
	return h.Protocol.String() + " " + h.Source.String() + " " + h.Destination.String()
}

// ipv6 is the test's client by the IPv4-mapped form of its addresses.
func ipv6(h Header, p Protocol) Header {
	h.Protocol = p
	for _, ap := range []*netip.AddrPort{&h.Source, &h.Destination} {
		*ap = netip.AddrPortFrom(netip.AddrFrom16(ap.Addr().As16()), ap.Port())
	}
	return h
}

func TestForward(t *testing.T) {
	with := func(change func(h *Header)) Header {
		h := testHeader()
		change(&h)
		return h
	}
	v1 := with(func(h *Header) { h.Version = V1 })
	six := with(func(h *Header) {
		h.Protocol = TCP6
		h.Source = netip.MustParseAddrPort("[2001:db8::7]:1")
		h.Destination = netip.MustParseAddrPort("[2001:db8::9]:2")
	})
	sixUDP, sixV1 := six, six
	sixUDP.Protocol, sixV1.Version = UDP6, V1
	unixAddrs, err := NewUnixAddrs("/client", "/server")
	require.NoError(t, err)
	unix := Header{Version: V2, Command: Proxy, Protocol: UnixStream, Unix: unixAddrs,
		TLVs: TLVs{5, 0, 1, 'x'}}
	unixDatagram := unix
	unixDatagram.Protocol = UnixDatagram
	unknownV1 := &Header{Version: V1, Command: Proxy}
	const kept = "01 0002 6832 05 0002 6964 20 0005 0100000000 30 0001 6e ea 0002 0176"
	tlvs := testHeader(unhexTLVs(t, "04 0001 00", kept, "04 0000", "03 0004 01020304")...)
	for _, test := range []struct {
		name   string
		h      Header
		v1, v2 *Header
	}{
		{"v1", v1, &v1, new(testHeader())},
		{"v2", testHeader(), &v1, new(testHeader())},
		{"TLVs", tlvs, &v1, new(testHeader(unhexTLVs(t, kept)...))},
		{"only padding", testHeader(4, 0, 0), &v1, new(testHeader())},
		{"mapped", ipv6(testHeader(), TCP6), &v1, new(testHeader())},
		{"IPv6", six, &sixV1, &six},
		{"UDP", with(func(h *Header) { h.Protocol = UDP4 }), &v1, new(testHeader())},
		{"UDP, mapped", ipv6(testHeader(), UDP6), &v1, new(testHeader())},
		{"UDP over IPv6", sixUDP, &sixV1, &six},
		{"Unix", unix, unknownV1, &unix},
		{"Unix datagram", unixDatagram, unknownV1, &unix},
		{"UNKNOWN", *unknownV1, nil, nil},
		{"UNSPEC over TCP", Header{Version: V2, Command: Proxy, Protocol: 0x01}, nil, nil},
		{"UNSPEC over IPv4", Header{Version: V2, Command: Proxy, Protocol: 0x10}, nil, nil},
		{"LOCAL", Header{Version: V2}, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := test.h.Clone()
			for version, want := range map[Version]*Header{V1: test.v1, V2: test.v2} {
				got := test.h.Forward(version)
				if want == nil {
					assert.Nil(t, got, "%v", version)
					continue
				}
				require.NotNil(t, got, "%v", version)
				assert.Equal(t, encode(t, *want), encode(t, *got), "%v", version)
				for i := range got.TLVs {
					got.TLVs[i]++
				}
				if got.Unix != nil {
					got.Unix[0]++
				}
			}
			assert.Equal(t, *before, test.h, "the header itself has changed")
		})
	}
	assert.Nil(t, (*Header)(nil).Forward(V2))
}

func unhexTLVs(t *testing.T, tlvs ...string) []byte {
	return []byte(wiretest.Hex(strings.Join(tlvs, "")))
}

// A checksum is of one header. What is forwarded has it only if it is appended anew.
func TestForwardChecksum(t *testing.T) {
	in := testHeader(unhexTLVs(t, "03 0004 00000000", "05 0002 6964")...)
	parsed, _, err := Parse([]byte(encode(t, in)))
	require.NoError(t, err)
	out := parsed.Forward(V2)
	_, ok := out.TLVs.Lookup(TypeCRC32C)
	assert.False(t, ok)
	out.TLVs, err = out.TLVs.Append(TypeCRC32C, make([]byte, 4))
	require.NoError(t, err)
	_, _, err = Parse([]byte(encode(t, *out)))
	assert.NoError(t, err)
}

// An edge says once what it knows itself: whatever the hop before it said, neither those who read
// the first TLV nor those who read the last hear that one's word.
func TestForwardedTLVsHaveOneVoice(t *testing.T) {
	verified, err := SSL{Client: ClientSSL | ClientCertConn, Verify: 0,
		TLVs: TLVs("\x22\x00\x05admin")}.AppendTo(nil)
	require.NoError(t, err)
	in := testHeader(append(verified, verified...)...)
	mine, err := SSL{Client: ClientSSL, Verify: Unverified}.AppendTo(nil)
	require.NoError(t, err)
	value, ok := mine.Lookup(TypeSSL)
	require.True(t, ok)

	h := in.Forward(V2)
	h.TLVs, err = h.TLVs.Set(TypeSSL, value)
	require.NoError(t, err)
	count := 0
	for typ, got := range h.TLVs.All() {
		assert.Equal(t, TypeSSL, typ)
		assert.Equal(t, value, got)
		count++
	}
	assert.Equal(t, 1, count)
	ssl, _ := h.TLVs.SSL()
	assert.False(t, ssl.Verified())
	assert.Empty(t, in.TLVs.Without(TypeSSL))
	assert.Equal(t, append(verified, verified...), in.TLVs, "the header that came has changed")
}

func TestHeaderForConnections(t *testing.T) {
	tlvs := testHeader(5, 0, 1, 'x')
	udp := testHeader()
	udp.Protocol = UDP4
	for _, test := range []struct {
		name   string
		action Action
		send   string
		want   string // the source and TLVs; "socket" for the connection's own address
	}{
		{"v1", Require, testLineV1, testSource},
		{"v2 with TLVs", Require, encode(t, tlvs), testSource + " 5 x"},
		{"UDP", Require, encode(t, udp), testSource},
		{"LOCAL", Require, encode(t, Header{Version: V2}) + "hello", "socket"},
		{"UNKNOWN", Require, "PROXY UNKNOWN\r\n", "socket"},
		{"no header", Optional, "hello", "socket"},
		{"ignored", Ignore, testLineV1, "socket"},
		{"skipped", Skip, "", "socket"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ln := listen(t, &Config{Policy: Always(test.action)})
			client := dial(t, ln, test.send)
			c := accept(t, ln)
			h, err := HeaderFor(c, V2)
			require.NoError(t, err)
			got := h.SourceAddr().String()
			for _, value := range h.TLVs.All() {
				got += " 5 " + string(value)
			}
			destination := testDestination
			if test.want == "socket" {
				test.want, destination = client.LocalAddr().String(), ln.Addr().String()
			}
			assert.Equal(t, test.want, got)
			assert.Equal(t, destination, h.DestinationAddr().String())
			assert.Equal(t, V2, h.Version)
			assert.Equal(t, TCP4, h.Protocol)
		})
	}
}

// addressedConn is a connection with addresses of its own, such as a QUIC stream's.
type addressedConn struct {
	net.Conn
	remote, local net.Addr
}

func (c addressedConn) RemoteAddr() net.Addr { return c.remote }
func (c addressedConn) LocalAddr() net.Addr  { return c.local }

// What goes over a stream says TCP, whatever the inbound connection is made of.
func TestHeaderForDatagramConnection(t *testing.T) {
	c := addressedConn{remote: udpAddr("[2001:db8::7]:1"), local: udpAddr("[2001:db8::9]:2")}
	for _, version := range []Version{V1, V2} {
		h, err := HeaderFor(c, version)
		require.NoError(t, err)
		assert.Equal(t, "TCP6 [2001:db8::7]:1 [2001:db8::9]:2", addrsOf(h))
	}
}

func TestHeaderForUnknownAddresses(t *testing.T) {
	client, server := net.Pipe() // its addresses are no IP addresses
	defer client.Close()
	defer server.Close()
	for _, c := range []net.Conn{server, addressedConn{}} {
		h, err := HeaderFor(c, V2)
		require.NoError(t, err)
		assert.Equal(t, Header{Version: V2, Command: Local}, *h)
		h, err = HeaderFor(c, V1)
		require.NoError(t, err)
		assert.Equal(t, "PROXY UNKNOWN\r\n", encode(t, *h))
	}
}

// As long as the header is awaited the addresses are those of the proxy in front, which would
// be sent on as the client's.
func TestHeaderForLazy(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require), Lazy: true})
	dial(t, ln, testLineV1)
	c := accept(t, ln).(*Conn)
	_, err := HeaderFor(tls.Server(c, new(tls.Config)), V2)
	require.ErrorContains(t, err, "ReadHeader")
	require.NoError(t, c.ReadHeader(t.Context()))
	h, err := HeaderFor(c, V2)
	require.NoError(t, err)
	assert.Equal(t, testSource, h.Source.String())

	dial(t, ln, "GET / HTTP/1.0\r\n\r\n")
	refused := accept(t, ln).(*Conn)
	require.Error(t, refused.ReadHeader(t.Context()))
	_, err = HeaderFor(refused, V2)
	assert.Error(t, err)
}

// A wrapper without a NetConn method, such as netutil.LimitListener's.
type hidingConn struct {
	_ func() // the connection isn't its first field
	net.Conn
}

// Where a wrapper hides that a header is awaited, its addresses aren't passed on as the client's.
func TestHeaderForHiddenLazy(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require), Lazy: true})
	dial(t, ln, testLineV1)
	c := accept(t, ln).(*Conn)
	for _, wrapped := range []net.Conn{
		hidingConn{Conn: c}, &hidingConn{Conn: c}, &hidingConn{Conn: hidingConn{Conn: c}},
		hidingConn{Conn: tls.Server(c, new(tls.Config))},
		tls.Server(hidingConn{Conn: c}, new(tls.Config)),
	} {
		_, err := HeaderFor(wrapped, V2)
		assert.ErrorContains(t, err, "NetConn", "%T", wrapped)
	}
	require.NoError(t, c.ReadHeader(t.Context()))
	h, err := HeaderFor(hidingConn{Conn: c}, V2)
	require.NoError(t, err)
	assert.Equal(t, testSource, h.Source.String())

	inner, server := net.Pipe()
	defer inner.Close()
	h, err = HeaderFor(hidingConn{Conn: server}, V2)
	require.NoError(t, err)
	assert.Equal(t, Header{Version: V2}, *h)
}

func TestHeaderForTLS(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require)})
	in := testHeader(5, 0, 1, 'x')
	dial(t, ln, encode(t, in))
	h, err := HeaderFor(tls.Server(accept(t, ln), new(tls.Config)), V2)
	require.NoError(t, err)
	assert.Equal(t, in, *h)
}

// A chain of two proxies, the second of which gets the first one's header.
func TestChain(t *testing.T) {
	for _, versions := range [][2]Version{{V1, V1}, {V1, V2}, {V2, V1}, {V2, V2}} {
		edge, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer edge.Close()
		middle := listen(t, &Config{Policy: Always(Require)})
		backend := listen(t, &Config{Policy: Always(Require)})
		client := dial(t, edge, "")
		pass := func(from, to net.Listener, version Version) {
			h, err := HeaderFor(accept(t, from), version)
			require.NoError(t, err)
			c, err := new(Dialer).DialHeader(t.Context(), "tcp", to.Addr().String(), h)
			require.NoError(t, err)
			t.Cleanup(func() { c.Close() })
		}
		pass(edge, middle, versions[0])
		pass(middle, backend, versions[1])
		assertSocket(t, accept(t, backend), client)
	}
}
