package proxyproto

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Listener accepts connections from an inner listener, and returns those that have
// shown a valid header as connections from their clients. See [NewListener].
type Listener struct {
	inner  net.Listener
	cfg    Config
	policy livePolicy
	stats  counters

	// Whoever calls Accept accepts from the inner listener itself as long as nobody else does
	// and no connection waits for its header; that is the case when proxies send their header at
	// once, and costs nothing. If one waits, a goroutine accepts, so that Accept can return
	// whichever connection is the first to be ready. Neither goes on accepting when all callers of Accept
	// are served.
	mu        sync.Mutex
	news      sync.Cond  // something is ready, nobody is accepting any more, or the Listener has closed
	waiting   int        // callers of Accept
	accepting bool       // somebody accepts from the inner listener
	pending   queue      // connections that wait for their headers
	ready     []accepted // results that no caller has taken yet
	closed    error      // what Accept returns for ever
}

// accepted is a result of Accept.
type accepted struct {
	conn net.Conn
	err  error
}

// NewListener returns a Listener around inner, any listener of stream connections: net.Listen's,
// or tls.NewListener's if the proxy sends its header inside TLS. For TLS of the client's own,
// which the proxy passes through, put tls.NewListener around the Listener.
//
// It returns an error if cfg has no Policy or makes no sense, and then leaves inner as it is.
func NewListener(inner net.Listener, cfg *Config) (*Listener, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	ln := &Listener{inner: inner, cfg: cfg.own()}
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
	s.Pending = ln.pending.n
	ln.mu.Unlock()
	return s
}

// Addr returns the inner listener's address.
func (ln *Listener) Addr() net.Addr { return ln.inner.Addr() }

// Accept returns the next connection whose header is there and valid, as a *Conn; or, by
// what the Policy says of the peer, the inner connection itself (Skip) or a *Conn without a
// header (Optional, Ignore). If Config.Lazy is set it doesn't wait for headers.
//
// It blocks until there is one. What peers do is never an error: they are dropped, counted and
// told to Config.OnDrop. The errors are the inner listener's, and one matched by net.ErrClosed
// once that or the Listener is closed, for ever. It may be called by several goroutines at once.
//
// When nobody calls Accept nothing is accepted from the inner listener, but for one connection
// that was waited for already: the kernel's backlog fills, not the heap.
func (ln *Listener) Accept() (net.Conn, error) {
	ln.mu.Lock()
	ln.waiting++
	var r accepted
	for r.conn == nil && r.err == nil {
		switch {
		case len(ln.ready) > 0:
			r = ln.ready[0]
			ln.ready = slices.Delete(ln.ready, 0, 1)
		case ln.closed != nil:
			r.err = ln.closed
		case ln.accepting:
			ln.news.Wait()
		case ln.pending.n > 0:
			ln.accepting = true
			go ln.acceptAside()
		default:
			ln.accepting = true
			ln.mu.Unlock()
			r.conn, r.err = ln.acceptNext()
			ln.mu.Lock()
			ln.accepting = false
			ln.news.Signal() // the next caller's turn
		}
	}
	ln.waiting--
	ln.mu.Unlock()
	return r.conn, r.err
}

// acceptAside accepts for the callers of Accept until each has a result.
func (ln *Listener) acceptAside() {
	for {
		conn, err := ln.acceptNext()
		ln.mu.Lock()
		if conn != nil || err != nil {
			ln.deliver(conn, err)
		}
		if ln.closed != nil || len(ln.ready) >= ln.waiting {
			ln.accepting = false
			ln.mu.Unlock()
			return
		}
		ln.mu.Unlock()
	}
}

// deliver hands a result to the callers of Accept. Needs mu.
func (ln *Listener) deliver(conn net.Conn, err error) {
	if ln.closed != nil {
		if conn != nil {
			conn.Close()
		}
		return
	}
	ln.ready = append(ln.ready, accepted{conn, err})
	ln.news.Signal()
}

// acceptNext accepts from the inner listener until there is a connection to return, or an
// error, or a connection waits for its header: then it returns neither.
func (ln *Listener) acceptNext() (net.Conn, error) {
	for {
		inner, err := ln.inner.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				ln.shut(err)
			}
			return nil, err
		}
		ln.stats.accepted.Add(1)
		conn, dropped := ln.admit(inner)
		if !dropped {
			return conn, nil
		}
	}
}

// admit looks at a new connection. It returns what Accept is to return, nothing if the header
// isn't there yet, or reports that the connection was dropped.
func (ln *Listener) admit(inner net.Conn) (conn net.Conn, dropped bool) {
	peer := addrPort(inner.RemoteAddr())
	switch action := ln.policy.ask(peer, addrPort(inner.LocalAddr())); action {
	case Skip:
		ln.stats.skipped.Add(1)
		return inner, false
	case Require, Optional, Ignore:
		return ln.begin(inner, action, peer)
	}
	inner.Close()
	ln.cfg.drop(&ln.stats, peer, ReasonRejected, errRejected, nil)
	return nil, true
}

// begin makes a Conn and decides its header if that has already arrived.
func (ln *Listener) begin(inner net.Conn, action Action, peer netip.AddrPort) (conn net.Conn, dropped bool) {
	c := &Conn{inner: inner}
	a := c.await(&ln.cfg, &ln.stats, action, peer)
	if ln.cfg.Lazy {
		return c, false
	}
	a.buf = newBuffer()
	readErr := a.buf.readNow(inner)
	if readErr == errNothingYet {
		readErr = nil
	}
	settled, err := a.decide(context.Background(), c, readErr)
	switch {
	case settled:
		a.release()
		return c, false
	case err != nil:
		a.release()
		return nil, true
	}
	a.ln, a.conn = ln, c
	a.limit = time.Now().Add(ln.cfg.headerTimeout())
	ln.enqueue(a)
	return nil, false
}

// enqueue makes a connection wait for its header, and the one that has waited longest give way
// if there are too many.
func (ln *Listener) enqueue(a *awaiting) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	switch {
	case ln.closed != nil:
		a.expel(a.conn, ReasonClosed)
	case ln.pending.n == ln.cfg.maxPending():
		oldest := ln.pending.first
		ln.pending.remove(oldest)
		oldest.expel(oldest.conn, ReasonEvicted)
	}
	ln.pending.add(a)
	if a.run == nil {
		a.run = a.keep
	}
	go a.run()
}

// keep is the goroutine of a connection that waits for its header.
func (a *awaiting) keep() {
	ln, c := a.ln, a.conn
	err := c.readHeader(context.Background())
	ln.mu.Lock()
	ln.pending.remove(a)
	if err == nil {
		ln.deliver(c, nil)
	}
	ln.mu.Unlock()
	a.release()
}

// Close closes the inner listener and all connections that no Accept has returned. Every
// Accept that waits returns, and those to come do so at once. No goroutine is left behind once
// these connections have ended, which they do without waiting for their peers.
func (ln *Listener) Close() error {
	err := ln.inner.Close()
	ln.shut(&net.OpError{Op: "accept", Net: ln.Addr().Network(), Addr: ln.Addr(), Err: net.ErrClosed})
	return err
}

// shut ends the Listener's work; err is what Accept returns from now on.
func (ln *Listener) shut(err error) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.closed != nil {
		return
	}
	ln.closed = err
	for a := ln.pending.first; a != nil; a = a.next {
		a.expel(a.conn, ReasonClosed)
	}
	for _, r := range ln.ready {
		if r.conn != nil {
			r.conn.Close()
		}
	}
	ln.ready = nil
	ln.news.Broadcast()
}

// queue is a list of waiting connections, the oldest first.
type queue struct {
	first, last *awaiting
	n           int
}

func (q *queue) add(a *awaiting) {
	a.prev = q.last
	if q.last == nil {
		q.first = a
	} else {
		q.last.next = a
	}
	q.last = a
	q.n++
}

// remove takes a out of the queue, if it is in it.
func (q *queue) remove(a *awaiting) {
	switch {
	case a.prev != nil:
		a.prev.next = a.next
	case q.first == a:
		q.first = a.next
	default:
		return
	}
	if a.next != nil {
		a.next.prev = a.prev
	} else {
		q.last = a.prev
	}
	a.prev, a.next = nil, nil
	q.n--
}
