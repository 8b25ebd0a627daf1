//go:build unix && !portable

package proxyproto

import (
	"io"
	"net"
	"os"
	"syscall"
)

// readNow reads what has already arrived into the buffer, without waiting. It returns
// errNothingYet if that is nothing, and on connections whose socket can't be asked.
func (b *buffer) readNow(conn net.Conn) error {
	raw, err := socketOf(conn)
	if err != nil || raw == nil {
		return errNothingYet
	}
	b.result = nil
	if err := raw.Read(b.readFD); err != nil {
		return err
	}
	if errno, ok := b.result.(syscall.Errno); ok {
		return opError(conn, "read", os.NewSyscallError("read", errno))
	}
	return b.result
}

// readLast takes what has arrived on a connection that is about to be closed: bytes left unread
// would make the kernel send a reset, which can overtake what was written. It waits for nothing,
// also not for a Read that is under way, and looks at no deadline.
func (b *buffer) readLast(conn net.Conn) {
	if raw, err := socketOf(conn); err == nil && raw != nil {
		raw.Control(func(fd uintptr) { b.readOnce(fd) })
	}
}

// socketOf returns the socket of net's own connections, and nil for others: the SyscallConn of
// another type may go past what its Read does.
func socketOf(conn net.Conn) (syscall.RawConn, error) {
	switch c := conn.(type) {
	case *net.TCPConn:
		return c.SyscallConn()
	case *net.UnixConn:
		return c.SyscallConn()
	}
	return nil, nil
}

// readOnce is the buffer's readFD: one read(2) on a socket that doesn't block.
func (b *buffer) readOnce(fd uintptr) bool {
	for {
		n, err := syscall.Read(int(fd), b.data[b.end:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			b.result = errNothingYet
		case err != nil:
			b.result = err
		case n == 0:
			b.result = io.EOF
		default:
			b.end += n
		}
		return true
	}
}
