package main

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/examples/frameworks/internal/balancer"
)

func TestServerSpeaksFirst(t *testing.T) {
	ln, err := proxyproto.NewListener(balancer.Listen(t),
		&proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require), Lazy: true})
	require.NoError(t, err)
	cfg, err := newConfig()
	require.NoError(t, err)
	go serve(ln, func(c net.Conn) { session(c, cfg) })

	inner, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer inner.Close()
	require.NoError(t, inner.SetDeadline(time.Now().Add(time.Minute)))
	c := &lateHeader{Conn: inner, r: bufio.NewReader(inner)}
	version, err := c.r.Peek(len("SSH-2.0-"))
	require.NoError(t, err, "the server's version, before the client has sent a byte")
	require.Equal(t, "SSH-2.0-", string(version))

	conn, channels, requests, err := ssh.NewClientConn(c, "", &ssh.ClientConfig{
		User:            "somebody",
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	require.NoError(t, err)
	client := ssh.NewClient(conn, channels, requests)
	defer client.Close()
	session, err := client.NewSession()
	require.NoError(t, err)
	var out strings.Builder
	session.Stdout = &out
	require.NoError(t, session.Shell())
	require.NoError(t, session.Wait())
	assert.Equal(t, "hello "+balancer.Client+"\r\n", out.String())
}

// lateHeader is a client's connection through a balancer that sends the header with the client's
// first bytes.
type lateHeader struct {
	net.Conn
	r    *bufio.Reader
	sent bool
}

func (c *lateHeader) Read(p []byte) (int, error) { return c.r.Read(p) }

func (c *lateHeader) Write(p []byte) (int, error) {
	if c.sent {
		return c.Conn.Write(p)
	}
	c.sent = true
	b, err := balancer.Header().AppendTo(nil)
	if err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(append(b, p...))
	return max(0, n-len(b)), err
}

// Who says nothing after the header, or nothing at all, doesn't stay.
func TestSilentClientEnds(t *testing.T) {
	cfg, err := newConfig()
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		for _, send := range []string{"", "PROXY TCP4 192.0.2.7 198.51.100.1 56324 22\r\n"} {
			client, server := net.Pipe()
			go func() {
				io.WriteString(client, send)
				io.Copy(io.Discard, client)
			}()
			conn, err := proxyproto.NewConn(server,
				&proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
			require.NoError(t, err)
			start := time.Now()
			assert.Error(t, session(conn, cfg))
			assert.Equal(t, patience, time.Since(start))
			client.Close()
		}
	})
}
