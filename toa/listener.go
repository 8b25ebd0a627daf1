package toa

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"

	"github.com/seed2e8fe8ee/proxyproto"
)

// Listener accepts connections from an inner listener and returns them as from their clients. See
// [NewListener].
type Listener struct {
	inner  net.Listener
	cfg    *Config
	policy atomic.Pointer[proxyproto.Policy]
	closed atomic.Bool
	counts counts
}

// NewListener returns a Listener around inner, which is to be what net.Listen or systemd's socket
// activation gives: of a connection that isn't a *net.TCPConn no option can be read. Other
// listeners, of TLS or with a limit, go around this one.
//
// It fails if no agent answers, unless Config.WithoutAgent is set, and where this package doesn't
// work at all: then the error matches errors.ErrUnsupported.
func NewListener(inner net.Listener, cfg *Config) (*Listener, error) {
	if inner == nil {
		return nil, errors.New("toa: the inner listener is nil")
	}
	if cfg == nil || cfg.Policy == nil {
		return nil, errors.New("toa: Config has no Policy: say which balancers to trust, " +
			"with proxyproto.Trust for example")
	}
	err := errNoSocket
	if socket, ok := inner.(syscall.Conn); ok {
		err = probe(socket)
	}
	if err != nil && !(cfg.WithoutAgent && errors.Is(err, ErrNoAgent)) {
		return nil, err
	}
	ln := &Listener{inner: inner, cfg: cfg}
	ln.SetPolicy(cfg.Policy)
	return ln, nil
}

// errNoSocket reports a listener without a descriptor.
var errNoSocket = errors.New("toa: the inner listener has no socket to ask: wrap the one that " +
	"net.Listen returns, and put other listeners around toa's")

// SetPolicy replaces the Policy for the connections that are accepted from now on. Nil rejects all.
// It may be called while the Listener serves.
func (ln *Listener) SetPolicy(p proxyproto.Policy) {
	if p == nil {
		p = proxyproto.Always(proxyproto.Reject)
	}
	ln.policy.Store(&p)
}

// Accept returns the next connection that is to be served: a [*Conn], or the inner connection itself
// under Skip and where it isn't TCP. It asks the agent's program once a connection and never waits
// for a peer. Its errors are the inner listener's, and after Close they match net.ErrClosed; no peer
// can cause one.
func (ln *Listener) Accept() (net.Conn, error) {
	for {
		inner, err := ln.inner.Accept()
		if err != nil {
			if ln.closed.Load() && !errors.Is(err, net.ErrClosed) {
				err = fmt.Errorf("%w (%w)", net.ErrClosed, err)
			}
			return nil, err
		}
		ln.counts.accepted.Add(1)
		peer := proxyproto.Peer{
			Addr: plain(inner.RemoteAddr()), Local: plain(inner.LocalAddr()), Conn: inner,
		}
		c, count, drop := ln.judge(peer)
		switch {
		case drop != nil:
			ln.counts.dropped[drop.Reason].Add(1)
			if ln.cfg.OnDrop != nil {
				ln.cfg.OnDrop(peer, drop)
			}
		case ln.closed.Load():
			inner.Close()
			ln.counts.dropped[proxyproto.ReasonClosed].Add(1)
			return nil, net.ErrClosed
		default:
			count.Add(1)
			return c, nil
		}
	}
}

// judge returns the connection to serve and what it counts as, or why it has been closed.
func (ln *Listener) judge(peer proxyproto.Peer) (
	c net.Conn, count *atomic.Uint64, drop *proxyproto.DropError,
) {
	defer func() {
		if c == nil { // also when the Policy panics
			peer.Conn.Close()
		}
	}()
	action := (*ln.policy.Load())(peer)
	switch action {
	case proxyproto.Skip:
		return peer.Conn, &ln.counts.skipped, nil
	case proxyproto.Require, proxyproto.Optional, proxyproto.Ignore:
	default:
		return nil, nil, &proxyproto.DropError{Reason: proxyproto.ReasonRejected, Err: errRejected}
	}
	inner, ok := peer.Conn.(*net.TCPConn)
	if !ok && action != proxyproto.Require {
		return peer.Conn, &ln.counts.bare, nil
	} else if !ok {
		err := fmt.Errorf("toa: the inner connection is a %T, not a *net.TCPConn", peer.Conn)
		return nil, nil, &proxyproto.DropError{Reason: proxyproto.ReasonBroken, Err: err}
	}
	option, err := ln.ask(inner)
	switch {
	case action == proxyproto.Ignore && (err == nil || err == ErrUncertain):
		return newConn(inner, option, ErrIgnored), &ln.counts.ignored, nil
	case err == nil:
		return newConn(inner, option, nil), &ln.counts.clients, nil
	case action == proxyproto.Require:
		return nil, nil, &proxyproto.DropError{Reason: reason(err), Err: err}
	}
	return newConn(inner, option, err), &ln.counts.bare, nil
}

var errRejected = errors.New("toa: the policy rejects the peer")

// ask returns what the option of a connection said, and why it isn't to be believed.
func (ln *Listener) ask(c *net.TCPConn) (Option, error) {
	q := newQuestion()
	socket, err := c.SyscallConn()
	if err == nil {
		err = socket.Control(q.put)
	}
	answer, err := q.result(err)
	if err != nil {
		return Option{}, err
	}
	option, err := optionOf(&answer)
	if err == nil && !option.Certain && !ln.cfg.Uncertain {
		err = ErrUncertain
	}
	return option, err
}

func reason(err error) proxyproto.Reason {
	switch {
	case errors.Is(err, ErrNoOption):
		return proxyproto.ReasonNoHeader
	case errors.Is(err, ErrUncertain):
		return proxyproto.ReasonInvalid
	}
	return proxyproto.ReasonBroken
}

// plain returns a TCP address as a Policy is to see it, as IPv4 if it is IPv4-mapped and without a
// zone, or the zero AddrPort.
func plain(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	addr := tcp.AddrPort()
	return netip.AddrPortFrom(addr.Addr().Unmap().WithZone(""), addr.Port())
}

// Close closes the inner listener. Connections that have been returned stay open.
func (ln *Listener) Close() error {
	ln.closed.Store(true)
	return ln.inner.Close()
}

// Addr returns the inner listener's address.
func (ln *Listener) Addr() net.Addr { return ln.inner.Addr() }

// counts are Stats while counting.
type counts struct {
	accepted, clients, bare, ignored, skipped atomic.Uint64

	dropped [proxyproto.ReasonLate + 1]atomic.Uint64
}

// Stats returns what has become of the connections so far.
func (ln *Listener) Stats() Stats {
	c := &ln.counts
	s := Stats{
		Clients: c.clients.Load(),
		Bare:    c.bare.Load(),
		Ignored: c.ignored.Load(),
		Skipped: c.skipped.Load(),
		Dropped: make(map[proxyproto.Reason]uint64),
	}
	for r := range c.dropped {
		if n := c.dropped[r].Load(); n > 0 {
			s.Dropped[proxyproto.Reason(r)] = n
		}
	}
	s.Accepted = c.accepted.Load() // last: the others are never more together
	return s
}
