// Package servertest tests the Listener, the Conn and the Dialer as their users meet them: it has
// no more of the library than what is exported.
package servertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
)

// The client that the tests' headers speak of, and what it connected to.
const (
	testSource      = "192.0.2.7:56324"
	testDestination = "198.51.100.1:443"
	testLineV1      = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
)

// The sizes that the specification gives, and those that the library chooses.
const (
	signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"
	lenV2       = 16 // up to the block
	lenIPv4     = 12 // an address block
	lenUnix     = 216
	lenTLV      = 3 // a TLV's type and length
	maxHeader   = lenV2 + 1<<16 - 1

	defaultMaxHeaderSize = 4 << 10
	lenBuffer            = 2 * defaultMaxHeaderSize // of a Read that meets the header
)

// aLongTimeAgo is a deadline that makes a Read return at once.
var aLongTimeAgo = time.Unix(1, 0)

// testHeader returns a version 2 header for the test's client.
func testHeader(tlvs ...byte) Header {
	return Header{
		Version:     V2,
		Command:     Proxy,
		Protocol:    TCP4,
		Source:      netip.MustParseAddrPort(testSource),
		Destination: netip.MustParseAddrPort(testDestination),
		TLVs:        tlvs,
	}
}

// encode returns the header's wire form.
func encode(t testing.TB, h Header) string {
	t.Helper()
	b, err := h.AppendTo(nil)
	require.NoError(t, err)
	return string(b)
}

// dropLog keeps what OnDrop is told.
type dropLog struct {
	c chan *DropError
}

// logDrops makes cfg log what it drops.
func logDrops(cfg *Config) *dropLog {
	l := &dropLog{make(chan *DropError, 1024)}
	cfg.OnDrop = func(_ Peer, drop *DropError) { l.c <- drop }
	return l
}

// next waits for the next drop.
func (l *dropLog) next(t testing.TB) *DropError {
	t.Helper()
	select {
	case drop := <-l.c:
		return drop
	case <-time.After(30 * time.Second):
		require.Fail(t, "OnDrop wasn't told")
		return nil
	}
}

// empty checks that nothing more was dropped up to now.
func (l *dropLog) empty(t testing.TB) {
	t.Helper()
	select {
	case drop := <-l.c:
		assert.NoError(t, drop, "OnDrop was told")
	default:
	}
}

// listen returns a Listener on a free port of the loopback interface.
func listen(t testing.TB, cfg *Config) *Listener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ln, err := NewListener(inner, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln
}

// dial connects to ln and sends what is given.
func dial(t testing.TB, ln net.Listener, send string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	_, err = io.WriteString(c, send)
	require.NoError(t, err)
	return c.(*net.TCPConn)
}

// accept returns the next connection, which is closed with the test.
func accept(t testing.TB, ln net.Listener) net.Conn {
	t.Helper()
	c, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// readString reads n bytes.
func readString(t testing.TB, r io.Reader, n int) string {
	t.Helper()
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	require.NoError(t, err)
	return string(b)
}

// assertTestClient checks that c has the addresses of the test's client.
func assertTestClient(t testing.TB, c net.Conn) {
	t.Helper()
	assert.Equal(t, testSource, c.RemoteAddr().String())
	assert.Equal(t, testDestination, c.LocalAddr().String())
}

// assertSocket checks that c has the socket's addresses, client being its other end.
func assertSocket(t testing.TB, c, client net.Conn) {
	t.Helper()
	assert.Equal(t, client.LocalAddr().String(), c.RemoteAddr().String())
	assert.Equal(t, client.RemoteAddr().String(), c.LocalAddr().String())
}

// assertClosed checks that the other end of c has been closed, without a byte before.
func assertClosed(t testing.TB, c net.Conn) {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	assert.Zero(t, n)
	assert.Error(t, err)
}

// reset closes c so that the other end sees a reset.
func reset(t testing.TB, c *net.TCPConn) {
	t.Helper()
	require.NoError(t, c.SetLinger(0))
	require.NoError(t, c.Close())
}

// pipeListener is an inner listener whose connections are net.Pipe's: for synctest, in whose
// bubbles real sockets can't be waited for.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// dial returns the client's end of a new connection once the listener has accepted it.
func (p *pipeListener) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeListener) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// testCertificate returns a certificate for 127.0.0.1 and the roots that it is valid under.
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

// settle waits until cond holds. Nothing but a hang makes it fail.
func settle(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for start := time.Now(); !cond(); time.Sleep(time.Millisecond) {
		require.Less(t, time.Since(start), time.Minute, what)
	}
}

// whoServer serves ln: it answers each connection by its client's address, and ends it.
func whoServer(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			c.Read(make([]byte, 1))
			fmt.Fprint(c, c.RemoteAddr())
		}()
	}
}
