package toa

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/seed2e8fe8ee/proxyproto/toa/internal/sockopt"
)

// check is an error unless an answer is one that this package understands.
func check(a *sockopt.Answer) error {
	switch v := a[sockopt.Layout]; v {
	case sockopt.Version:
		return nil
	case 0:
		return ErrNoAgent
	default:
		return fmt.Errorf("toa: the agent's answer is of version %d, not %d", v, sockopt.Version)
	}
}

// optionOf returns what an answer says of the option, or an error that matches ErrNoOption.
func optionOf(a *sockopt.Answer) (Option, error) {
	var addr netip.Addr
	switch a[sockopt.Family] {
	case 4:
		addr = netip.AddrFrom4([4]byte(a[sockopt.Addr:]))
	case 6:
		addr = netip.AddrFrom16([16]byte(a[sockopt.Addr:])).Unmap()
	default:
		if a.IsMPTCP() && a[sockopt.MPTCP] == 0 {
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
