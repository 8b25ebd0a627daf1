package main

import (
	"errors"
	"net"
	"syscall"

	"github.com/seed2e8fe8ee/proxyproto"
)

// onlyUser is the Policy that requires a header from one user's processes and rejects all others.
// The kernel says whose they are: whose the process was when it connected. In a container that has
// users of its own, a user whom it doesn't know is 65534.
func onlyUser(uid uint32) (proxyproto.Policy, error) {
	return func(p proxyproto.Peer) proxyproto.Action {
		if peer, err := peerUID(p.Conn); err != nil || peer != uid {
			return proxyproto.Reject
		}
		return proxyproto.Require
	}, nil
}

// peerUID returns the user who has connected to a Unix socket.
func peerUID(c net.Conn) (uint32, error) {
	unix, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a Unix socket")
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return 0, err
	}
	var credentials *syscall.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) {
		credentials, asked = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET,
			syscall.SO_PEERCRED)
	})
	if err = errors.Join(err, asked); err != nil {
		return 0, err
	}
	return credentials.Uid, nil
}
