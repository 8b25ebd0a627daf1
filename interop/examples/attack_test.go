// Package examples runs the programs of ../../examples as somebody's copies, and attacks them.
package examples

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

const (
	header  = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
	request = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"
)

// An attack sends something, and then more of the same for ever or nothing. A program withstands it
// by closing the connection.
type attack struct {
	name, send, more string
	pace             pace
}

type pace int

const (
	waiting pace = iota // reads what comes until the end
	slowly              // sends more now and then
	blindly             // sends more as fast as it can, and reads nothing
)

// What anybody can do to whoever expects a header.
var onHeader = []attack{
	{name: "says nothing"},
	{name: "begins a PROXY header", send: header[:20]},
	{name: "sends a PROXY header a byte at a time", send: "PROXY UNKNOWN ", more: "x",
		pace: slowly},
}

// What anybody can do to an HTTP server, through a proxy too.
var onHTTP = []attack{
	{name: "says nothing"},
	{name: "begins a request", send: "GET / HT"},
	{name: "sends a field at a time", send: request[:len(request)-2], more: "A: b\r\n",
		pace: slowly},
	{name: "sends fields for ever", send: request[:len(request)-2], more: "A: b\r\n",
		pace: blindly},
	{name: "sends a body a byte at a time", pace: slowly, more: "x",
		send: "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 100000\r\n\r\n"},
	{name: "says nothing after a request", send: request},
	{name: "reads no answers", send: request, more: request, pace: blindly},
}

// What anybody can do to a server of HTTP/2 besides.
var onHTTP2 = []attack{
	{name: "says nothing after HTTP/2's preface",
		send: preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"},
	{name: "leaves HTTP/2's answers no window", send: preface +
		// SETTINGS: INITIAL_WINDOW_SIZE 0
		"\x00\x00\x06\x04\x00\x00\x00\x00\x00" + "\x00\x04\x00\x00\x00\x00" +
		"\x00\x00\x06\x01\x05\x00\x00\x00\x01" + "\x82\x86\x84\x41\x01a"}, // HEADERS: GET http://a/
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// What anybody can do to a server of lines.
var onSMTP = []attack{
	{name: "says nothing"},
	{name: "begins a line", send: "EHLO"},
	{name: "sends a line a byte at a time", more: "x", pace: slowly},
	{name: "sends a line without an end", more: strings.Repeat("x", 1000), pace: blindly},
	{name: "says nothing after a line", send: "EHLO me\r\n"},
	{name: "reads no answers", more: "NOOP\r\n", pace: blindly},
}

// What anybody can do to an echo.
var onEcho = []attack{
	{name: "says nothing"},
	{name: "reads no answers", more: strings.Repeat("x", 1000), pace: blindly},
}

// What anybody can do to a DNS server.
var onDNS = []attack{
	{name: "says nothing"},
	{name: "begins a query", send: query[:9]},
	{name: "sends a query a byte at a time", send: "\xff\xff", more: "\x00", pace: slowly},
	{name: "says nothing after a query", send: query},
	{name: "sends a head without a question", send: "\x00\x0c" + query[2:14]},
	{name: "reads no answers", more: query, pace: blindly},
}

// query asks for whoami.test TXT, over TCP.
const query = "\x00\x1d\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06whoami\x04test\x00\x00\x10\x00\x01"

// What anybody can do to whoever expects TLS.
var onTLS = []attack{
	{name: "begins a ClientHello", send: "\x16\x03\x01\x02\x00"},
	{name: "sends a ClientHello a byte at a time", send: "\x16\x03\x01\x40\x00\x01", more: "x",
		pace: slowly},
}

// play plays the attack on a connection that has begun with what comes first, and returns what
// became of it.
func (a attack) play(addr, first string, overTLS bool) (outcome string) {
	c, err := dial(addr, first, overTLS)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_, err = io.WriteString(c, a.send)
	switch a.pace {
	case waiting:
		if err == nil {
			_, err = io.Copy(io.Discard, c)
		}
	case slowly:
		for ; err == nil; time.Sleep(100 * time.Millisecond) {
			_, err = io.WriteString(c, a.more)
		}
	case blindly:
		for more := strings.Repeat(a.more, 100); err == nil; {
			_, err = io.WriteString(c, more)
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "held"
	}
	return "closed"
}

// dial connects, for longer than anything takes that works.
func dial(addr, first string, overTLS bool) (net.Conn, error) {
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, addr)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(2 * proxies.Timeout)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c, first); err != nil {
		return nil, err
	}
	if overTLS {
		return tls.Client(c, &tls.Config{InsecureSkipVerify: true}), nil
	}
	return c, nil
}

// certificate makes one that signs itself, as files.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	}
	return cert, key
}
