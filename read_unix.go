//go:build unix && !portable

package proxyproto

import (
	"io"
	"net"
	"os"
	"syscall"
)

// readNow reads what has already arrived into the buffer, without waiting. It returns
// errNothingYet if that is nothing, and on connections whose socket isn't there to be asked.
//
// Only net's own types are asked: the SyscallConn of another may go past what its Read does.
func (b *buffer) readNow(conn net.Conn) error {
	var raw syscall.RawConn
	var err error
	switch c := conn.(type) {
	case *net.TCPConn:
		raw, err = c.SyscallConn()
	case *net.UnixConn:
		raw, err = c.SyscallConn()
	default:
		return errNothingYet
	}
	if err != nil {
		return err
	}
	b.result = nil
	if err := raw.Read(b.readFD); err != nil {
		return err
	}
	if errno, ok := b.result.(syscall.Errno); ok {
		return &net.OpError{Op: "read", Net: conn.RemoteAddr().Network(), Source: conn.LocalAddr(),
			Addr: conn.RemoteAddr(), Err: os.NewSyscallError("read", errno)}
	}
	return b.result
}

// readLast reads what has arrived on a connection that is about to be closed.
func (b *buffer) readLast(conn net.Conn) { b.readNow(conn) }

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
