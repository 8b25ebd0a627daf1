//go:build !unix || portable

package proxyproto

import "net"

// readNow leaves all reading to the goroutine that waits: there is no way here to read what
// has arrived without waiting for more.
func (b *buffer) readNow(net.Conn) error { return errNothingYet }

// readLast reads nothing, for the same reason.
func (b *buffer) readLast(net.Conn) {}

func (b *buffer) readOnce(uintptr) bool { return true }
