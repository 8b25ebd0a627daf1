package proxyudp

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

func TestAppendPacket(t *testing.T) {
	for _, h := range []proxyproto.Header{testHeader(), testHeader(noop(t, 60)...), localHeader} {
		header := packet(t, h, "")
		for _, payload := range []string{"", "x", strings.Repeat("0123456789", 100)} {
			size := len(header) + len(payload)
			for _, limit := range []int{0, size, size + 1} {
				b, err := AppendPacket([]byte("before"), &h, []byte(payload), limit)
				require.NoError(t, err)
				assert.Equal(t, "before"+header+payload, string(b))
			}
			for _, limit := range []int{size - 1, len(header) - 1, 1, -1} {
				b, err := AppendPacket([]byte("before"), &h, []byte(payload), limit)
				require.ErrorIs(t, err, ErrTooLong)
				assert.Equal(t, "before", string(b))
			}
		}
	}
	h := testHeader()
	_, err := AppendPacket(nil, &h, make([]byte, 1450), 1472)
	assert.ErrorContains(t, err, "28 bytes of header and 1450 of payload are over the limit of 1472")

	h.Protocol = proxyproto.UDP6 // not its addresses' family
	for _, bad := range []*proxyproto.Header{nil, &h} {
		b, err := AppendPacket([]byte("before"), bad, nil, 0)
		assert.Error(t, err)
		assert.Equal(t, "before", string(b))
	}
}

// A datagram says UDP, whatever the client's connection was.
func TestAppendPacketSaysUDP(t *testing.T) {
	const source6, destination6 = "[2001:db8::7]:5353", "[2001:db8::1]:53"
	unix, err := proxyproto.NewUnixAddrs("/run/client", "/run/server")
	require.NoError(t, err)
	for _, c := range []struct{ h, want proxyproto.Header }{
		{headerOf(proxyproto.TCP4, testSource, testDestination, 0xE0, 0, 1, 'x'),
			testHeader(0xE0, 0, 1, 'x')},
		{headerOf(proxyproto.TCP6, source6, destination6),
			headerOf(proxyproto.UDP6, source6, destination6)},
		{proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Proxy,
			Protocol: proxyproto.UnixDatagram, Unix: unix},
			proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Proxy,
				Protocol: proxyproto.UnixDatagram, Unix: unix}},
	} {
		given := c.h
		b, err := AppendPacket(nil, &c.h, []byte("hello"), 0)
		require.NoError(t, err)
		assert.Equal(t, packet(t, c.want, "hello"), string(b))
		assert.Equal(t, given, c.h, "the caller's header stays as it is")
	}
	line := headerOf(proxyproto.TCP4, testSource, testDestination)
	line.Version = proxyproto.V1
	b, err := AppendPacket(nil, &line, nil, 0)
	require.NoError(t, err)
	assert.Equal(t, testLineV1, string(b), "version 1 has no UDP")
}

// A relay reads a datagram after the room for its header.
func TestAppendPacketInPlace(t *testing.T) {
	h := testHeader()
	const room = 28
	buf := make([]byte, 100)
	n := copy(buf[room:], "hello")
	b, err := AppendPacket(buf[:0], &h, buf[room:room+n], 100)
	require.NoError(t, err)
	assert.Equal(t, packet(t, h, "hello"), string(b))
	assert.Same(t, &buf[0], &b[0])
}

func TestAppendPacketAllocs(t *testing.T) {
	h := headerOf(proxyproto.TCP4, testSource, testDestination)
	buf, payload := make([]byte, 0, 100), []byte("hello")
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if _, err := AppendPacket(buf, &h, payload, 100); err != nil {
			t.Error(err)
		}
	}))
}
