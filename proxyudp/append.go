package proxyudp

import (
	"errors"
	"fmt"

	"github.com/seed2e8fe8ee/proxyproto"
)

// ErrTooLong: header and payload together are longer than a datagram may be.
var ErrTooLong = errors.New("proxyudp: header and payload don't fit in a datagram")

// AppendPacket appends a datagram to b, the header's wire form and the payload after it, and
// returns the extended buffer. By UDP each datagram has its own header (section 2 of the spec),
// and a version 2 header says UDP: one of TCP4 or TCP6 is written as UDP4 or UDP6 with the same
// addresses.
//
// limit is how long a datagram may be, without IP and UDP headers: what the path to the receiver
// carries without fragments (1,472 over IPv4 and 1,452 over IPv6 for an Ethernet of 1,500 bytes).
// Zero is no limit. If the two don't fit the error is matched by [ErrTooLong]; the other errors are
// those of the header's AppendTo. On an error b is returned as it was.
//
// payload must not lie in the room after b that is written to, except where it belongs: a relay
// that reads it into buf[n:], with n the header's length, gives buf[:0] as b and saves the copy.
//
// It allocates only if b has no room.
func AppendPacket(b []byte, h *proxyproto.Header, payload []byte, limit int) ([]byte, error) {
	if h == nil {
		return b, errors.New("proxyudp: the header is nil")
	}
	own := *h
	if own.Version == proxyproto.V2 {
		switch own.Protocol {
		case proxyproto.TCP4:
			own.Protocol = proxyproto.UDP4
		case proxyproto.TCP6:
			own.Protocol = proxyproto.UDP6
		}
	}
	w, err := own.AppendTo(b)
	if err != nil {
		return b, err
	}
	if err := checkLength(len(w)-len(b), len(payload), limit); err != nil {
		return b, err
	}
	return append(w, payload...), nil
}

func checkLength(header, payload, limit int) error {
	if limit == 0 || header+payload <= limit {
		return nil
	}
	return fmt.Errorf("%w: %d bytes of header and %d of payload are over the limit of %d",
		ErrTooLong, header, payload, limit)
}
