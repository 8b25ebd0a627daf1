package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

func TestMain(m *testing.M) { program.Main(m) }

// The server and the relay, as the commands above main say, and a client.
func TestServerBehindRelay(t *testing.T) {
	server, _ := program.StartCommand(t, program.Command("-listen", ":0", "-trust", "127.0.0.0/8"))
	_, port, err := net.SplitHostPort(server)
	require.NoError(t, err)
	udprelay, err := program.Build(t.TempDir(),
		"github.com/seed2e8fe8ee/proxyproto/examples/udprelay")
	require.NoError(t, err)
	relay := program.StartBinary(t, udprelay, "-to", "127.0.0.3:"+port)

	transport := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.Close()
	client := &http.Client{Transport: transport}
	for range 3 {
		resp, err := client.Get("https://" + relay)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.NoError(t, err)
		var is, proxy, to string
		_, err = fmt.Sscanf(string(body), "you are %s through %s to %s\n", &is, &proxy, &to)
		require.NoError(t, err, "%s", body)
		assert.True(t, strings.HasPrefix(is, "127.0.0.1:") && strings.HasSuffix(is, ","), is)
		assert.Equal(t, "127.0.0.1", proxy)
		assert.Equal(t, relay, to)
	}
}
