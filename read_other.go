//go:build !unix || portable

package proxyproto

import (
	"net"
	"time"
)

// readNow leaves all reading to the goroutine that waits: there is no way here to read what
// has arrived without waiting for more.
func (b *buffer) readNow(net.Conn) error { return errNothingYet }

func (b *buffer) readOnce(uintptr) bool { return true }

// readLast reads what has arrived on a connection that is about to be closed. It waits up to
// 50 ms for it, since a read whose deadline has passed reads nothing.
func (b *buffer) readLast(conn net.Conn) {
	if conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)) == nil {
		conn.Read(b.data)
	}
}
