//go:build !unix || portable

package proxyproto

import (
	"net"
	"time"
)

// readNow leaves all reading to the goroutine that waits: there is no way here to read what
// has arrived without waiting for more.
func (b *buffer) readNow(net.Conn) error { return errNothingYet }

// readLast takes what has arrived on a connection that is about to be closed: bytes left unread
// would make the kernel send a reset, which can overtake what was written. It waits for a
// millisecond, since a read whose deadline has passed reads nothing.
func (b *buffer) readLast(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok &&
		tcp.SetReadDeadline(time.Now().Add(time.Millisecond)) == nil {
		tcp.Read(b.data)
	}
}

func (b *buffer) readOnce(uintptr) bool { return true }
