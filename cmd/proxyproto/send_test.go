package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// sendCases are flags of send, and the header that comes of them.
var sendCases = []struct {
	args []string
	want header
}{
	{
		[]string{"--source", "192.0.2.7:56324", "--destination", "198.51.100.1:443"},
		header{2, "PROXY", "TCP4", "192.0.2.7:56324", "198.51.100.1:443", nil},
	},
	{
		[]string{"--v1", "--source", "192.0.2.7:56324", "--destination", "198.51.100.1:443"},
		header{1, "PROXY", "TCP4", "192.0.2.7:56324", "198.51.100.1:443", nil},
	},
	{
		[]string{"--source", "[2001:db8::7]:56324", "--destination", "[2001:db8::1]:443"},
		header{2, "PROXY", "TCP6", "[2001:db8::7]:56324", "[2001:db8::1]:443", nil},
	},
	{
		[]string{"--v1", "--source", "[2001:db8::7]:56324", "--destination", "[2001:db8::1]:443"},
		header{1, "PROXY", "TCP6", "[2001:db8::7]:56324", "[2001:db8::1]:443", nil},
	},
	{[]string{"--local"}, header{2, "LOCAL", "UNSPEC", "", "", nil}},
	{[]string{"--unknown"}, header{2, "PROXY", "UNSPEC", "", "", nil}},
	{[]string{"--v1", "--unknown"}, header{1, "PROXY", "UNSPEC", "", "", nil}},
	{
		[]string{"--source", "/run/client", "--destination", "@server"},
		header{2, "PROXY", "UNIX_STREAM", "/run/client", "@server", nil},
	},
	{
		[]string{
			"--source", "192.0.2.7:1", "--destination", "198.51.100.1:2", "--alpn", "h2",
			"--authority", "",
			"--unique-id", "id",
			"--netns", "blue", "--ssl-version", "TLSv1.3", "--ssl-cn", "me", "--ssl-verify", "18",
			"--tlv",
			"0xE5=00ff", "--tlv", "0xF1:a=b",
		},
		header{2, "PROXY", "TCP4", "192.0.2.7:1", "198.51.100.1:2", []tlv{
			{Type: 1, Name: "ALPN", Hex: "6832", Value: "h2"},
			{Type: 2, Name: "AUTHORITY"},
			{Type: 5, Name: "UNIQUE_ID", Hex: "6964", Value: "id"},
			{Type: 0x30, Name: "NETNS", Hex: "626c7565", Value: "blue"},
			{
				Type: 0x20, Name: "SSL", Hex: "07000000122100" + "07544c5376312e332200026d65",
				Text: "TLS, certificate on this connection, certificate in this session; " +
					"verify 18, not verified (in OpenSSL's numbers self-signed)",
				SSL: &ssl{Client: 7, TLS: true, Verify: 18, TLVs: []tlv{
					{Type: 0x21, Name: "SSL_VERSION", Hex: "544c5376312e33", Value: "TLSv1.3"},
					{Type: 0x22, Name: "SSL_CN", Hex: "6d65", Value: "me"},
				}},
			},
			{Type: 0xE5, Name: "0xE5 (custom)", Hex: "00ff"},
			{Type: 0xF1, Name: "0xF1 (experimental)", Hex: "613d62", Value: "a=b"},
		}},
	},
	{
		[]string{"--source", "192.0.2.7:1", "--destination", "198.51.100.1:2", "--ssl-cipher", "X"},
		header{2, "PROXY", "TCP4", "192.0.2.7:1", "198.51.100.1:2", []tlv{{
			Type: 0x20, Name: "SSL", Hex: "010000000123000158",
			Text: "TLS; verify 1, not verified (in OpenSSL's numbers unspecified)",
			SSL: &ssl{Client: 1, TLS: true, Verify: 1, TLVs: []tlv{{Type: 0x23, Name: "SSL_CIPHER",
				Hex: "58", Value: "X"}}},
		}}},
	},
	{
		[]string{"--source", "192.0.2.7:1", "--destination", "198.51.100.1:2", "--crc32c"},
		header{2, "PROXY", "TCP4", "192.0.2.7:1", "198.51.100.1:2", []tlv{
			{Type: 3, Name: "CRC32C", Hex: "cdb91c9d", Text: "0xcdb91c9d"},
		}},
	},
}

// TestSendServe sends each header to serve over TCP, and what serve echoes comes to stdout.
func TestSendServe(t *testing.T) {
	s := startServe(t, "--echo", "-n", fmt.Sprint(len(sendCases)))
	for _, c := range sendCases {
		r := runProgram(t, "hello\n", append(append([]string{"send"}, c.args...), s.addr)...)
		assert.Equal(t, result{"hello\n", "", 0}, r, c.args)
		e := s.next()
		assert.Equal(t, "connection", e.Event, c.args)
		assert.Equal(t, &c.want, e.Header, c.args)
	}
	s.done()
}

// TestSendServeUDP does the same in datagrams.
func TestSendServeUDP(t *testing.T) {
	s := startServe(t, "--udp", "-n", fmt.Sprint(len(sendCases)))
	udp := strings.NewReplacer("TCP", "UDP", "UNIX_STREAM", "UNIX_DGRAM")
	for _, c := range sendCases {
		if c.args[0] == "--v1" && c.args[1] != "--unknown" {
			c.args, c.want.Version = c.args[1:], 2
		}
		r := runProgram(t, "hello\n", append(append([]string{"send", "--udp"}, c.args...),
			s.addr)...)
		assert.Equal(t, result{"hello\n", "", 0}, r, c.args)
		e := s.next()
		assert.Equal(t, "datagram", e.Event, c.args)
		require.NotNil(t, e.Size)
		assert.Equal(t, 6, *e.Size)
		c.want.Protocol = udp.Replace(c.want.Protocol)
		if len(c.want.TLVs) == 1 && c.want.TLVs[0].Name == "CRC32C" {
			c.want.TLVs = e.Header.TLVs // another sum, which serve has checked
		}
		assert.Equal(t, &c.want, e.Header, c.args)
	}
	s.done()
}

// TestSendPrint: the header alone, for decode to read.
func TestSendPrint(t *testing.T) {
	for _, c := range sendCases {
		sent := runProgram(t, "", append([]string{"send", "--print"}, c.args...)...)
		assert.Equal(t, 0, sent.code, c.args)
		read := runProgram(t, sent.stdout, "decode", "--json")
		assert.Equal(t, 0, read.code, c.args)
		var got report
		require.NoError(t, json.Unmarshal([]byte(read.stdout), &got))
		assert.Equal(t, &c.want, got.Header, c.args)
		assert.Equal(t, len(sent.stdout), got.Length, c.args)
	}
}

// TestSendOwnAddresses: what isn't given is the connection's.
func TestSendOwnAddresses(t *testing.T) {
	s := startServe(t, "--echo", "-n", "3")
	runProgram(t, "", "send", s.addr)
	e := s.next()
	assert.Equal(t, e.Peer, e.Header.Source)
	assert.Equal(t, s.addr, e.Header.Destination)

	runProgram(t, "", "send", "--v1", "--source", "192.0.2.7", s.addr)
	e = s.next()
	assert.Equal(t, "192.0.2.7", host(t, e.Header.Source))
	_, port, _ := net.SplitHostPort(e.Peer)
	assert.Equal(t, "192.0.2.7:"+port, e.Header.Source)
	assert.Equal(t, s.addr, e.Header.Destination)

	runProgram(t, "", "send", "--destination", "192.0.2.1:25", s.addr)
	e = s.next()
	assert.Equal(t, e.Peer, e.Header.Source)
	assert.Equal(t, "192.0.2.1:25", e.Header.Destination)
	s.done()
}

// serveOnce accepts one connection with a header and lets f answer it.
func serveOnce(t *testing.T, inner net.Listener, f func(c net.Conn)) {
	t.Helper()
	ln, err := proxyproto.NewListener(inner,
		&proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
	require.NoError(t, err)
	served := make(chan struct{})
	t.Cleanup(func() { ln.Close(); <-served })
	go func() {
		defer close(served)
		conn, err := ln.Accept()
		if err == nil {
			f(conn)
			conn.Close()
		}
	}()
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, address)
	require.NoError(t, err)
	return ln
}

// TestSendHalfClose: the server sees the end of stdin, and can still answer with more than
// any buffer holds.
func TestSendHalfClose(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	big := strings.Repeat("0123456789abcdef", 1<<17)
	serveOnce(t, ln, func(c net.Conn) {
		b, _ := io.ReadAll(c)
		fmt.Fprintf(c, "%s from %v", b, c.RemoteAddr())
	})
	r := runProgram(t, big, "send", "--source", "192.0.2.7:1", "--destination", "192.0.2.1:2",
		ln.Addr().String())
	assert.True(t, r.stdout == big+" from 192.0.2.7:1")
	assert.Equal(t, result{r.stdout, "", 0}, r)
}

func TestSendUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	ln := listen(t, "unix", path)
	serveOnce(t, ln, func(c net.Conn) { fmt.Fprint(c, c.RemoteAddr()) })
	r := runProgram(t, "", "send", "--source", "192.0.2.7:1", "--destination", "192.0.2.1:2",
		"unix:"+path)
	assert.Equal(t, result{"192.0.2.7:1", "", 0}, r)

	ln2 := listen(t, "unix", path+"2")
	defer ln2.Close()
	r = runProgram(t, "", "send", "unix:"+path+"2")
	assert.Equal(t, exitUsage, r.code)
	assert.Contains(t, r.stderr, "say the --source: there is no IP connection to take it from")
}

func TestSendTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"www.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cfg := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der},
		PrivateKey: key}}}
	answer := func(c net.Conn) {
		over := tls.Server(c, cfg)
		b, err := io.ReadAll(over)
		if err == nil {
			fmt.Fprintf(over, "%s from %v to %s", b, over.RemoteAddr(),
				over.ConnectionState().ServerName)
			over.Close()
		}
	}

	ln := listen(t, "tcp", "127.0.0.1:0")
	serveOnce(t, ln, answer)
	r := runProgram(t, "hello", "send", "--tls", "--insecure", "--server-name", "www.example",
		"--source", "192.0.2.7:1", "--destination", "192.0.2.1:2", ln.Addr().String())
	assert.Equal(t, result{"hello from 192.0.2.7:1 to www.example", "", 0}, r)

	ln = listen(t, "tcp", "127.0.0.1:0")
	serveOnce(t, ln, answer)
	r = runProgram(t, "hello", "send", "--tls", "--server-name", "www.example", ln.Addr().String())
	assert.Equal(t, exitNetwork, r.code)
	assert.Contains(t, r.stderr, "certificate")
}

func TestSendNobodyThere(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	ln.Close()
	r := runProgram(t, "", "send", ln.Addr().String())
	assert.Equal(t, exitNetwork, r.code)
	assert.Contains(t, r.stderr, "connection refused")

	// Somebody who doesn't answer.
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer pc.Close()
	r = runProgram(t, "hello", "send", "--udp", "--wait", "20ms", pc.LocalAddr().String())
	assert.Equal(t, exitNetwork, r.code)
	assert.Equal(t, "proxyproto send: no answer within 20ms\n", r.stderr)
	r = runProgram(t, "hello", "send", "--udp", "--wait", "0", pc.LocalAddr().String())
	assert.Equal(t, result{"", "", 0}, r)
}
