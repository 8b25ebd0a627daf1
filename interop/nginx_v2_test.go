package interop

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

// nginxWritesV2 reports whether the nginx here can: those before 1.31.4 don't start then, which it
// checks. Another nginx than the installed one is tested if it comes first in the PATH.
func nginxWritesV2(t *testing.T) bool {
	t.Helper()
	var major, minor, patch int
	number := printedVersion(t, []string{"nginx", "-v"})
	_, err := fmt.Sscanf(number, "%d.%d.%d", &major, &minor, &patch)
	require.NoError(t, err)
	config := proxies.StreamModule(t) + "pid nginx.pid;\nevents {}\nstream {" +
		nginxServer(proxies.FreeAddr(t), "127.0.0.1:9", "proxy_protocol v2;") + "}\n"
	dir := proxies.Dir(t, map[string]string{"nginx.conf": config})
	out, err := exec.Command(proxies.Need(t, "nginx"), "-t", "-p", dir, "-c", "nginx.conf", "-e",
		"stderr").CombinedOutput()
	if major*1_000_000+minor*1000+patch >= 1_031_004 {
		require.NoError(t, err, "%s", out)
		return true
	}
	require.Error(t, err)
	assert.Contains(t, string(out), `invalid value "v2" in "proxy_protocol" directive`)
	t.Logf("nginx %s refuses \"proxy_protocol v2\"", number)
	return false
}

// An nginxClient connects to an nginx that listens at an address.
type nginxClient struct {
	network string                    // of nginx's listener
	listen  func(t *testing.T) string // makes an address
	also    string                    // after it in nginx's listen directive
	options string                    // other directives
	first   string                    // what the client sends before everything else
	tls     *tls.Config               // the client's, if it speaks TLS
	again   bool                      // the client has been there before
	files   map[string]string         // for nginx
}

// nginxSent is what nginx sent for a client: the bytes, and what a Listener made of another
// connection of that client.
type nginxSent struct {
	wire                []byte
	header              *proxyproto.Header
	source, destination string // the client's connection to nginx
	remote, local       string // as the server sees it
	proxy               string // nginx's address, as the server's socket has it
}

// send connects twice, to a bare listener and to ours, and checks that the payload gets there.
func (nc nginxClient) send(t *testing.T) (sent nginxSent) {
	t.Helper()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer raw.Close()
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{
		Policy: proxyproto.Always(proxyproto.Require),
		OnDrop: func(_ proxyproto.Peer, drop *proxyproto.DropError) { t.Error(drop) },
	})
	require.NoError(t, err)
	defer ln.Close()
	toRaw, toOurs := nc.listen(t), nc.listen(t)
	unix := map[string]string{"unix": "unix:"}[nc.network]
	proxies.StartNginx(t,
		nginxServer(unix+toRaw+" "+nc.also, raw.Addr().String(), "proxy_protocol v2;"+nc.options)+
			nginxServer(unix+toOurs+" "+nc.also, ln.Addr().String(),
				"proxy_protocol v2;"+nc.options), nc.files)

	serve := func(addr string, accept func() (net.Conn, error)) (got []byte, server, client net.Conn) {
		done := make(chan net.Conn, 1)
		go func() { done <- nc.speak(t, addr) }()
		server, err := accept()
		require.NoError(t, err)
		defer server.Close()
		require.NoError(t, server.SetDeadline(time.Now().Add(proxies.Timeout)))
		got, err = io.ReadAll(server)
		require.NoError(t, err)
		require.NoError(t, server.Close())
		return got, server, <-done
	}
	if nc.again {
		serve(toRaw, raw.Accept)
	}
	sent.wire, _, _ = serve(toRaw, raw.Accept)
	payload, server, client := serve(toOurs, ln.Accept)
	assert.Equal(t, "payload", string(payload))
	h, n, err := proxyproto.Parse(sent.wire)
	require.NoError(t, err, "%q", sent.wire)
	assert.Equal(t, "payload", string(sent.wire[n:]))
	if h.Command == proxyproto.Proxy { // LOCAL has nothing more when we write it
		ours, err := h.AppendTo(nil)
		require.NoError(t, err)
		assert.Equal(t, string(sent.wire[:n]), string(ours), "what we write for this header")
	}
	sent.wire = sent.wire[:n]
	t.Logf("%x", sent.wire)
	conn, ok := proxyproto.FromConn(server)
	require.True(t, ok)
	sent.header = conn.Header()
	if !nc.again {
		assert.Equal(t, said(h.TLVs), said(sent.header.TLVs))
	}
	sent.remote, sent.local = server.RemoteAddr().String(), server.LocalAddr().String()
	sent.proxy = conn.NetConn().RemoteAddr().String()
	sent.source, sent.destination = client.LocalAddr().String(), client.RemoteAddr().String()
	return sent
}

// speak sends the payload, in TLS if so configured, and closes the connection.
func (nc nginxClient) speak(t *testing.T, addr string) net.Conn {
	c, err := net.Dial(nc.network, addr)
	if !assert.NoError(t, err) {
		return nil
	}
	defer c.Close()
	_, err = io.WriteString(c, nc.first)
	assert.NoError(t, err)
	var outer interface {
		net.Conn
		CloseWrite() error
	} = c.(interface {
		net.Conn
		CloseWrite() error
	})
	if nc.tls != nil {
		outer = tls.Client(c, nc.tls)
	}
	_, err = io.WriteString(outer, "payload")
	assert.NoError(t, err)
	assert.NoError(t, outer.CloseWrite())
	io.Copy(io.Discard, outer) // TLS 1.3's tickets, and the end
	return c
}

// said is what TLVs say, a line each.
func said(tlvs proxyproto.TLVs) (lines []string) {
	for typ, value := range tlvs.All() {
		switch typ {
		case proxyproto.TypeCRC32C:
			lines = append(lines, "CRC32C")
		case proxyproto.TypeSSL:
			ssl, _ := tlvs.SSL()
			lines = append(lines, fmt.Sprintf("SSL %#02x, verify %d", uint8(ssl.Client),
				ssl.Verify))
			lines = append(lines, said(ssl.TLVs)...)
		default:
			lines = append(lines, fmt.Sprintf("%v %q", typ, value))
		}
	}
	return lines
}

func listenIPv4(t *testing.T) string { return proxies.FreeAddr(t) }
func listenIPv6(t *testing.T) string { return proxies.FreeAddr6(t) }

func listenUnix(t *testing.T) string {
	return filepath.Join(proxies.Dir(t, nil), "s")
}

// What nginx says with "proxy_protocol v2" of clients that it serves itself.
func TestNginxV2Addresses(t *testing.T) {
	if !nginxWritesV2(t) {
		return
	}
	for _, c := range []struct {
		name   string
		client nginxClient
		kind   proxyproto.Protocol
	}{
		{"ipv4", nginxClient{network: "tcp", listen: listenIPv4}, proxyproto.TCP4},
		{"ipv6", nginxClient{network: "tcp", listen: listenIPv6}, proxyproto.TCP6},
		// Both addresses are IPv4-mapped: version 1 says TCP6 then.
		{"ipv4 on a dual-stack listener", nginxClient{network: "tcp", listen: func(t *testing.T) string {
			return mapped(proxies.FreeAddr(t))
		}, also: "ipv6only=off"}, proxyproto.TCP4},
	} {
		t.Run(c.name, func(t *testing.T) {
			sent := c.client.send(t)
			assert.Equal(t, c.kind, sent.header.Protocol)
			assert.Equal(t, []string{"CRC32C"}, said(sent.header.TLVs))
			assert.Equal(t, sent.source, sent.remote)
			assert.Equal(t, sent.destination, sent.local)
		})
	}
	t.Run("unix", func(t *testing.T) {
		sent := nginxClient{network: "unix", listen: listenUnix}.send(t)
		assert.Equal(t, "v2 LOCAL UNSPEC", sent.header.String())
		assert.Equal(t, sent.proxy, sent.remote)
	})
}

// What it says of clients whose addresses a first hop has told it, and of what that hop said
// besides.
func TestNginxV2Realip(t *testing.T) {
	if !nginxWritesV2(t) {
		return
	}
	four := "PROXY TCP4 192.0.2.7 192.0.2.1 51512 443\r\n"
	six := "PROXY TCP6 2001:db8::1 2001:db8::2 51512 443\r\n"
	const realip = "set_real_ip_from 127.0.0.0/8; set_real_ip_from ::1; set_real_ip_from unix:;"
	for _, c := range []struct {
		name, network string
		listen        func(t *testing.T) string
		first         string
		kind          proxyproto.Protocol
		source        string
	}{
		{"ipv4 on ipv4", "tcp", listenIPv4, four, proxyproto.TCP4, "192.0.2.7:51512"},
		{"ipv6 on ipv6", "tcp", listenIPv6, six, proxyproto.TCP6, "[2001:db8::1]:51512"},
		{"ipv6 on ipv4", "tcp", listenIPv4, six, proxyproto.TCP6, "[2001:db8::1]:51512"},
		{"ipv4 on ipv6", "tcp", listenIPv6, four, proxyproto.TCP6, "192.0.2.7:51512"},
		{"tlvs of the first hop", "tcp", listenIPv4, "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x1a" +
			"\xc0\x00\x02\x07\xc0\x00\x02\x01\xc9\x38\x01\xbb\x02\x00\x0bexample.com",
			proxyproto.TCP4, "192.0.2.7:51512"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sent := nginxClient{network: c.network, listen: c.listen, also: "proxy_protocol",
				options: realip, first: c.first}.send(t)
			assert.Equal(t, c.kind, sent.header.Protocol)
			assert.Equal(t, []string{"CRC32C"}, said(sent.header.TLVs))
			assert.Equal(t, c.source, sent.remote)
			assert.Equal(t, sent.destination, sent.local)
		})
	}
	// nginx knows the client, and doesn't say: its own address has no IP.
	t.Run("ipv4 on unix", func(t *testing.T) {
		sent := nginxClient{network: "unix", listen: listenUnix, also: "proxy_protocol",
			options: realip, first: four}.send(t)
		assert.Equal(t, "v2 LOCAL UNSPEC", sent.header.String())
		assert.Equal(t, sent.proxy, sent.remote)
	})
}

// Of a datagram's client it tells in the first one of each session.
func TestNginxV2Datagrams(t *testing.T) {
	if !nginxWritesV2(t) {
		return
	}
	inner, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer inner.Close()
	conn, err := proxyudp.NewPacketConn(recorder{inner, t}, &proxyudp.Config{
		Policy: proxyproto.Always(proxyproto.Require), Sessions: 16,
	})
	require.NoError(t, err)
	addr := proxies.FreeAddr(t)
	proxies.StartNginx(t, nginxServer(addr+" udp", inner.LocalAddr().String(),
		"proxy_protocol v2;"), nil)
	client, err := net.Dial("udp", addr)
	require.NoError(t, err)
	defer client.Close()
	require.NoError(t, client.SetDeadline(time.Now().Add(proxies.Timeout)))
	require.NoError(t, inner.SetDeadline(time.Now().Add(proxies.Timeout)))
	b := make([]byte, 1500)
	for _, payload := range []string{"one", "two"} {
		_, err = io.WriteString(client, payload)
		require.NoError(t, err)
		n, from, err := conn.ReadFrom(b)
		require.NoError(t, err)
		assert.Equal(t, payload, string(b[:n]))
		assert.Equal(t, client.LocalAddr().String(), from.String())
		_, err = conn.WriteTo([]byte("re: "+payload), from)
		require.NoError(t, err)
		n, err = client.Read(b)
		require.NoError(t, err)
		assert.Equal(t, "re: "+payload, string(b[:n]))
	}
}

// recorder logs what it reads.
type recorder struct {
	net.PacketConn
	t *testing.T
}

func (r recorder) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := r.PacketConn.ReadFrom(b)
	r.t.Logf("%x", b[:n])
	return n, addr, err
}
