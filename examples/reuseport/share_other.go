//go:build !linux

package main

import (
	"errors"
	"fmt"
	"syscall"
)

func shareAddress(_, _ string, _ syscall.RawConn) error {
	return fmt.Errorf("several sockets on one address: %w", errors.ErrUnsupported)
}
