//go:build unix

package proxyproto

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPacketSocketBuffers(t *testing.T) {
	pc := newPacketConn(t, &Config{Policy: Always(Require)})
	inner := pc.NetPacketConn().(*net.UDPConn)
	size := func(option int) (n int) {
		raw, err := inner.SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) {
			n, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, option)
		}))
		require.NoError(t, err)
		return n
	}
	read, write := size(syscall.SO_RCVBUF), size(syscall.SO_SNDBUF)
	require.NoError(t, pc.SetReadBuffer(8<<10))
	require.NoError(t, pc.SetWriteBuffer(8<<10))
	assert.Less(t, size(syscall.SO_RCVBUF), read)
	assert.Less(t, size(syscall.SO_SNDBUF), write)
}
