package udp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

// patient is for a busy machine, which isn't what is tested here.
var patient = &quic.Config{HandshakeIdleTimeout: proxies.Timeout, MaxIdleTimeout: proxies.Timeout}

// serverName is what the server's certificate is for.
const serverName = "quic.test"

// quicSite is an HTTP/3 server behind a relay. It answers each request with the client's
// address and the checksum of the body, and with as much as is asked for.
type quicSite struct {
	ca      *proxies.CA
	packets *proxyudp.PacketConn
	relay   *relay
}

// onBoth runs a test with either type of connection, and what comes with each.
func onBoth(t *testing.T, test func(t *testing.T, quicConn bool)) {
	for name, quicConn := range map[string]bool{"PacketConn": false, "QUICConn": true} {
		t.Run(name, func(t *testing.T) { test(t, quicConn) })
	}
}

// serveQUIC starts a site, with a datagram of junk before each of the relay's.
func serveQUIC(t *testing.T, quicConn bool, verify func(net.Addr) bool) *quicSite {
	t.Helper()
	s := &quicSite{ca: proxies.NewCA(t, proxies.P256)}
	inner, err := net.ListenUDP("udp", nil) // on every address
	require.NoError(t, err)
	inner.SetReadBuffer(4 << 20)
	policy, err := proxyproto.ParseTrust(proxies.Proxy)
	require.NoError(t, err)
	cfg := &proxyudp.Config{Policy: policy}
	transport := &quic.Transport{VerifySourceAddress: verify}
	if quicConn {
		c, err := proxyudp.NewQUICConn(inner, cfg)
		require.NoError(t, err)
		s.packets, transport.Conn = c.PacketConn, c
	} else {
		s.packets, err = proxyudp.NewPacketConn(inner, cfg)
		require.NoError(t, err)
		transport.Conn = s.packets
	}
	ln, err := transport.ListenEarly(http3.ConfigureTLSConfig(&tls.Config{
		Certificates: []tls.Certificate{s.ca.Server(t, serverName)},
	}), patient)
	require.NoError(t, err)
	srv := &http3.Server{Handler: http.HandlerFunc(whoami)}
	served := make(chan error, 1)
	go func() { served <- srv.ServeListener(ln) }()
	to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 3), Port: inner.LocalAddr().(*net.UDPAddr).Port}
	s.relay = startRelay(t, to, true)
	t.Cleanup(func() {
		srv.Close()
		<-served
		ln.Close()
		transport.Close()
		inner.Close()
	})
	return s
}

func whoami(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	if _, err := io.Copy(sum, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Client", r.RemoteAddr)
	w.Header().Set("Sum", fmt.Sprintf("%x", sum.Sum(nil)))
	// As the handler finds the proxy too, and what the client sent to.
	client, _ := r.Context().Value(http3.RemoteAddrContextKey).(net.Addr)
	if route, ok := proxyudp.RouteOf(client); ok {
		w.Header().Set("Proxy", route.Peer.Addr().String())
		w.Header().Set("Destination", route.Destination.String())
	}
	io.Copy(w, io.LimitReader(endless{}, length(r)))
}

func length(r *http.Request) (n int64) {
	fmt.Sscan(r.URL.Query().Get("length"), &n)
	return n
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(i)
	}
	return len(b), nil
}

// quicClient is a client with a socket of its own.
type quicClient struct {
	site      *quicSite
	transport *quic.Transport
	conn      *quic.Conn
	http      *http3.ClientConn
}

func (s *quicSite) transport(from netip.Addr) (*quic.Transport, error) {
	socket, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)))
	if err != nil {
		return nil, err
	}
	return &quic.Transport{Conn: socket}, nil
}

func (s *quicSite) dial(ctx context.Context, from netip.Addr) (*quicClient, error) {
	transport, err := s.transport(from)
	if err != nil {
		return nil, err
	}
	c := &quicClient{site: s, transport: transport}
	c.conn, err = transport.Dial(ctx, s.relay.front.LocalAddr(), &tls.Config{
		RootCAs: s.ca.Pool(), ServerName: serverName, NextProtos: []string{http3.NextProtoH3},
	}, patient)
	if err != nil {
		c.close()
		return nil, err
	}
	c.http = new(http3.Transport).NewClientConn(c.conn)
	return c, nil
}

func (c *quicClient) close() {
	if c.conn != nil {
		c.conn.CloseWithError(0, "")
	}
	c.transport.Close()
	c.transport.Conn.Close()
}

// ask sends a body and gets as many bytes as it says. It returns whom the server takes the
// client for.
func (c *quicClient) ask(ctx context.Context, body []byte, length int64) (seen string, err error) {
	url := fmt.Sprintf("https://%s/?length=%d", serverName, length)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := c.http.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	switch sum := sha256.Sum256(body); {
	case err != nil:
		return "", err
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("answered %s", resp.Status)
	case n != length:
		return "", fmt.Errorf("%d bytes came and not %d", n, length)
	case resp.Header.Get("Sum") != fmt.Sprintf("%x", sum):
		return "", fmt.Errorf("the body of %d bytes arrived changed", len(body))
	case resp.Header.Get("Proxy") != proxies.Proxy:
		return "", fmt.Errorf("the server took %q for the proxy", resp.Header.Get("Proxy"))
	case resp.Header.Get("Destination") != c.site.relay.front.LocalAddr().String():
		return "", fmt.Errorf("the server took %q for the destination", resp.Header.Get("Destination"))
	}
	return resp.Header.Get("Client"), nil
}

func (s *quicSite) check(t *testing.T) {
	t.Helper()
	stats := s.packets.Stats()
	t.Logf("datagrams: %d from clients with headers, %d without dropped, %d back through the relay",
		stats.V2, dropped(stats), s.relay.toClients.Load())
	assert.Equal(t, stats.Accepted, stats.V2+stats.Dropped[proxyproto.ReasonNoHeader],
		"each datagram has a header and is attributed, or is junk")
	assert.NotZero(t, dropped(stats))
	assert.LessOrEqual(t, stats.V2, s.relay.toServer.Load())
}

// Many clients at once, each with requests of its own and payloads of many packets both ways.
func TestHTTP3(t *testing.T) { onBoth(t, testHTTP3) }

func testHTTP3(t *testing.T, quicConn bool) {
	const clients, requests = 64, 6
	s := serveQUIC(t, quicConn, nil)
	ctx, cancel := context.WithTimeout(t.Context(), proxies.Timeout)
	defer cancel()
	each(t, "HTTP/3 clients", clients, func(i int) (is, seen string, err error) {
		c, err := s.dial(ctx, proxies.ClientAddr(i))
		if err != nil {
			return "", "", err
		}
		defer c.close()
		is = c.conn.LocalAddr().String()
		for k := range requests {
			body, length := make([]byte, rand.N(5_000)), rand.N(5_000)
			if k == requests-1 { // some 80 packets each way
				body, length = make([]byte, 100_000), 100_000
			}
			if seen, err = c.ask(ctx, body, int64(length)); err != nil || seen != is {
				return is, seen, err
			}
		}
		return is, seen, nil
	})
	s.check(t)
}

// A server that makes clients prove their address first: the proof is made of the address that
// ReadFrom returns.
func TestHTTP3Retry(t *testing.T) { onBoth(t, testHTTP3Retry) }

func testHTTP3Retry(t *testing.T, quicConn bool) {
	var asked sync.Map
	s := serveQUIC(t, quicConn, func(addr net.Addr) bool { asked.Store(addr.String(), true); return true })
	ctx, cancel := context.WithTimeout(t.Context(), proxies.Timeout)
	defer cancel()
	for i := range 5 {
		c, err := s.dial(ctx, proxies.ClientAddr(i))
		require.NoError(t, err)
		is := c.conn.LocalAddr().String()
		_, ok := asked.Load(is)
		assert.True(t, ok, "%s wasn't asked for a proof", is)
		seen, err := c.ask(ctx, nil, 1000)
		assert.NoError(t, err)
		assert.Equal(t, is, seen)
		c.close()
	}
	s.check(t)
}

// A client whose address changes in the middle of a connection: the server takes the new one
// for its address, and replies through the socket of the relay that this has.
func TestHTTP3Migration(t *testing.T) { onBoth(t, testHTTP3Migration) }

func testHTTP3Migration(t *testing.T, quicConn bool) {
	const migrations = 2 // quic-go's client gets no third path, on a bare socket neither
	s := serveQUIC(t, quicConn, nil)
	ctx, cancel := context.WithTimeout(t.Context(), proxies.Timeout)
	defer cancel()
	each(t, "migrating HTTP/3 clients", 8, func(i int) (is, seen string, err error) {
		c, err := s.dial(ctx, proxies.ClientAddr(i))
		if err != nil {
			return "", "", err
		}
		defer c.close()
		is = c.conn.LocalAddr().String()
		if seen, err = c.ask(ctx, nil, 50_000); err != nil || seen != is {
			return is, seen, err
		}
		for k := range migrations {
			transport, err := s.transport(proxies.ClientAddr(100 + migrations*i + k))
			if err != nil {
				return is, "", err
			}
			defer func() { transport.Close(); transport.Conn.Close() }()
			path, err := c.conn.AddPath(transport)
			if err != nil {
				return is, "", err
			}
			if err := path.Probe(ctx); err != nil {
				return is, "", fmt.Errorf("probing %d: %w", k, err)
			}
			if err := path.Switch(); err != nil {
				return is, "", err
			}
			is = transport.Conn.LocalAddr().String()
			// The server learns it from the first packet that is more than a probe.
			if _, err := c.ask(ctx, nil, 0); err != nil {
				return is, "", err
			}
			if seen, err = c.ask(ctx, make([]byte, 50_000), 50_000); err != nil || seen != is {
				return is, seen, err
			}
		}
		return is, seen, nil
	})
	s.check(t)
}

// A proxy that drops the sockets of idle clients: quic-go sees the same client, and keeps the
// address that it had. Replies follow the client if the server remembers it.
func TestHTTP3SurvivesProxysNewSocket(t *testing.T) { onBoth(t, testHTTP3NewSocket) }

func testHTTP3NewSocket(t *testing.T, quicConn bool) {
	s := serveQUIC(t, quicConn, nil)
	s.packets.Remember(1000, proxies.Timeout)
	ctx, cancel := context.WithTimeout(t.Context(), proxies.Timeout)
	defer cancel()
	c, err := s.dial(ctx, proxies.ClientAddr(0))
	require.NoError(t, err)
	defer c.close()
	for range 5 {
		seen, err := c.ask(ctx, make([]byte, 10_000), 10_000)
		require.NoError(t, err)
		require.Equal(t, c.conn.LocalAddr().String(), seen)
		s.relay.forget()
	}
	s.check(t)
}
