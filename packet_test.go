package proxyproto

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAppendPacket(t *testing.T) {
	for _, h := range []Header{packetHeader(), packetHeader(noop(t, 60)...), localHeader, testHeader()} {
		header := encode(t, h)
		for _, payload := range []string{"", "x", strings.Repeat("0123456789", 100)} {
			size := len(header) + len(payload)
			for _, limit := range []int{0, size, size + 1} {
				b, err := h.AppendPacket([]byte("before"), []byte(payload), limit)
				require.NoError(t, err)
				assert.Equal(t, "before"+header+payload, string(b))
			}
			for _, limit := range []int{size - 1, len(header) - 1, 1, -1} {
				b, err := h.AppendPacket([]byte("before"), []byte(payload), limit)
				require.ErrorIs(t, err, ErrTooLong)
				assert.Equal(t, "before", string(b))
			}
		}
	}
	h := packetHeader()
	_, err := h.AppendPacket(nil, make([]byte, 1450), 1472)
	assert.ErrorContains(t, err, "28 bytes of header and 1450 of payload are over the limit of 1472")
	_, err = h.AppendPacket(nil, make([]byte, 65507-28), 0)
	assert.NoError(t, err)
	_, err = h.AppendPacket(nil, make([]byte, 65507-28+1), 0)
	assert.ErrorIs(t, err, ErrTooLong, "more than UDP carries")

	h.Protocol = UDP6
	b, err := h.AppendPacket([]byte("before"), nil, 0)
	assert.ErrorIs(t, err, ErrMalformed)
	assert.Equal(t, "before", string(b))
}

// A relay reads a datagram behind the room for its header.
func TestAppendPacketInPlace(t *testing.T) {
	h := packetHeader()
	const room = lenV2 + lenIPv4
	buf := make([]byte, 100)
	n := copy(buf[room:], "hello")
	if !raceEnabled {
		assert.Zero(t, testing.AllocsPerRun(100, func() {
			if _, err := h.AppendPacket(buf[:0], buf[room:room+n], 100); err != nil {
				t.Error(err)
			}
		}))
	}
	b, err := h.AppendPacket(buf[:0], buf[room:room+n], 100)
	require.NoError(t, err)
	assert.Equal(t, encode(t, h)+"hello", string(b))
	assert.Same(t, &buf[0], &b[0])
}
