package proxyudp

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/ipv4"
)

// What the caller's buffers have no room for is cut, and the flags say so, as a bare socket's do.
func TestQUICConnSaysWhatWasCut(t *testing.T) {
	const payload = "0123456789"
	bare, c := listenUDP(t, "127.0.0.1:0"),
		newQUICConn(t, "127.0.0.1:0", &Config{Policy: requireAll})
	batches := ipv4.NewPacketConn(bare)
	client := listenUDP(t, "127.0.0.1:0")
	ask := func() {
		t.Helper()
		send(t, client, bare, payload)
		send(t, client, c, packet(t, testHeader(), payload))
	}
	for _, on := range []bool{false, true} {
		if on { // a control message comes with each
			setOption(t, bare, syscall.IPPROTO_IP, syscall.IP_RECVTOS, 1)
			setOption(t, c.udp, syscall.IPPROTO_IP, syscall.IP_RECVTOS, 1)
		}
		for _, size := range []int{0, 3, len(payload) - 1, len(payload), 100} {
			for _, oob := range []int{0, 5, 128} {
				name := fmt.Sprintf("%d bytes, %d for control messages, %v", size, oob, on)
				room, controls := make([]byte, size), make([]byte, oob)
				ask()
				n, oobn, flags, _, err := bare.ReadMsgUDP(room, controls)
				require.NoError(t, err)
				gotN, gotOOB, gotFlags, _,
					err := c.ReadMsgUDP(make([]byte, size), make([]byte, oob))
				require.NoError(t, err)
				assert.Equal(t, []int{n, oobn, flags}, []int{gotN, gotOOB, gotFlags}, name)

				ask()
				ms := []ipv4.Message{{Buffers: [][]byte{room}, OOB: controls}}
				k, err := batches.ReadBatch(ms, 0)
				require.NoError(t, err)
				require.Equal(t, 1, k)
				want := []int{ms[0].N, ms[0].NN, ms[0].Flags}
				k, err = c.ReadBatch(ms, 0)
				require.NoError(t, err)
				require.Equal(t, 1, k)
				assert.Equal(t, want, []int{ms[0].N, ms[0].NN, ms[0].Flags}, "batch, "+name)
			}
		}
	}
}

// A reply leaves from where the datagram came to though the caller wants no control messages, or
// has room for a few bytes.
func TestQUICConnKnowsWhereWithoutRoom(t *testing.T) {
	for _, size := range []int{0, 10, lenLocal - 1, lenLocal, 256} {
		c := newQUICConn(t, "0.0.0.0:0", &Config{Policy: requireAll})
		client := listenUDP(t, "127.0.0.1:0")
		to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 3), Port: c.LocalAddr().(*net.UDPAddr).Port}
		for _, batch := range []bool{false, true} {
			// The datagram before it is dropped: its place is the second's.
			for _, datagram := range []string{"junk", packet(t, testHeader(), "hello")} {
				_, err := client.WriteTo([]byte(datagram), to)
				require.NoError(t, err)
			}
			var addr *net.UDPAddr
			var oob []byte
			var flags int
			if batch {
				ms := messages(2, 100)
				ms[0].OOB, ms[1].OOB = make([]byte, size), make([]byte, size)
				n, err := c.ReadBatch(ms, 0)
				require.NoError(t, err)
				require.Equal(t, 1, n)
				assert.Equal(t, "hello", string(ms[0].Buffers[0][:ms[0].N]))
				addr, oob, flags = ms[0].Addr.(*net.UDPAddr), ms[0].OOB[:ms[0].NN], ms[0].Flags
			} else {
				var n, oobn int
				var err error
				b, room := make([]byte, 100), make([]byte, size)
				n, oobn, flags, addr, err = c.ReadMsgUDP(b, room)
				require.NoError(t, err)
				assert.Equal(t, "hello", string(b[:n]))
				oob = room[:oobn]
			}
			fits := size >= lenControl+lenPktInfo4+4
			assert.Equal(t, fits, flags&syscall.MSG_CTRUNC == 0, "%d bytes", size)
			assert.Equal(t, fits, parseLocal(oob).addr.IsValid(), "%d bytes", size)
			_, _, err := c.WriteMsgUDP([]byte("reply"), nil, addr)
			require.NoError(t, err)
			_, from := receive(t, client)
			assert.Equal(t, to.String(), from.String(), "%d bytes", size)
		}
	}
}

// Flags that say how long to wait are the kernel's to heed; others would make it read what isn't a
// datagram that came (MSG_ERRQUEUE), junk for ever (MSG_PEEK), or more than there is room for.
func TestReadBatchFlags(t *testing.T) {
	c := newQUICConn(t, "127.0.0.1:0", &Config{Policy: requireAll})
	client := listenUDP(t, "127.0.0.1:0")
	for _, flags := range []int{syscall.MSG_PEEK, syscall.MSG_TRUNC, syscall.MSG_ERRQUEUE,
		syscall.MSG_OOB | syscall.MSG_DONTWAIT} {
		_, err := c.ReadBatch(messages(2, 100), flags)
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		assert.IsType(t, (*net.OpError)(nil), err)
	}
	for _, flags := range []int{syscall.MSG_DONTWAIT, syscall.MSG_WAITFORONE} {
		send(t, client, c, packet(t, testHeader(), "hello"))
		n, err := c.ReadBatch(messages(2, 100), flags)
		require.NoError(t, err)
		assert.Equal(t, 1, n)
	}
	n, err := c.ReadBatch(nil, 0)
	assert.NoError(t, err, "nothing to read into")
	assert.Zero(t, n)
	require.NoError(t, c.SetReadDeadline(time.Unix(1, 0)))
	_, err = c.ReadBatch(messages(2, 100), syscall.MSG_DONTWAIT)
	assert.Error(t, err)
}
