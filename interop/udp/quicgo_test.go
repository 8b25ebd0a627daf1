package udp

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/ipv4"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

// quicGoVersions are the last of each minor version since v0.54.
var quicGoVersions = []string{"v0.54.1", "v0.55.0", "v0.57.1", "v0.58.0", "v0.59.1", "v0.60.0",
	"v0.61.0", "v0.62.0", "v0.63.0", "v0.64.1", "v0.65.0"}

// TestEveryQUICGo runs this package's tests of QUIC with each version of quic-go, if QUIC_GO=all
// asks for it, or with the one that QUIC_GO names. They are downloaded and compiled.
func TestEveryQUICGo(t *testing.T) {
	versions := quicGoVersions
	switch asked := os.Getenv("QUIC_GO"); asked {
	case "":
		t.Skip("it takes minutes: QUIC_GO=all runs it")
	case "all":
	default:
		versions = []string{asked}
	}
	for i, version := range versions {
		t.Run(version, func(t *testing.T) {
			mod := filepath.Join(t.TempDir(), "go.mod")
			for from, to := range map[string]string{"go.mod": mod, "go.sum": mod[:len(mod)-3] +
				"sum"} {
				b, err := os.ReadFile(from)
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(to, b, 0o600))
			}
			const module = "github.com/quic-go/quic-go"
			run := func(args ...string) string {
				t.Helper()
				out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput()
				require.NoError(t, err, "go %s\n%s", strings.Join(args, " "), out)
				return string(out)
			}
			// What isn't needed here asks for later versions.
			run("mod", "edit", "-require="+module+"@"+version,
				"-droprequire=github.com/quic-go/qpack", "-droprequire=github.com/coredns/coredns",
				"-droprequire=github.com/fatedier/frp", mod)
			out := run("test", "-modfile="+mod, "-mod=mod", "-count=1", "-v",
				"-run", "^(TestHTTP3|TestHTTP3Retry|TestHTTP3Migration|TestHTTP3SurvivesProxysNewSocket"+
					"|TestVerifySourceAddress|TestQUICGoTakesItForASocket)$",
				"quicgo_test.go", "quic_test.go", "relay_test.go", "dns_test.go")
			assert.Equal(t, 6, strings.Count("\n"+out, "\n--- PASS: "), out)
			assert.Contains(t, run("list", "-m", "-modfile="+mod, "-mod=mod", module), version)
			t.Logf("%d of %d: %s passes", i+1, len(versions), version)
		})
	}
}

const quicProtocol = "bytes"

// listenQUIC serves QUIC on conn: each stream gets n bytes and is closed.
func listenQUIC(t *testing.T, transport *quic.Transport, ca *proxies.CA, n int) {
	t.Helper()
	ln, err := transport.Listen(&tls.Config{
		Certificates: []tls.Certificate{ca.Server(t, serverName)},
		NextProtos:   []string{quicProtocol},
	}, patient)
	require.NoError(t, err)
	go func() {
		for {
			conn, err := ln.Accept(t.Context())
			if err != nil {
				return
			}
			go func() {
				stream, err := conn.AcceptStream(t.Context())
				if err != nil {
					return
				}
				stream.Write(make([]byte, n))
				stream.Close()
			}()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		transport.Close()
		transport.Conn.Close()
	})
}

// dialQUIC connects from a port of its own, and returns its address.
func dialQUIC(t *testing.T, i int, to net.Addr, ca *proxies.CA, cfg *quic.Config) (*quic.Conn,
	string) {
	t.Helper()
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: proxies.ClientAddr(i).AsSlice()})
	require.NoError(t, err)
	transport := &quic.Transport{Conn: socket}
	t.Cleanup(func() { transport.Close(); socket.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), proxies.Timeout)
	defer cancel()
	conn, err := transport.Dial(ctx, to, &tls.Config{
		RootCAs: ca.Pool(), ServerName: serverName, NextProtos: []string{quicProtocol},
	}, cfg)
	require.NoError(t, err)
	return conn, socket.LocalAddr().String()
}

// tokens says when the server has given a token.
type tokens struct {
	quic.TokenStore
	put chan struct{}
}

func newTokens() *tokens { return &tokens{quic.NewLRUTokenStore(1, 1), make(chan struct{}, 10)} }

func (s *tokens) Put(key string, token *quic.ClientToken) {
	s.TokenStore.Put(key, token)
	s.put <- struct{}{}
}

// quic-go asks VerifySourceAddress for the same clients as on a bare socket: for one that it
// doesn't know, and not for one that comes again with a token, which is for its IP whatever the
// port.
func TestVerifySourceAddress(t *testing.T) {
	asked := map[string][]bool{}
	for _, kind := range []string{"bare", "PacketConn", "QUICConn"} {
		ca := proxies.NewCA(t, proxies.P256)
		inner, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		require.NoError(t, err)
		policy, err := proxyproto.ParseTrust(proxies.Proxy)
		require.NoError(t, err)
		cfg, conn, to := &proxyudp.Config{Policy: policy}, net.PacketConn(inner), inner.LocalAddr()
		switch kind {
		case "PacketConn":
			conn, err = proxyudp.NewPacketConn(inner, cfg)
		case "QUICConn":
			conn, err = proxyudp.NewQUICConn(inner, cfg)
		}
		require.NoError(t, err)
		var seen sync.Map
		listenQUIC(t, &quic.Transport{Conn: conn, VerifySourceAddress: func(addr net.Addr) bool {
			seen.Store(addr.String(), true)
			return true
		}}, ca, 1)
		if kind != "bare" {
			to = startRelay(t, to, true).front.LocalAddr()
		}
		for i := range 3 {
			store := newTokens()
			for range 3 { // the first has no token, the others have
				quicConfig := patient.Clone()
				quicConfig.TokenStore = store
				conn, client := dialQUIC(t, i, to, ca, quicConfig)
				select {
				case <-store.put:
				case <-conn.Context().Done():
					require.Fail(t, "no token came", "%v", context.Cause(conn.Context()))
				}
				conn.CloseWithError(0, "")
				_, ok := seen.Load(client)
				asked[kind] = append(asked[kind], ok)
			}
		}
	}
	assert.Equal(t, []bool{true, false, false, true, false, false, true, false, false},
		asked["bare"])
	assert.Equal(t, asked["bare"], asked["PacketConn"])
	assert.Equal(t, asked["bare"], asked["QUICConn"])
}

// watched counts what quic-go does with a QUICConn.
type watched struct {
	*proxyudp.QUICConn
	batches, segmented, marked atomic.Int64
}

func (w *watched) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	w.batches.Add(1)
	return w.QUICConn.ReadBatch(ms, flags)
}

func (w *watched) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	const segment = 103 // UDP_SEGMENT
	controls, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, 0, err
	}
	for _, c := range controls {
		switch {
		case c.Header.Level == syscall.IPPROTO_UDP && c.Header.Type == segment:
			w.segmented.Add(1)
		case c.Header.Level == syscall.IPPROTO_IP && c.Header.Type == syscall.IP_TOS:
			w.marked.Add(1)
		}
	}
	return w.QUICConn.WriteMsgUDP(b, oob, addr)
}

// quic-go reads batches from a QUICConn, and sends with GSO, ECN marks and path MTU discovery.
func TestQUICGoTakesItForASocket(t *testing.T) {
	const size = 2_000_000
	ca := proxies.NewCA(t, proxies.P256)
	inner, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	policy, err := proxyproto.ParseTrust(proxies.Proxy)
	require.NoError(t, err)
	own, err := proxyudp.NewQUICConn(inner, &proxyudp.Config{Policy: policy})
	require.NoError(t, err)
	conn := &watched{QUICConn: own}
	listenQUIC(t, &quic.Transport{Conn: conn}, ca, size)
	client, _ := dialQUIC(t, 0, startRelay(t, inner.LocalAddr(), true).front.LocalAddr(), ca,
		patient)
	stream, err := client.OpenStreamSync(t.Context())
	require.NoError(t, err)
	_, err = stream.Write([]byte("ask"))
	require.NoError(t, err)
	b, n := make([]byte, 1<<16), 0
	for err == nil {
		var k int
		k, err = stream.Read(b)
		n += k
	}
	assert.Equal(t, size, n)
	assert.NotZero(t, conn.batches.Load(), "batches")
	assert.NotZero(t, conn.segmented.Load(), "segments")
	assert.NotZero(t, conn.marked.Load(), "ECN marks")
	raw, err := conn.SyscallConn()
	require.NoError(t, err)
	const probe = 3 // IP_PMTUDISC_PROBE
	require.NoError(t, raw.Control(func(fd uintptr) {
		is, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_MTU_DISCOVER)
		assert.NoError(t, err)
		assert.Equal(t, probe, is, "path MTU discovery")
	}))
	t.Log(fmt.Sprint(conn.batches.Load(), " batches, ", conn.segmented.Load(), " segmented"))
}
