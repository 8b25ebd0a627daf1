package proxyproto

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A gate is what a Conn has as long as its first bytes aren't decided: a lazy one until its header
// is read, and one that was served before its first byte came until it is known that they are no
// header. Users share it: whoever has the turn reads, and the deadlines are guarded by mu.
type gate struct {
	turn chan struct{} // holds a token while somebody reads

	// The turn's.
	reader headerReader
	err    error // what ended the connection for good

	// settled says that the addresses can't change any more: under Ignore, and after a hand-over.
	settled atomic.Bool

	mu       sync.Mutex
	deadline time.Time // the user's, for reads
	reading  uint      // tells the one who reads from those before
	begun    bool      // a byte has come
	over     bool      // the first bytes are decided

	// Why a Read was interrupted: the context of the one who reads has ended, or the peer was
	// silent through the HeaderTimeout of a ReadHeader.
	canceled, silent bool
	interrupted      bool // it was, and hasn't returned yet

	waiting int         // calls of ReadHeader that wait for the first byte
	alarm   *time.Timer // ends HeaderTimeout for bytes that were held back
	expired bool        // the connection was closed because the time was over
}

// aLongTimeAgo is a deadline that makes a Read which waits return at once.
var aLongTimeAgo = time.Unix(1, 0)

// interruptGrace is how long an inner connection may take to end a Read whose deadline has
// passed, before it is closed.
const interruptGrace = time.Second

// newGatedConn returns a Conn whose first bytes its user reads.
func newGatedConn(r headerReader) *Conn {
	both := new(struct {
		c Conn
		g gate
	})
	both.c.inner = r.peer.Conn
	both.g.init(r)
	both.c.gate.Store(&both.g)
	return &both.c
}

func (g *gate) init(r headerReader) {
	g.reader = r
	g.turn = make(chan struct{}, 1)
	g.settled.Store(r.action == Ignore || r.late)
}

// A passage is one call that wants to be let through.
type passage struct {
	ctx     context.Context
	limited bool    // HeaderTimeout limits the wait for the first byte too
	waiter  *waiter // set when it waits for that
}

// A waiter enforces HeaderTimeout for one call of ReadHeader.
type waiter struct {
	timer *time.Timer
	over  bool // guarded by the gate's mu
}

// pass returns nil when the connection's first bytes are decided and it is to be served, or, if
// limited, when nothing about its addresses is left to decide.
func (g *gate) pass(ctx context.Context, c *Conn, limited bool) error {
	p := passage{ctx: ctx, limited: limited}
	defer g.endWait(c, &p)
	for {
		if again, err := g.tryPass(c, &p); !again {
			return err
		}
	}
}

// tryPass takes the turn and reads. It says again if the connection was handed over meanwhile:
// those that wait for just that come first then.
func (g *gate) tryPass(c *Conn, p *passage) (again bool, err error) {
	select {
	case g.turn <- struct{}{}:
	default:
		g.wait(c, p)
		select {
		case g.turn <- struct{}{}:
		case <-p.ctx.Done():
			return false, p.ctx.Err()
		}
	}
	defer func() { <-g.turn }()
	switch {
	case c.gate.Load() != g:
		return false, nil
	case g.err != nil:
		return false, g.err
	case p.limited && g.settled.Load():
		return false, nil
	case p.ctx.Err() != nil:
		return false, p.ctx.Err()
	}
	if p.ctx.Done() != nil {
		defer g.interruptWhenDone(p.ctx, c)()
	}
	return g.read(c, p)
}

// read reads until the first bytes are decided. It needs the turn.
func (g *gate) read(c *Conn, p *passage) (again bool, err error) {
	r := &g.reader
	if r.buf == nil {
		r.buf = newBuffer()
	}
	var readErr error
	v := r.step(&c.header, nil) // what a call before has read
	if v == undecided && p.limited {
		if readErr = r.buf.readNow(c.inner); readErr == errNothingYet {
			readErr = nil
			g.wait(c, p)
		}
		v = r.step(&c.header, readErr)
	}
	for ; v == undecided; v = r.step(&c.header, readErr) {
		if readErr != nil {
			switch g.whoseTimeout(c, p.ctx) {
			case theSilence:
				return !p.limited, nil
			case theLimits:
				return false, g.decide(c, p, v, readErr)
			case theContexts:
				return false, p.ctx.Err()
			case theUsers:
				return false, readErr
			}
		}
		if len(r.buf.bytes()) > 0 {
			g.begin(c)
		}
		readErr = r.buf.readFrom(c.inner)
	}
	if v == served {
		v = r.confirm(&c.header)
	}
	return false, g.decide(c, p, v, readErr)
}

// A timeout says whose deadline has ended a Read.
type timeout uint8

const (
	nobodys     timeout = iota // any more: read on
	theUsers                   // what was read is kept for the next call
	theContexts                // so it is here
	theSilence                 // which has ended the wait for a header
	theLimits                  // HeaderTimeout's: the connection is closed
)

// whoseTimeout says why a Read timed out. It needs the turn.
func (g *gate) whoseTimeout(c *Conn, ctx context.Context) timeout {
	g.mu.Lock()
	defer g.mu.Unlock()
	interrupted := g.interrupted
	g.interrupted = false
	r := &g.reader
	switch {
	case g.expired:
		return theLimits
	case g.silent:
		g.silent = false
		g.apply(c)
		r.late = true
		g.settled.Store(true)
		return theSilence
	case ctx.Err() == nil && interrupted:
		return nobodys
	}
	if len(r.buf.bytes()) == 0 {
		r.buf.release()
		r.buf = nil
	}
	if ctx.Err() != nil {
		return theContexts
	}
	return theUsers
}

// decide lets the connection through or closes it. It needs the turn.
func (g *gate) decide(c *Conn, p *passage, v verdict, readErr error) error {
	r := &g.reader
	through := v == served || v == ended && r.action != Require
	if g.stop() {
		v, through = r.dropTimeout(), false
	} else if !through {
		closeChain(c.inner)
	}
	switch {
	case through && v == ended: // the peer may wait for what we have to say
		r.stats.count(probed)
		if p.limited {
			readErr = nil
		}
	case through:
		r.stats.count(r.outcome(&c.header))
		readErr = nil
	case v == ended:
		g.err = io.EOF
		r.probe()
		return g.err
	default:
		c.header = Header{}
		drop := r.fault()
		g.err = c.opError("read", drop)
		r.report(drop)
		return g.err
	}
	c.open(r)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reading++
	if g.canceled || g.silent {
		g.canceled, g.silent = false, false
		g.apply(c)
	}
	c.gate.Store(nil)
	return readErr
}

// setReadDeadline sets the user's deadline for reads.
func (g *gate) setReadDeadline(c *Conn, t time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deadline = t
	return g.apply(c)
}

// apply sets the inner connection's read deadline. It needs mu.
func (g *gate) apply(c *Conn) error {
	if g.canceled || g.silent {
		g.interrupted = true
		return c.inner.SetReadDeadline(aLongTimeAgo)
	}
	return c.inner.SetReadDeadline(g.deadline)
}

// interruptWhenDone makes the Read of whoever has the turn return when ctx ends, until the
// function that it returns is called. A connection that doesn't heed that, as one with TLS inside
// whose handshake is stuck in Write, is closed.
func (g *gate) interruptWhenDone(ctx context.Context, c *Conn) (end func()) {
	g.mu.Lock()
	g.reading++
	id := g.reading
	g.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.reading != id {
			return
		}
		g.canceled = true
		g.apply(c)
		time.AfterFunc(interruptGrace,
			func() { g.expire(c, func() bool { return g.reading == id }) })
	})
	return func() {
		stop()
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.reading != id {
			return
		}
		g.reading++
		if g.canceled {
			g.canceled = false
			g.apply(c)
		}
	}
}

// wait limits how long a passage waits for the first byte.
func (g *gate) wait(c *Conn, p *passage) {
	limit := g.reader.cfg.headerTimeout()
	if !p.limited || p.waiter != nil || limit == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.begun || g.over || g.settled.Load() {
		return
	}
	w := new(waiter)
	w.timer = time.AfterFunc(limit, func() { g.runOut(c, w) })
	g.waiting++
	p.waiter = w
}

// runOut is called when a waiter has waited through HeaderTimeout. Silence of a peer that needs no
// header ends in a hand-over: the Read is interrupted. For any other, and when that doesn't help
// within a grace, the connection is closed, whatever its deadlines do.
func (g *gate) runOut(c *Conn, w *waiter) {
	g.mu.Lock()
	if g.reader.action == Optional && (g.begun || w.over) {
		g.mu.Unlock()
		return // a header that has begun has its own time
	}
	if g.reader.action == Optional && !g.silent && !w.over && !g.over && !g.settled.Load() {
		g.silent = true
		if g.apply(c) == nil {
			w.timer = time.AfterFunc(interruptGrace, func() { g.runOut(c, w) })
			g.mu.Unlock()
			return
		}
	}
	g.mu.Unlock()
	g.expire(c, func() bool { return !w.over && !g.settled.Load() })
}

func (g *gate) endWait(c *Conn, p *passage) {
	if p.waiter == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p.waiter.over = true
	p.waiter.timer.Stop()
	g.waiting--
	if g.waiting == 0 && g.silent {
		g.silent = false
		g.apply(c)
	}
}

// begin sets the alarm when the first bytes are there and don't suffice.
func (g *gate) begin(c *Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.begun {
		return
	}
	g.begun = true
	if g.silent { // by a hair: this peer isn't silent
		g.silent = false
		g.apply(c)
	}
	if limit := g.reader.cfg.headerTimeout(); limit > 0 {
		g.alarm = time.AfterFunc(limit, func() { g.expire(c, func() bool { return true }) })
	}
}

// expire closes the connection because its time is over, if that still holds and nothing is
// decided yet.
func (g *gate) expire(c *Conn, holds func() bool) {
	g.mu.Lock()
	expired := !g.over && holds()
	g.expired = g.expired || expired
	g.mu.Unlock()
	if expired {
		closeChain(c.inner)
	}
}

// stop ends the time, and reports whether it was over before.
func (g *gate) stop() (expired bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
	if g.alarm != nil {
		g.alarm.Stop()
	}
	return g.expired
}

// close takes a header that has arrived and that nobody has read off a connection which is about
// to be closed.
func (g *gate) close(inner net.Conn) {
	g.stop()
	b := newBuffer()
	b.readLast(inner)
	b.release()
}
