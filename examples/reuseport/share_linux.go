package main

import (
	"errors"
	"syscall"
)

// shareAddress is a net.ListenConfig's Control that lets several sockets listen on one address.
func shareAddress(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, reusePort, 1)
	})
	return errors.Join(err, failed)
}
