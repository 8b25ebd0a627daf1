package testenv

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// UnixPair returns the two ends of a connection over a Unix socket.
func UnixPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("unix", t.TempDir()+"/socket")
	require.NoError(t, err)
	defer ln.Close()
	client, err = net.Dial("unix", ln.Addr().String())
	require.NoError(t, err)
	server, err = ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}
