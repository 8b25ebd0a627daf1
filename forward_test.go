package proxyproto

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testCertificate makes a certificate for 127.0.0.1 and a pool that trusts it.
func testCertificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

func tcpAddr(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
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
		{"source IPv4, destination IPv6", tcpAddr("192.0.2.7:1"), tcpAddr("[2001:db8::9]:2"),
			"TCP6 [::ffff:192.0.2.7]:1 [2001:db8::9]:2", "TCP6 [::ffff:192.0.2.7]:1 [2001:db8::9]:2"},
		{"source IPv6, destination IPv4", tcpAddr("[2001:db8::7]:1"), tcpAddr("192.0.2.9:2"),
			"TCP6 [2001:db8::7]:1 [::ffff:192.0.2.9]:2", "TCP6 [2001:db8::7]:1 [::ffff:192.0.2.9]:2"},
		{"both mapped", tcpAddr("[::ffff:192.0.2.7]:1"), tcpAddr("[::ffff:192.0.2.9]:2"),
			"TCP4 192.0.2.7:1 192.0.2.9:2", "TCP4 192.0.2.7:1 192.0.2.9:2"},
		{"with a zone", tcpAddr("[fe80::7%eth0]:1"), tcpAddr("[fe80::9%eth0]:2"),
			"TCP6 [fe80::7]:1 [fe80::9]:2", "TCP6 [fe80::7]:1 [fe80::9]:2"},
		{"UDP", udpAddr("192.0.2.7:1"), udpAddr("192.0.2.9:2"),
			unknown, "UDP4 192.0.2.7:1 192.0.2.9:2"},
		{"UDP over IPv6", udpAddr("[2001:db8::7]:1"), udpAddr("192.0.2.9:2"),
			unknown, "UDP6 [2001:db8::7]:1 [::ffff:192.0.2.9]:2"},
		{"TCP and UDP", tcpAddr("192.0.2.7:1"), udpAddr("192.0.2.9:2"), unknown, local},
		{"Unix", &net.UnixAddr{Net: "unix", Name: "a"}, &net.UnixAddr{Net: "unix", Name: "b"}, unknown, local},
		{"IP and Unix", tcpAddr("192.0.2.7:1"), &net.UnixAddr{Net: "unix", Name: "b"}, unknown, local},
		{"nothing", nil, nil, unknown, local},
		{"no destination", tcpAddr("192.0.2.7:1"), nil, unknown, local},
		{"no source", (*net.TCPAddr)(nil), tcpAddr("192.0.2.7:1"), unknown, local},
		{"an address without IP", &net.TCPAddr{Port: 1}, tcpAddr("192.0.2.9:2"), unknown, local},
	} {
		t.Run(test.name, func(t *testing.T) {
			for version, want := range map[Version]string{V1: test.v1, V2: test.v2} {
				h := NewHeader(version, test.source, test.destination)
				assert.Equal(t, version, h.Version)
				assert.Nil(t, h.TLVs)
				_, _, err := Parse([]byte(encode(t, *h)))
				assert.NoError(t, err)
				if want == unknown || want == local {
					assert.Equal(t, want, h.String())
					continue
				}
				assert.Equal(t, Proxy, h.Command)
				assert.Equal(t, want, h.Protocol.String()+" "+h.Source.String()+" "+h.Destination.String())
			}
		})
	}
	_, err := NewHeader(0, tcpAddr("192.0.2.7:1"), tcpAddr("192.0.2.9:2")).AppendTo(nil)
	assert.ErrorIs(t, err, ErrMalformed)
}

func TestForward(t *testing.T) {
	v1 := testHeader()
	v1.Version = V1
	mapped := testHeader()
	mapped.Protocol = TCP6
	mapped.Source = netip.AddrPortFrom(netip.AddrFrom16(mapped.Source.Addr().As16()), mapped.Source.Port())
	mapped.Destination = netip.AddrPortFrom(netip.AddrFrom16(mapped.Destination.Addr().As16()), mapped.Destination.Port())
	udp := testHeader()
	udp.Protocol = UDP4
	unixAddrs, err := NewUnixAddrs("/client", "/server")
	require.NoError(t, err)
	unix := Header{Version: V2, Command: Proxy, Protocol: UnixStream, Unix: unixAddrs, TLVs: TLVs{5, 0, 1, 'x'}}
	unknownV1 := &Header{Version: V1, Command: Proxy}
	tlvs := testHeader(unhexTLVs(t, "01 0002 6832", "04 0001 00", "05 0002 6964", "20 0005 0100000000", "30 0001 6e", "ea 0002 0176", "04 0000")...)
	kept := testHeader(unhexTLVs(t, "01 0002 6832", "05 0002 6964", "20 0005 0100000000", "30 0001 6e", "ea 0002 0176")...)
	noops := testHeader(4, 0, 0)
	for _, test := range []struct {
		name   string
		h      Header
		v1, v2 *Header
	}{
		{"v1", v1, &v1, new(testHeader())},
		{"v2", testHeader(), &v1, new(testHeader())},
		{"TLVs", tlvs, &v1, &kept},
		{"only NOOP", noops, &v1, new(testHeader())},
		{"mapped", mapped, &v1, new(testHeader())},
		{"UDP", udp, unknownV1, &udp},
		{"Unix", unix, unknownV1, &unix},
		{"UNKNOWN", *unknownV1, nil, nil},
		{"UNSPEC", Header{Version: V2, Command: Proxy, Protocol: 0x10}, nil, nil},
		{"LOCAL", Header{Version: V2}, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := encode(t, test.h)
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
			assert.Equal(t, before, encode(t, test.h), "the header itself has changed")
		})
	}
	assert.Nil(t, (*Header)(nil).Forward(V2))
}

func unhexTLVs(t *testing.T, tlvs ...string) []byte {
	return []byte(unhex(t, strings.Join(tlvs, "")))
}

// The checksum of a header with a client of its own is another, so it must be computed anew.
func TestForwardChecksum(t *testing.T) {
	in := testHeader(unhexTLVs(t, "04 0005 0000000000", "03 0004 00000000", "05 0002 6964")...)
	parsed, _, err := Parse([]byte(encode(t, in)))
	require.NoError(t, err)
	out, _, err := Parse([]byte(encode(t, *parsed.Forward(V2))))
	require.NoError(t, err)
	old, ok := parsed.TLVs.Lookup(TypeCRC32C)
	require.True(t, ok)
	sum, ok := out.TLVs.Lookup(TypeCRC32C)
	require.True(t, ok)
	assert.NotEqual(t, old, sum)
	_, ok = out.TLVs.Lookup(TypeNoop)
	assert.False(t, ok)
	id, ok := out.TLVs.Lookup(TypeUniqueID)
	assert.True(t, ok)
	assert.Equal(t, "id", string(id))
}

func TestHeaderForConnections(t *testing.T) {
	tlvs := testHeader(5, 0, 1, 'x')
	local := Header{Version: V2}
	for _, test := range []struct {
		name   string
		action Action
		send   string
		want   string // the source and TLVs; "socket" for the connection's own address
	}{
		{"v1", Require, testLineV1, testSource},
		{"v2 with TLVs", Require, encode(t, tlvs), testSource + " 5 x"},
		{"LOCAL", Require, encode(t, local), "socket"},
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
		})
	}
}

func TestHeaderForUnknownAddresses(t *testing.T) {
	client, server := net.Pipe() // its addresses are no IP addresses
	defer client.Close()
	defer server.Close()
	h, err := HeaderFor(server, V2)
	require.NoError(t, err)
	assert.Equal(t, Header{Version: V2, Command: Local}, *h)
	h, err = HeaderFor(server, V1)
	require.NoError(t, err)
	assert.Equal(t, "PROXY UNKNOWN\r\n", encode(t, *h))
}

// As long as the header is awaited the addresses are those of the proxy in front, which would
// be sent on as the client's.
func TestHeaderForLazy(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require), Lazy: true})
	dial(t, ln, testLineV1)
	c := accept(t, ln).(*Conn)
	_, err := HeaderFor(c, V2)
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
		pass := func(from, to net.Listener, version Version) net.Conn {
			h, err := HeaderFor(accept(t, from), version)
			require.NoError(t, err)
			c, err := new(Dialer).DialContext(WithHeader(context.Background(), h), "tcp", to.Addr().String())
			require.NoError(t, err)
			t.Cleanup(func() { c.Close() })
			return c
		}
		pass(edge, middle, versions[0])
		pass(middle, backend, versions[1])
		assertSocket(t, accept(t, backend), client)
	}
}

func TestAlign(t *testing.T) {
	for size := range 9 {
		tlvs, err := TLVs(nil).Append(TypeUniqueID, make([]byte, size))
		require.NoError(t, err)
		tlvs, err = tlvs.Append(TypeCRC32C, make([]byte, 4))
		require.NoError(t, err)
		for n := 1; n <= 130; n++ {
			h := testHeader(tlvs...)
			unpadded := len(encode(t, h))
			require.NoError(t, h.Align(n))
			wire := encode(t, h)
			require.Zero(t, len(wire)%n, "%d bytes aligned to %d", unpadded, n)
			pad := len(wire) - unpadded
			require.NotContains(t, []int{1, 2}, pad)
			require.Less(t, pad, n+3)
			require.Equal(t, pad > 0, len(h.TLVs) > len(tlvs))
			require.True(t, strings.HasPrefix(string(h.TLVs), string(tlvs)))
			got, _, err := Parse([]byte(wire)) // verifies the checksum
			require.NoError(t, err)
			require.Equal(t, len(tlvs)+pad, len(got.TLVs))
		}
	}
}

func TestAlignRefuses(t *testing.T) {
	v1 := testHeader()
	v1.Version = V1
	full := testHeader(append([]byte{0xe0, 0xff, 0xf0}, make([]byte, 0xfff0)...)...)
	require.Len(t, encode(t, full), maxHeader)
	full.TLVs = full.TLVs[:len(full.TLVs)-1]
	full.TLVs[2]--
	for name, test := range map[string]struct {
		h Header
		n int
	}{
		"v1":            {v1, 64},
		"LOCAL":         {Header{Version: V2}, 64},
		"no header":     {Header{}, 64},
		"zero":          {testHeader(), 0},
		"negative":      {testHeader(), -8},
		"no room":       {full, 64},
		"beyond reason": {testHeader(), math.MaxInt},
	} {
		t.Run(name, func(t *testing.T) {
			before := test.h
			assert.Error(t, test.h.Align(test.n))
			assert.Equal(t, before, test.h)
		})
	}
	// What is right already needs no padding.
	assert.NoError(t, v1.Align(len(encode(t, v1))))
	assert.NoError(t, (&Header{Version: V2}).Align(16))
}

// Padding goes behind the TLVs, never over what lies there.
func TestAlignLeavesOtherMemory(t *testing.T) {
	b := make([]byte, 64)
	copy(b, "\x05\x00\x01xtail")
	h := testHeader()
	h.TLVs = b[:4]
	require.NoError(t, h.Align(64))
	assert.Equal(t, "tail", string(b[4:8]))
}
