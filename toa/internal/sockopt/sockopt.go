// Package sockopt is what the agent's programs and their readers agree on: the socket option that
// a BPF program answers, and the layout of its value. The same value, without what the getsockopt
// program adds, lies in the accepted socket's local storage.
package sockopt

import (
	"encoding/binary"
	"errors"
)

// getsockopt(fd, Level, Name) is answered if the agent is attached. The kernel's own answer is
// ENOPROTOOPT, or EOPNOTSUPP of an MPTCP socket.
const (
	Level = 6        // IPPROTO_TCP
	Name  = 0x544f41 // "TOA"
)

// Version is that of the layout. A reader believes no other.
const Version = 1

// Offsets in the value. Port is in network byte order, Protocol in the machine's.
const (
	Addr    = 0  // [16]byte; an IPv4 address is in the first four
	Port    = 16 // uint16
	Family  = 18 // 4, 6, or 0: there was no option
	Kind    = 19 // the option's
	Certain = 20 // 1: the balancer wrote the option, no client can have

	Layout   = 21 // Version
	Protocol = 22 // uint16: the socket's, IPPROTO_TCP or IPPROTO_MPTCP
	MPTCP    = 24 // 1: MPTCP connections are covered

	Size = 32
)

// Protocols of a socket.
const (
	ProtocolTCP   = 6
	ProtocolMPTCP = 262
)

// ErrNoAgent reports that nobody answers.
var ErrNoAgent = errors.New("toa: no agent answers for this socket: run toa-agent attach, " +
	"for the cgroup in which the listening socket was made or one above it")

// An Answer is what the agent's program says of a socket.
type Answer [Size]byte

// Ask asks it about a socket that has just been accepted, or that listens.
func Ask(fd int, a *Answer) error {
	err := getsockopt(fd, a)
	if err == nil && a.early() {
		settle(fd)
		err = getsockopt(fd, a)
	}
	return err
}

// early reports whether the program that reads may not have run yet. accept locks the socket that
// it returns, and a TCP socket stays locked from its birth until the program has run; but for MPTCP
// it returns another socket than the one that the packet belongs to.
func (a *Answer) early() bool { return a[Family] == 0 && a.IsMPTCP() && a[MPTCP] == 1 }

// IsMPTCP reports whether it is an MPTCP socket. One that accept returns for a TCP client isn't,
// whatever the one that listens is.
func (a *Answer) IsMPTCP() bool { return binary.NativeEndian.Uint16(a[Protocol:]) == ProtocolMPTCP }
