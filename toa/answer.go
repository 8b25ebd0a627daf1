package toa

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/seed2e8fe8ee/proxyproto/toa/internal/sockopt"
)

// An answer is what the agent's program says of a socket.
type answer [sockopt.Size]byte

// check is an error unless the answer is one that this package understands.
func (a *answer) check() error {
	switch v := a[sockopt.Layout]; v {
	case sockopt.Version:
		return nil
	case 0:
		return ErrNoAgent
	default:
		return fmt.Errorf("toa: the agent's answer is of version %d, not %d", v, sockopt.Version)
	}
}

// option returns what the option said, or ErrNoOption.
func (a *answer) option() (Option, error) {
	var addr netip.Addr
	switch a[sockopt.Family] {
	case 4:
		addr = netip.AddrFrom4([4]byte(a[sockopt.Addr:]))
	case 6:
		addr = netip.AddrFrom16([16]byte(a[sockopt.Addr:])).Unmap()
	default:
		if a.mptcp() && a[sockopt.MPTCP] == 0 {
			return Option{}, errMPTCP
		}
		return Option{}, ErrNoOption
	}
	return Option{
		Addr:    netip.AddrPortFrom(addr, binary.BigEndian.Uint16(a[sockopt.Port:])),
		Kind:    a[sockopt.Kind],
		Certain: a[sockopt.Certain] == 1,
	}, nil
}

var errMPTCP = fmt.Errorf("%w: it is an MPTCP connection, which the agent doesn't cover "+
	"(toa-agent status says why)", ErrNoOption)

func (a *answer) mptcp() bool {
	return binary.NativeEndian.Uint16(a[sockopt.Protocol:]) == sockopt.ProtocolMPTCP
}

// early reports whether the program that reads may not have run yet. accept locks the socket that
// it returns, and a TCP socket stays locked from its birth until the program has run; but for MPTCP
// it returns another socket than the one that the packet belongs to.
func (a *answer) early() bool { return a[sockopt.Family] == 0 && a.mptcp() && a[sockopt.MPTCP] == 1 }
