// Package toa gives a server behind a layer 4 load balancer its clients' addresses, if the balancer
// puts them into a TCP option: LVS FullNAT, DPVS, and the clouds built on such (the option is called
// TOA, TCP option address). It takes the place of the kernel module that reads it elsewhere.
//
// A [Listener] goes around the one that net.Listen returns, and its connections have the client's
// address as their RemoteAddr:
//
//	inner, err := net.Listen("tcp", ":8080")
//	…
//	ln, err := toa.NewListener(inner, &toa.Config{Policy: proxyproto.Trust(balancers...)})
//	…
//	http.Serve(ln, handler)
//
// The option is in the packet that completes the handshake, of which a program sees nothing. BPF
// programs keep it, which the command toa-agent (package toa/agent, a module of its own) attaches,
// once a machine; the server asks them by one getsockopt(2) a connection and needs no privilege.
// It runs on Linux only, and the agent needs 5.10; elsewhere NewListener's error matches
// errors.ErrUnsupported.
//
// # What it is worth
//
// Whoever can connect to the server can send the option, so trust the addresses that the balancers
// connect from and no others. Nor does a balancer take out an option that its client has sent: if
// its own doesn't fit beside that one the client's arrives alone. Such an option is uncertain, and
// isn't believed unless Config.Uncertain says so. An option is certain if it is where the balancer
// writes it, in a packet of at most 1,280 bytes that has no flag but ACK and PSH, with room left for
// the longest option that the agent reads. That a balancer writes its option for all its clients,
// IPv6 ones too, is taken for granted.
//
// A connection without the option, from a balancer, is one of which nothing is known: a health
// check, or a client whose packet was full. Don't take it for an internal one.
//
// Where the TOA kernel module is loaded, every socket's RemoteAddr is the client's already and this
// package isn't needed. A Policy would see clients there, not balancers.
//
// This package follows what kernels and balancers do, and may change with them.
package toa

import (
	"errors"
	"net/netip"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/toa/internal/sockopt"
)

// Config says whose options a server believes. Only Policy is required. It must not be modified
// once it has been passed to NewListener.
//
// Its functions may be called by several goroutines at once, and must not block: the next
// connection waits for them. They may call every method of the Listener but Accept.
type Config struct {
	// Policy chooses what to do with each peer's connection:
	//
	//   - Require serves it if it has the option, and closes it if not. Health checks of the
	//     balancer's own come without: let them use another port, or use Optional.
	//   - Optional serves it with the client's address if it has the option, and with the
	//     peer's if not. Whoever may connect may then leave the option out.
	//   - Ignore serves it with the peer's address, and tells what the option said.
	//   - Skip serves the inner connection itself, and Reject closes it.
	Policy proxyproto.Policy

	// OnDrop, if set, is called with every connection that is dropped, after it has been
	// closed. proxyproto.LogDrops makes one that logs.
	OnDrop func(p proxyproto.Peer, drop *proxyproto.DropError)

	// Uncertain makes options count that a client may have written itself, past a balancer that
	// found no room for its own. Set it if the balancer takes clients' options out.
	Uncertain bool

	// WithoutAgent lets NewListener succeed while no agent is attached. Until one is, no
	// connection has an option: Require closes it, with ErrNoAgent, and Optional serves it.
	WithoutAgent bool
}

// Why a connection's RemoteAddr isn't the option's address. A DropError has them as its cause.
var (
	// ErrNoOption reports that there was no option, or none that is well-formed and that the
	// agent has been told to read, in the packet that completed the handshake; or that the
	// agent wasn't attached then.
	ErrNoOption = errors.New("toa: no option with a client's address")

	// ErrUncertain reports an option that the client may have written.
	ErrUncertain = errors.New("toa: the client may have written the option itself")

	// ErrIgnored reports an option that the Policy's Ignore keeps from being believed.
	ErrIgnored = errors.New("toa: the option is ignored by the policy")

	// ErrNoAgent reports that nobody answers for the option.
	ErrNoAgent = sockopt.ErrNoAgent
)

// Option is what a connection's option said.
type Option struct {
	// Addr is the client's address, in its plain form: an IPv4-mapped IPv6 address is IPv4.
	Addr netip.AddrPort

	// Kind is the TCP option's kind: 254 of LVS, 200 of Tencent.
	Kind uint8

	// Certain says that the balancer wrote it: the client can't have.
	Certain bool
}

// Stats are counts since the Listener was made. A connection counts in Accepted, and in one of the
// others.
type Stats struct {
	Accepted uint64 // connections from the inner listener

	Clients uint64 // served under the option's address
	Bare    uint64 // served under the peer's, without an option or with an uncertain one
	Ignored uint64 // served under the peer's, with an option that Ignore kept from being believed
	Skipped uint64 // not looked at, under Skip

	// Dropped has how many were closed for each Reason; those with none are left out. Without
	// the option it is ReasonNoHeader, with an uncertain one ReasonInvalid, without an agent
	// ReasonBroken.
	Dropped map[proxyproto.Reason]uint64
}
