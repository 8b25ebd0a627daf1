package sockopt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
)

// getsockopt reads the agent's answer, as one of the values that package syscall can read: it has
// 32 bytes.
func getsockopt(fd int, a *Answer) error {
	value, err := syscall.GetsockoptICMPv6Filter(fd, Level, Name)
	switch {
	case err == nil:
		for i, word := range value.Data {
			binary.NativeEndian.PutUint32(a[4*i:], word)
		}
		return nil
	case errors.Is(err, syscall.ENOPROTOOPT), errors.Is(err, syscall.EOPNOTSUPP):
		return ErrNoAgent
	}
	return fmt.Errorf("toa: getsockopt: %w", err)
}

// settle waits until the program that reads has run for an MPTCP socket's first subflow. TCP_INFO of
// an MPTCP socket is that subflow's, and the kernel locks it to read it.
func settle(fd int) { syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_INFO) }
