package proxyproto

import (
	"errors"
	"fmt"
)

// maxPayload4 is the most that a UDP datagram carries over IPv4.
const maxPayload4 = 65507

// ErrTooLong: header and payload together are longer than a datagram may be.
var ErrTooLong = errors.New("proxyproto: header and payload don't fit in a datagram")

// AppendPacket appends a datagram to b, the header's wire form and the payload behind it, and
// returns the extended buffer. By UDP each datagram has its own header (section 2).
//
// limit is how long a datagram may be, without IP and UDP headers: what the path to the receiver
// carries, if it shall not be fragmented (by an Ethernet of 1,500 bytes 1,472 over IPv4 and 1,452
// over IPv6). Zero is 65,507, the most that UDP over IPv4 can carry. If the two don't fit the error
// is matched by [ErrTooLong]; the other errors are those of [Header.AppendTo]. On an error b is
// returned as it was.
//
// payload must not lie in the room behind b that is written to, except where it belongs: a relay
// that reads it into buf[n:], with n the header's length, gives buf[:0] as b and saves the copy.
//
// It allocates only if b has no room.
func (h *Header) AppendPacket(b, payload []byte, limit int) ([]byte, error) {
	if limit == 0 {
		limit = maxPayload4
	}
	w, err := h.AppendTo(b)
	if err != nil {
		return b, err
	}
	if n := len(w) - len(b); n+len(payload) > limit {
		return b, fmt.Errorf("%w: %d bytes of header and %d of payload are over the limit of %d", ErrTooLong, n, len(payload), limit)
	}
	return append(w, payload...), nil
}
