package proxyproto

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// errRejected is the cause of ReasonRejected, and errEvicted that of ReasonEvicted.
const (
	errRejected = dropReason("the policy rejects this peer")
	errEvicted  = dropReason("too many connections wait for their headers, this one for the longest time")
)

// awaiting is what a Conn has only as long as its header isn't decided.
//
// It is pooled, so that a connection whose header comes late costs no more memory than
// one whose header is there at once. Whoever has got one from c.awaiting may therefore hold
// another connection's by the time that it has locked mu: it must look again whether
// c.awaiting is still the same, and use nothing but mu and turn if not.
type awaiting struct {
	cfg    *Config
	stats  *counters
	action Action
	peer   netip.AddrPort

	// Only for a connection that a Listener keeps until its header is there.
	ln         *Listener
	conn       *Conn
	prev, next *awaiting // in the listener's queue, guarded by its mu
	run        func()    // a.keep, bound once for all connections

	mu       sync.Mutex
	turn     sync.Cond // for those that want to be the reader
	reader   int       // who reads the header now, 0 if nobody does
	tickets  int       // the last one that a reader got
	limit    time.Time // for the header; zero until the first one reads
	deadline time.Time // the user's
	expelled Reason    // why the reader must give up, if it must
	aborted  bool      // whether the reader's context has ended
	err      error     // what ended it for good

	// The reader's.
	buf *buffer
}

var awaitings = sync.Pool{New: func() any {
	a := new(awaiting)
	a.turn.L = &a.mu
	return a
}}

// await makes c a connection whose header is awaited. stats may be nil.
func (c *Conn) await(cfg *Config, stats *counters, action Action, peer netip.AddrPort) *awaiting {
	a := awaitings.Get().(*awaiting)
	a.cfg, a.stats, a.action, a.peer = cfg, stats, action, peer
	c.awaiting.Store(a)
	return a
}

// release gives a back when nobody but its caller can use the connection's header any more.
func (a *awaiting) release() {
	a.mu.Lock()
	a.cfg, a.stats, a.ln, a.conn, a.buf = nil, nil, nil, nil, nil
	a.limit, a.deadline = time.Time{}, time.Time{}
	a.reader, a.expelled, a.aborted, a.err = 0, 0, false, nil
	a.mu.Unlock()
	awaitings.Put(a)
}

// ReadHeader reads the header if that hasn't been done, and returns nil when the connection
// can be used: its header is valid, or it does without one. It blocks until then, for
// Config.HeaderTimeout at most, and not longer than ctx and the read deadline allow.
//
// After an error of ctx or of the read deadline it can be called again, and nothing is lost.
// After any other the connection is closed; the error is that of [Conn.Read].
func (c *Conn) ReadHeader(ctx context.Context) error { return c.readHeader(ctx) }

func (c *Conn) readHeader(ctx context.Context) error {
	a := c.awaiting.Load()
	if a == nil {
		return nil
	}
	settled, err := a.readInTurn(ctx, c)
	if settled && a.ln == nil {
		a.release()
	}
	return err
}

// readInTurn waits until nobody else reads the header, and reads it if it still isn't
// decided then. It reports whether this call was the one that accepted it.
func (a *awaiting) readInTurn(ctx context.Context, c *Conn) (settled bool, err error) {
	a.mu.Lock()
	a.tickets++
	ticket := a.tickets
	a.mu.Unlock()
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { a.abort(c, ticket) })
		defer stop()
	}
	if ours, err := a.takeTurn(ctx, c, ticket); !ours {
		return false, err
	}
	defer a.endTurn(c)
	if a.buf == nil {
		a.buf = newBuffer()
	}
	a.mu.Lock()
	err = a.applyDeadline(c)
	a.mu.Unlock()
	settled, err = a.decide(ctx, c, err)
	for !settled && err == nil {
		err = a.buf.readFrom(c.inner)
		settled, err = a.decide(ctx, c, err)
	}
	return settled, err
}

// takeTurn makes the call with the ticket the reader. If there is nothing to read any more,
// or not in time, it isn't, and err is what its call returns.
func (a *awaiting) takeTurn(ctx context.Context, c *Conn, ticket int) (ours bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c.awaiting.Load() == a && a.reader != 0 && ctx.Err() == nil {
		a.turn.Wait()
	}
	switch {
	case c.awaiting.Load() != a:
		return false, nil
	case a.err != nil:
		return false, a.err
	case ctx.Err() != nil:
		return false, ctx.Err()
	}
	a.reader = ticket
	if a.limit.IsZero() {
		a.limit = time.Now().Add(a.cfg.headerTimeout())
	}
	return true, nil
}

// endTurn lets the next one read, also if a function of the Config has panicked.
func (a *awaiting) endTurn(c *Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reader = 0
	a.turn.Broadcast()
	if a.aborted && c.awaiting.Load() == a {
		a.aborted = false
		a.applyDeadline(c)
	}
}

// abort ends the wait of the call with the ticket because its context has ended.
func (a *awaiting) abort(c *Conn, ticket int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.awaiting.Load() != a {
		return
	}
	if a.reader == ticket {
		a.aborted = true
		a.applyDeadline(c)
	}
	a.turn.Broadcast()
}

// expel makes the reader of the header give up.
func (a *awaiting) expel(c *Conn, why Reason) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.awaiting.Load() == a {
		a.expelled = why
		a.applyDeadline(c)
	}
}

// discard takes a header that has arrived and that nobody reads off a connection which is
// about to be closed: bytes left unread would make the kernel send a reset, which can
// overtake what was written.
func (a *awaiting) discard(c *Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.awaiting.Load() == a && a.reader == 0 && a.err == nil {
		b := newBuffer()
		b.readLast(c.inner)
		b.release()
	}
}

// applyDeadline sets the inner connection's read deadline to what comes first. Needs mu.
func (a *awaiting) applyDeadline(c *Conn) error {
	t := a.deadline
	switch {
	case a.aborted || a.expelled != 0:
		t = time.Unix(1, 0)
	case t.IsZero() || !a.limit.IsZero() && a.limit.Before(t):
		t = a.limit
	}
	return c.inner.SetReadDeadline(t)
}

// decide looks at what has been read, and at how the last read failed if it did. It accepts
// the header, or returns an error, or neither if more has to be read. Only the reader calls it.
func (a *awaiting) decide(ctx context.Context, c *Conn, readErr error) (settled bool, err error) {
	if sent := a.buf.bytes(); len(sent) > 0 {
		var h Header
		n, reason, err := a.cfg.judge(&h, a.action, sent, readErr == io.EOF)
		switch {
		case reason != 0:
			return false, a.refuse(c, reason, err)
		case err == nil:
			return a.accept(c, &h, n)
		}
	} else if isEnd(readErr) {
		return false, a.probe(c)
	}
	switch {
	case readErr == nil:
		return false, nil
	case isTimeout(readErr):
		return false, a.timeout(ctx, c, readErr)
	case errors.Is(readErr, net.ErrClosed), errors.Is(readErr, io.ErrClosedPipe):
		return false, a.refuse(c, ReasonClosed, readErr)
	}
	return false, a.refuse(c, ReasonBroken, readErr)
}

// isEnd reports whether a read failed because the peer has ended the connection, be it by a
// reset, as many health checks do.
func isEnd(err error) bool {
	if err == nil || err == io.EOF {
		return err != nil
	}
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "read" && !e.Timeout() && !errors.Is(err, net.ErrClosed)
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// timeout tells whose time has come: the Listener's patience, the header's, the context's or
// the user's. The last two can be tried again, so the buffer stays if there is something in it.
func (a *awaiting) timeout(ctx context.Context, c *Conn, err error) error {
	a.mu.Lock()
	expelled, late := a.expelled, !time.Now().Before(a.limit)
	a.mu.Unlock()
	switch {
	case expelled == ReasonEvicted:
		return a.refuse(c, ReasonEvicted, errEvicted)
	case expelled != 0:
		return a.refuse(c, expelled, net.ErrClosed)
	case late:
		return a.refuse(c, ReasonTimeout, os.ErrDeadlineExceeded)
	case a.ln != nil: // nobody has set a deadline: it is the connection's own, such as TCP's ETIMEDOUT
		return a.refuse(c, ReasonBroken, err)
	}
	if len(a.buf.bytes()) == 0 {
		a.buf.release()
		a.buf = nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// accept takes the header of n bytes and ends the waiting, unless Validate refuses it.
func (a *awaiting) accept(c *Conn, h *Header, n int) (settled bool, err error) {
	if err := c.take(a.cfg, a.action, a.peer, h, n, a.buf); err != nil {
		return false, a.refuse(c, ReasonInvalid, err)
	}
	a.buf = nil
	a.stats.serve(a.action, h)
	a.mu.Lock()
	defer a.mu.Unlock()
	c.awaiting.Store(nil)
	if !a.limit.IsZero() {
		c.inner.SetReadDeadline(a.deadline)
	}
	return true, nil
}

// take makes h, which the first n bytes of b are, the connection's header, and the bytes
// behind it the first of its payload. If Validate refuses h, b is still the caller's.
func (c *Conn) take(cfg *Config, action Action, peer netip.AddrPort, h *Header, n int, b *buffer) error {
	if h.Version != 0 && action != Ignore {
		c.header = h.Clone()
		if cfg.Validate != nil {
			if err := cfg.Validate(peer, &c.header); err != nil {
				return err
			}
		}
		if h.Source.IsValid() {
			c.source.set(h.Source)
			c.destination.set(h.Destination)
		}
	}
	b.start = n
	if b.start < b.end {
		c.prefix.Store(b)
	} else {
		b.release()
	}
	return nil
}

// refuse drops the connection; every later call gets the same error.
func (a *awaiting) refuse(c *Conn, reason Reason, cause error) error {
	c.inner.Close()
	drop := a.cfg.drop(a.stats, a.peer, reason, cause, a.buf.bytes())
	return a.end(c.opError("read", drop))
}

// probe drops a connection that ended without having sent a byte.
func (a *awaiting) probe(c *Conn) error {
	c.inner.Close()
	a.stats.probe()
	return a.end(io.EOF)
}

func (a *awaiting) end(err error) error {
	a.buf.release()
	a.buf = nil
	a.mu.Lock()
	a.err = err
	a.mu.Unlock()
	return err
}
