package proxyproto

import (
	"errors"
	"net"
	"slices"
	"sync"
	"time"
)

// Listener accepts connections from an inner listener, and returns those that have
// shown a valid header as connections from their clients. See [NewListener].
type Listener struct {
	inner  net.Listener
	cfg    *Config
	policy livePolicy
	stats  counters

	// Whoever calls Accept accepts from the inner listener itself as long as nobody else does
	// and no connection waits for its header; that is the case when proxies send their header at
	// once, and costs nothing. If one waits, a goroutine accepts, so that Accept can return
	// whichever connection is the first to be ready. Neither goes on accepting when all callers of
	// Accept are served.
	mu        sync.Mutex
	news      sync.Cond  // something is ready, nobody is accepting any more, or the Listener closed
	callers   int        // of Accept
	accepting bool       // somebody accepts from the inner listener
	ready     []accepted // results that no caller has taken yet
	closed    error      // what Accept returns for ever

	// Connections that wait for their headers; that have shown a LOCAL one; and that were told to
	// wait no longer but haven't noticed.
	waiting, held, interrupted queue
	timer                      *time.Timer // for the first whose time is over
	due                        time.Time   // when the timer goes off; zero if it isn't set
}

// accepted is a result of Accept.
type accepted struct {
	conn    net.Conn
	outcome outcome // what it counts as once Accept returns it
	err     error
}

// Listen is net.Listen and [NewListener] in one, as tls.Listen is. The network is "tcp", "tcp4",
// "tcp6" or "unix".
func Listen(network, address string, cfg *Config) (*Listener, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	inner, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	return NewListener(inner, cfg)
}

// NewListener returns a Listener around inner, any listener of stream connections: net.Listen's,
// or tls.NewListener's if the proxy sends its header inside TLS. For TLS of the client's own,
// which the proxy passes through, put tls.NewListener around the Listener.
//
// It returns an error if inner is nil or if cfg has no Policy or makes no sense, and then leaves
// inner as it is.
func NewListener(inner net.Listener, cfg *Config) (*Listener, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if inner == nil {
		return nil, errors.New("proxyproto: NewListener needs a listener")
	}
	ln := &Listener{inner: inner, cfg: cfg}
	ln.news.L = &ln.mu
	ln.SetPolicy(cfg.Policy)
	return ln, nil
}

// SetPolicy replaces the Policy for the connections that are accepted from now on. It may be
// called while serving. A nil Policy rejects everybody.
func (ln *Listener) SetPolicy(p Policy) { ln.policy.set(p) }

// Stats returns the counts up to now.
func (ln *Listener) Stats() Stats {
	s := ln.stats.stats()
	ln.mu.Lock()
	s.Pending = ln.waiting.n + ln.held.n
	ln.mu.Unlock()
	s.Accepted = ln.stats.accepted.Load()
	return s
}

// Addr returns the inner listener's address.
func (ln *Listener) Addr() net.Addr { return ln.inner.Addr() }

// Accept returns the next connection whose header is there and valid, as a *Conn; or, by
// what the Policy says of the peer, the inner connection itself (Skip) or a *Conn without a
// header (Optional, Ignore). If Config.Lazy is set it doesn't wait for headers.
//
// It blocks until there is one. What peers do is never an error: they are dropped, counted and
// reported to Config.OnDrop. The errors are the inner listener's, and one matched by net.ErrClosed
// once that or the Listener is closed, for ever. It may be called by several goroutines at once.
//
// When nobody calls Accept nothing is accepted from the inner listener, but for one connection
// that was waited for already: the kernel's backlog fills, not the heap.
func (ln *Listener) Accept() (net.Conn, error) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.callers++
	defer func() { ln.callers-- }()
	for {
		var a accepted
		switch {
		case ln.closed != nil:
			return nil, ln.closed
		case len(ln.ready) > 0:
			a = ln.ready[0]
			ln.ready = slices.Delete(ln.ready, 0, 1)
		case ln.accepting:
			ln.news.Wait()
		case ln.waiting.n+ln.held.n+ln.interrupted.n > 0:
			ln.accepting = true
			go ln.acceptAside()
		default:
			a = ln.acceptHere()
		}
		switch {
		case a.conn == nil && a.err == nil:
		case ln.closed != nil:
			ln.mu.Unlock()
			ln.discard(a)
			ln.mu.Lock()
		default:
			ln.stats.count(a.outcome)
			return a.conn, a.err
		}
	}
}

// acceptHere accepts in the goroutine of Accept's caller. It needs mu, releases it meanwhile, and
// leaves the Listener working if a function of the Config panics.
func (ln *Listener) acceptHere() accepted {
	ln.accepting = true
	ln.mu.Unlock()
	defer func() {
		ln.mu.Lock()
		ln.accepting = false
		ln.news.Signal() // the next caller's turn
	}()
	for {
		if a, wasDropped := ln.acceptNext(); !wasDropped {
			return a
		}
	}
}

// acceptAside accepts for the callers of Accept until each has a result.
func (ln *Listener) acceptAside() {
	ended := false
	defer func() {
		if !ended { // a function of the Config has ended the goroutine
			ln.mu.Lock()
			ln.accepting = false
			ln.news.Signal()
			ln.mu.Unlock()
		}
	}()
	for !ended {
		a, _ := ln.acceptNext()
		ln.mu.Lock()
		closed := ln.closed != nil
		if !closed && (a.conn != nil || a.err != nil) {
			ln.ready = append(ln.ready, a)
			ln.news.Signal()
		}
		if ended = closed || len(ln.ready) >= ln.callers; ended {
			ln.accepting = false
			ln.news.Signal()
		}
		ln.mu.Unlock()
		if closed {
			ln.discard(a)
		}
	}
}

// discard closes a connection that no Accept returns, because the Listener was closed.
func (ln *Listener) discard(a accepted) {
	if a.conn == nil {
		return
	}
	ln.stats.drop(ReasonClosed)
	if c, ok := a.conn.(*Conn); ok {
		hangUp(c.inner)
	} else {
		hangUp(a.conn)
	}
}

// acceptNext accepts a connection from the inner listener. It returns what Accept is to return,
// nothing if the connection waits for its header, or reports that it was dropped.
func (ln *Listener) acceptNext() (a accepted, wasDropped bool) {
	inner, err := ln.inner.Accept()
	if err != nil {
		if errors.Is(err, net.ErrClosed) {
			ln.shut(err)
		}
		return accepted{err: err}, false
	}
	ln.stats.accepted.Add(1)
	return ln.admit(inner)
}

// admit looks at a new connection, with acceptNext's results.
func (ln *Listener) admit(inner net.Conn) (a accepted, wasDropped bool) {
	panics := true
	defer func() {
		if panics { // in a function of the Config: whoever recovers doesn't know the connection
			closeChain(inner)
		}
	}()
	r := headerReader{cfg: ln.cfg, stats: &ln.stats, peer: peerOf(inner)}
	switch r.action = ln.policy.ask(r.peer); r.action {
	case Skip:
		a = accepted{conn: inner, outcome: servedSkipped}
	case Require, Optional, Ignore:
		a, wasDropped = ln.begin(r)
	default:
		r.drop(ReasonRejected, errRejected)
		hangUp(inner)
		r.report(r.fault())
		wasDropped = true
	}
	panics = false
	return a, wasDropped
}

// begin makes a Conn and decides its header if that has already arrived.
func (ln *Listener) begin(r headerReader) (a accepted, wasDropped bool) {
	if ln.cfg.Lazy && r.action != Ignore {
		return accepted{conn: newGatedConn(r)}, false
	}
	c := &Conn{inner: r.peer.Conn}
	r.buf = newBuffer()
	err := r.buf.readNow(c.inner)
	if err == errNothingYet {
		err = nil
	}
	v := r.step(&c.header, err)
	if v == served {
		v = r.confirm(&c.header)
	}
	switch v {
	case served:
		if holds(&r, &c.header) {
			ln.enqueue(c, r, true)
			return accepted{}, false
		}
		a = accepted{conn: c, outcome: r.outcome(&c.header)}
		c.open(&r)
		return a, false
	case ended:
		if r.action == Ignore { // the client may wait for what the server says
			c.open(&r)
			return accepted{conn: c, outcome: probed}, false
		}
		hangUp(c.inner)
		r.probe()
		return accepted{}, true
	case dropped:
		hangUp(c.inner)
		r.report(r.fault())
		return accepted{}, true
	}
	if r.action == Ignore {
		return accepted{conn: newGatedConn(r)}, false
	}
	ln.enqueue(c, r, false)
	return accepted{}, false
}

// Close closes the inner listener and all connections that no Accept has returned. Every
// Accept that waits returns, and those to come do so at once. The goroutines of these connections
// end without waiting for their peers, and Close waits neither for them nor for functions of the
// Config.
func (ln *Listener) Close() error {
	err := &net.OpError{Op: "accept", Net: "tcp", Err: net.ErrClosed}
	if addr := ln.Addr(); addr != nil {
		err.Net, err.Addr = addr.Network(), addr
	}
	ln.shut(err)
	return ln.inner.Close()
}

// shut ends the Listener's work; err is what Accept returns from now on.
func (ln *Listener) shut(err error) {
	ln.mu.Lock()
	if ln.closed == nil {
		ln.closed = err
	}
	for _, q := range ln.queues() {
		for q.first != nil {
			ln.expel(q.first, ReasonClosed)
		}
	}
	ready := ln.ready
	ln.ready = nil
	if ln.timer != nil {
		ln.timer.Stop()
	}
	ln.news.Broadcast()
	ln.mu.Unlock()
	for _, a := range ready {
		ln.discard(a)
	}
}
