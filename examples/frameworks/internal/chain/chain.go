// Package chain sends the requests of the examples of package clientip: as their proxies would, for
// clients that lie.
package chain

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// The client of all requests.
const Client = "192.0.2.7"

// forged is what the client writes to be taken for somebody else.
const forged = "X-Real-IP: 203.0.113.66\r\nForwarded: for=203.0.113.66\r\nTrue-Client-IP: 203.0.113.66\r\n" +
	"CF-Connecting-IP: 203.0.113.66\r\nX-Forwarded-For: 203.0.113.66"

// Test checks that the server's answer is the client's address, whichever way the request came. The server
// trusts the HTTP proxy 10.0.0.11, which appends to X-Forwarded-For.
func Test(t *testing.T, srv *http.Server) {
	t.Helper()
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Close()
		assert.ErrorIs(t, <-done, http.ErrServerClosed)
	})
	assert.Equal(t, Client, ask(t, ln.Addr(), Client, forged), "a client of the load balancer, which speaks PROXY")
	assert.Equal(t, Client, ask(t, ln.Addr(), "10.0.0.11", forged+", "+Client), "a client of the HTTP proxy behind it")
	assert.Equal(t, "10.0.0.11", ask(t, ln.Addr(), "10.0.0.11", forged+", unknown"), "a client that the HTTP proxy hides")
}

// ask sends a request on a connection whose header names the source.
func ask(t *testing.T, addr net.Addr, source, fields string) string {
	t.Helper()
	c, err := net.Dial(addr.Network(), addr.String())
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "PROXY TCP4 "+source+" 198.51.100.1 51234 80\r\nGET / HTTP/1.1\r\nHost: example.com\r\n"+fields+"\r\n\r\n")
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(body)
}
