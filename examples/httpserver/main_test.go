package main

import (
	"bufio"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

func TestMain(m *testing.M) { program.Main(m) }

func TestServer(t *testing.T) {
	addr := program.Start(t, "-trust", "127.0.0.0/8")
	c := program.Dial(t, 0, addr,
		"PROXY TCP4 192.0.2.7 192.0.2.1 56324 80\r\nGET / HTTP/1.0\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	assert.Equal(t, "you are 192.0.2.7:56324\n"+
		"the header says v1 PROXY TCP4 192.0.2.7:56324 -> 192.0.2.1:80\n"+
		"the socket is "+c.LocalAddr().String()+"\n", string(body))
}

// What it writes is where it listens, a command that works, and whom it drops.
func TestLog(t *testing.T) {
	addr, lines := program.StartLogged(t, "-trust", "10.0.0.0/8")
	assert.Contains(t, <-lines, "try: curl --haproxy-protocol http://"+addr+"/")
	c := program.Dial(t, 0, addr, "PROXY TCP4 192.0.2.7 192.0.2.1 56324 80\r\n")
	io.ReadAll(c)
	assert.Contains(t, <-lines, "to the trust list")
}

func TestTrustFlag(t *testing.T) {
	for _, trust := range []string{"", "10.0.0.0/8,nonsense"} {
		out, err := program.Run("-trust", trust)
		assert.Error(t, err)
		assert.Contains(t, out, "-trust: proxyproto: ")
	}
}
