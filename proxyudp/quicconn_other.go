//go:build !linux

package proxyudp

import "net"

// Flags of recvmsg: each system has numbers of its own.
const flagPayloadCut, flagControlsCut, flagsOfWaiting = 0, 0, 0

// switchGROOff has nothing to do: only Linux has GRO for UDP sockets.
func switchGROOff(*net.UDPConn) {}

// controlsFor returns the control messages as they are: to change them takes what each system
// calls them.
func controlsFor(_, oob []byte, _ *route) []byte { return oob }
