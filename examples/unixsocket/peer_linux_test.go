package main

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

// Of those who may connect only the proxy's user is believed.
func TestOnlyUser(t *testing.T) {
	const header = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 80\r\n"
	for uid, want := range map[int]string{
		os.Getuid():     "hello 192.0.2.7:56324\n",
		os.Getuid() + 1: "",
	} {
		path := filepath.Join(t.TempDir(), "s")
		program.StartCommand(t, program.Command("-listen", path, "-uid", strconv.Itoa(uid)))
		answer := ask(t, path, header)
		if want == "" {
			assert.Empty(t, answer)
		} else {
			assert.Contains(t, answer, want)
		}
		assert.Empty(t, ask(t, path, ""), "without a header")
	}
}

// A peer that has no user is nobody's.
func TestOnlyUserOfOthers(t *testing.T) {
	policy, err := onlyUser(uint32(os.Getuid()))
	require.NoError(t, err)
	pipe, _ := net.Pipe()
	ln := program.Listen(t)
	tcp, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer tcp.Close()
	for _, c := range []net.Conn{nil, pipe, tcp, new(net.UnixConn)} {
		assert.Equal(t, proxyproto.Reject, policy(proxyproto.Peer{Conn: c}), "%T", c)
	}
}
