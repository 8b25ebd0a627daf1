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
	canceled bool      // the context of the one who reads has ended
	reading  uint      // tells that one from those before
	begun    bool      // a byte has come
	waiting  int       // calls of ReadHeader that wait for the first byte

	// The alarm enforces HeaderTimeout. It closes the connection, but for the silence of a peer
	// that needs no header: then it interrupts the Read.
	alarm   *time.Timer
	set     uint // tells the alarm from those before
	silent  bool // it has interrupted
	expired bool // it has closed
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
	limited bool // HeaderTimeout limits the wait for the first byte too
	waits   bool // it is counted in gate.waiting
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
	for v == undecided && readErr == nil {
		if len(r.buf.bytes()) > 0 {
			g.begin(c)
		}
		readErr = r.buf.readFrom(c.inner)
		v = r.step(&c.header, readErr)
	}
	if v == undecided {
		if g.handOver(c) {
			return !p.limited, nil
		}
		if !g.hasExpired() {
			if len(r.buf.bytes()) == 0 {
				r.buf.release()
				r.buf = nil
			}
			if p.ctx.Err() != nil {
				return false, p.ctx.Err()
			}
			return false, readErr // the user's deadline
		}
	}
	if v == served {
		v = r.confirm(&c.header)
	}
	return false, g.decide(c, v, readErr)
}

// decide lets the connection through or closes it. It needs the turn.
func (g *gate) decide(c *Conn, v verdict, readErr error) error {
	r := &g.reader
	through := v == served || v == ended && r.action != Require
	if g.stop() {
		v, through = r.dropTimeout(), false
	}
	switch {
	case through && v == ended: // the peer may wait for what we have to say
		r.stats.count(probed)
	case through:
		r.stats.count(r.outcome(&c.header))
		readErr = nil
	case v == ended:
		g.err = io.EOF
		r.closeProbe()
		return g.err
	default:
		c.header = Header{}
		drop := r.close()
		g.err = c.opError("read", drop)
		r.report(drop)
		return g.err
	}
	c.open(r)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.uninterrupt(c)
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
		return c.inner.SetReadDeadline(aLongTimeAgo)
	}
	return c.inner.SetReadDeadline(g.deadline)
}

// uninterrupt gives the inner connection the user's read deadline back. It needs mu.
func (g *gate) uninterrupt(c *Conn) {
	g.reading++
	if g.canceled || g.silent {
		g.canceled, g.silent = false, false
		g.apply(c)
	}
}

// interruptWhenDone makes the Read of whoever has the turn return when ctx ends, until the
// function that it returns is called.
func (g *gate) interruptWhenDone(ctx context.Context, c *Conn) (end func()) {
	g.mu.Lock()
	g.reading++
	id := g.reading
	g.mu.Unlock()
	set := func(canceled bool) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.reading == id && g.canceled != canceled {
			g.canceled = canceled
			g.apply(c)
		}
	}
	stop := context.AfterFunc(ctx, func() { set(true) })
	return func() {
		stop()
		set(false)
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.reading == id {
			g.reading++
		}
	}
}

// wait sets the alarm for a limited passage that has to wait for the first byte.
func (g *gate) wait(c *Conn, p *passage) {
	if !p.limited || p.waits {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p.waits = true
	g.waiting++
	if g.alarm == nil && !g.begun && !g.settled.Load() {
		g.arm(c)
	}
}

func (g *gate) endWait(c *Conn, p *passage) {
	if !p.waits {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting--
	if g.waiting == 0 && !g.begun {
		g.disarm()
		if g.silent {
			g.silent = false
			g.apply(c)
		}
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
		g.disarm()
	}
	if g.alarm == nil {
		g.arm(c)
	}
}

// handOver makes silence the end of the wait for a header, if HeaderTimeout has passed in it. It
// needs the turn.
func (g *gate) handOver(c *Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.silent {
		return false
	}
	g.silent = false
	g.apply(c)
	g.disarm()
	g.reader.late = true
	g.settled.Store(true)
	return true
}

// stop ends the alarm, and reports whether it has closed the connection.
func (g *gate) stop() (expired bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.disarm()
	return g.expired
}

func (g *gate) hasExpired() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.expired
}

// arm sets the alarm to HeaderTimeout. It needs mu, as disarm does.
func (g *gate) arm(c *Conn) {
	if limit := g.reader.cfg.headerTimeout(); limit > 0 {
		g.armAfter(c, limit)
	}
}

func (g *gate) armAfter(c *Conn, limit time.Duration) {
	g.set++
	id := g.set
	g.alarm = time.AfterFunc(limit, func() { g.ring(c, id) })
}

func (g *gate) disarm() {
	g.set++
	if g.alarm != nil {
		g.alarm.Stop()
		g.alarm = nil
	}
}

// ring is what the alarm does.
func (g *gate) ring(c *Conn, id uint) {
	if !g.expire(c, id) {
		return
	}
	innermost(c.inner).Close()
}

// expire interrupts the silence that may end in a hand-over, or reports that the connection is to
// be closed: whatever its deadlines do.
func (g *gate) expire(c *Conn, id uint) (closes bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.set != id {
		return false
	}
	if g.reader.action == Optional && !g.begun && !g.silent && !g.settled.Load() {
		g.silent = true
		if g.apply(c) == nil {
			g.armAfter(c, interruptGrace)
			return false
		}
	}
	g.expired = true
	return true
}

// close takes a header that has arrived and that nobody has read off a connection which is about
// to be closed.
func (g *gate) close(inner net.Conn) {
	g.mu.Lock()
	g.disarm()
	g.mu.Unlock()
	b := newBuffer()
	b.readLast(inner)
	b.release()
}
