package migrate

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	pires "github.com/pires/go-proxyproto"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

const bareGreeting = "SSH-2.0-OpenSSH_9.2\r\n"

// What peers of programs do.
var acts = map[string]func(w *world, from *net.TCPAddr) string{
	"a header":              sending(lineV1),
	"no header":             sending(bareGreeting),
	"LOCAL":                 sending(signatureV2 + "\x20\x00\x00\x00"),
	"`PROXY UNKNOWN`":       sending("PROXY UNKNOWN\r\n"),
	"PROXY, UNSPEC":         sending(signatureV2 + "\x21\x00\x00\x00"),
	"silent, then speaks":   greeted(bareGreeting),
	"silent, then a header": greeted(lineV1),
	"a header after half an hour": func(w *world, from *net.TCPAddr) string {
		client := w.dialFrom(from)
		w.late(client, 30*time.Minute)
		return w.outcome(w.accept(), from, lineV1)
	},
}

func sending(sent string) func(w *world, from *net.TCPAddr) string {
	return func(w *world, from *net.TCPAddr) string {
		w.send(from, sent)
		return w.outcome(w.accept(), from, sent)
	}
}

// greeted plays a client that waits for the server's greeting, before it sends something.
func greeted(sent string) func(w *world, from *net.TCPAddr) string {
	return func(w *world, from *net.TCPAddr) string {
		client := w.dialFrom(from)
		served := make(chan net.Conn, 1)
		w.all.Go(func() {
			c := w.next()
			if c == nil {
				return
			}
			c.RemoteAddr() // for the log
			if _, err := io.WriteString(c, "220 hello\r\n"); err != nil {
				c.Close()
				return
			}
			served <- c
		})
		said := w.timed(func() string {
			if _, err := io.ReadFull(client, make([]byte, len("220 hello\r\n"))); err != nil {
				return "closed"
			}
			return "greeted"
		})
		if !strings.HasPrefix(said, "greeted") {
			return said
		}
		w.all.Go(func() {
			io.WriteString(client, sent+payload)
			client.Close()
		})
		c := <-served
		w.ends = append(w.ends, c)
		return said + ", then " + w.outcome(c, from, sent)
	}
}

// programRows are what becomes of each peer under each setting: in both libraries, or in theirs
// and in ours where that isn't the same.
func programRows(t *testing.T, settings []setting, who []*net.TCPAddr, what ...string) [][]string {
	t.Helper()
	names := map[*net.TCPAddr]string{
		proxyAddr: "the proxy", strangerAddr: "a stranger", oddAddr: "10.0.0.99",
	}
	rows := [][]string{{"who, with what"}, nil}
	for _, s := range settings {
		rows[0] = append(rows[0], s.name)
	}
	for _, from := range who {
		for _, name := range what {
			row := []string{names[from] + ", " + name}
			for _, s := range settings {
				play := func(w *world) string { return acts[name](w, from) }
				cell, ours := inWorld(t, s.theirs, play), inWorld(t, s.ours, play)
				if cell != ours {
					cell += " / **" + ours + "**"
				}
				row = append(row, cell)
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func programTables(t *testing.T) map[string]string {
	everybody := []*net.TCPAddr{proxyAddr, strangerAddr}
	andOdd := append(everybody, oddAddr)
	plain := []string{"a header", "no header", "LOCAL", "silent, then speaks", "silent, then a header"}
	tables := map[string]string{"frp": markdown(frpRows(t))}
	for name, rows := range map[string][][]string{
		"traefik": programRows(t, traefikSettings(t), everybody, plain...),
		"sftpgo":  programRows(t, sftpgoSettings(t), andOdd, plain...),
		"caddy":   programRows(t, caddySettings(t), andOdd, plain...),
		"coredns": programRows(t, corednsSettings(t), everybody, plain...),
		"gitea": programRows(t, giteaSettings(t), everybody[:1],
			"a header", "no header", "LOCAL", "`PROXY UNKNOWN`", "PROXY, UNSPEC",
			"silent, then a header", "a header after half an hour"),
		"caddyl4": programRows(t, caddyL4Settings(t), andOdd, plain...),
	} {
		tables[name] = markdown(rows)
	}
	return tables
}

// frpRows are the headers that a sender makes of two addresses.
func frpRows(t *testing.T) [][]string {
	t.Helper()
	tcp, udp := net.ResolveTCPAddr, net.ResolveUDPAddr
	addr := func(a net.Addr, err error) net.Addr { require.NoError(t, err); return a }
	v4, v6 := "192.0.2.7:56324", "[2001:db8::7]:56324"
	dst4, dst6 := "198.51.100.1:443", "[2001:db8::1]:443"
	rows := [][]string{{"source, destination", "v1", "v2"}, nil}
	for _, c := range []struct {
		what     string
		src, dst net.Addr
	}{
		{"TCP, IPv4 both", addr(tcp("tcp", v4)), addr(tcp("tcp", dst4))},
		{"TCP, IPv6 both", addr(tcp("tcp", v6)), addr(tcp("tcp", dst6))},
		{"TCP, IPv6 and 127.0.0.1, frp's default", addr(tcp("tcp", v6)), addr(tcp("tcp", "127.0.0.1:0"))},
		{"UDP, IPv4 both", addr(udp("udp", v4)), addr(udp("udp", dst4))},
		{"TCP and UDP", addr(tcp("tcp", v4)), addr(udp("udp", dst4))},
		{"Unix sockets", &net.UnixAddr{Name: "/a", Net: "unix"}, &net.UnixAddr{Name: "/b", Net: "unix"}},
	} {
		row := []string{c.what}
		for _, version := range []string{"v1", "v2"} {
			theirs := sent(pires.HeaderProxyFromAddrs(version[1]-'0', c.src, c.dst))
			ours := sent(frp(c.src, c.dst, version))
			if ours != theirs {
				theirs += " / **" + ours + "**"
			}
			row = append(row, theirs)
		}
		rows = append(rows, row)
	}
	return rows
}

// sent is what a header is on the wire: a version 1 line itself, a version 2 header in words.
func sent(h io.WriterTo) string {
	var b bytes.Buffer
	if _, err := h.WriteTo(&b); err != nil {
		return "an error"
	}
	if line, ok := strings.CutSuffix(b.String(), "\r\n"); ok && strings.HasPrefix(line, "PROXY") {
		return "`" + line + "`"
	}
	parsed, _, err := proxyproto.Parse(b.Bytes())
	if err != nil {
		return err.Error()
	}
	return "`" + parsed.String() + "`"
}

// A Transport whose connections all have the same header may keep them.
func TestHealthChecks(t *testing.T) {
	var conns int
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, ok := proxyproto.HeaderFromContext(r.Context())
		assert.True(t, ok && h.Command == proxyproto.Local)
	}))
	srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		conns++
		return proxyproto.ConnContext(ctx, c)
	}
	ln, err := proxyproto.NewListener(srv.Listener,
		&proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
	require.NoError(t, err)
	srv.Listener = ln
	srv.Start()
	defer srv.Close()
	client := http.Client{Transport: healthChecks(new(proxyproto.Dialer))}
	defer client.CloseIdleConnections()
	for range 3 {
		resp, err := client.Get(srv.URL)
		require.NoError(t, err)
		resp.Body.Close()
	}
	assert.Equal(t, 1, conns)
}

// A proxy that sends the header in a client's first datagram alone, as CoreDNS' session tracking
// expects it: the later ones are that client's, and without tracking the proxy's.
func TestCoreDNSOverUDP(t *testing.T) {
	inner, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer inner.Close()
	require.NoError(t, inner.SetDeadline(time.Now().Add(time.Minute)))
	proxy, err := net.Dial("udp", inner.LocalAddr().String())
	require.NoError(t, err)
	defer proxy.Close()
	tcp, err := coredns([]string{"127.0.0.0/8"}, "")
	require.NoError(t, err)
	header, err := frp(net.UDPAddrFromAddrPort(netip.MustParseAddrPort(clientAddr)),
		net.UDPAddrFromAddrPort(netip.MustParseAddrPort(destinationAddr)), "v2").AppendTo(nil)
	require.NoError(t, err)

	for ttl, later := range map[time.Duration]string{
		time.Minute: clientAddr, 0: proxy.LocalAddr().String(),
	} {
		packets, err := proxyudp.NewPacketConn(inner, corednsUDP(tcp, ttl, 0))
		require.NoError(t, err)
		for _, step := range []struct{ sent, read, from string }{
			{string(header) + "query", "query", clientAddr},
			{string(header), "", clientAddr},
			{"query", "query", later},
		} {
			for _, sent := range []string{lineV1 + "dropped", step.sent} {
				_, err = io.WriteString(proxy, sent)
				require.NoError(t, err)
			}
			b := make([]byte, 512)
			n, from, err := packets.ReadFrom(b)
			require.NoError(t, err)
			assert.Equal(t, step.read, string(b[:n]))
			assert.Equal(t, step.from, from.String())
		}
	}
}

// Peers on Unix sockets are in no list: Caddy believes them, whatever its fallback is.
func TestUnixPeers(t *testing.T) {
	for _, fallback := range piresPolicies {
		cfg, err := caddy([]string{proxyRange}, []string{oddRange}, fallback.name)
		require.NoError(t, err)
		assert.Equal(t, proxyproto.Optional, cfg.Policy(proxyproto.Peer{}), fallback.name)
		assert.NoError(t, cfg.Validate(proxyproto.Peer{}, new(proxyproto.Header)), fallback.name)
	}
}

// A setting that is misspelled is an error, and no Policy that believes too many.
func TestMisspelledSettings(t *testing.T) {
	const bad = "10.0.0.0/240"
	policy, err := traefik([]string{bad}, true)
	assert.ErrorContains(t, err, bad)
	assert.Nil(t, policy)
	for _, lists := range [][2][]string{{{bad}, nil}, {nil, {bad}}} {
		policy, err = sftpgo(2, lists[0], lists[1])
		assert.ErrorContains(t, err, bad)
		assert.Nil(t, policy)
		cfg, err := caddy(lists[0], lists[1], "use")
		assert.ErrorContains(t, err, bad)
		assert.Nil(t, cfg)
	}
	cfg, err := coredns(nil, "trust")
	assert.ErrorContains(t, err, "trust")
	assert.Nil(t, cfg)
}
