package proxyproto

import (
	"net"
	"sync"
	"time"
)

// probeHold is how long a LOCAL header alone is held, to see whether it was all of a health check.
const probeHold = 100 * time.Millisecond

// pending is a connection that a Listener keeps until its header is there. Nobody else knows it:
// its goroutine reads, and the Listener's queues, with all else that mu guards, say for how long.
type pending struct {
	headerReader
	ln   *Listener
	conn *Conn
	run  func() // keep, bound once for all connections that use this memory

	// Guarded by the Listener's mu.
	queue       *queue // that it is in; nil if it is in none
	prev, next  *pending
	limit       time.Time // when its time in the queue is over; zero if it has no limit
	begun       bool      // a byte has come
	held        bool      // its header is LOCAL, valid and all that has come
	interrupted Reason    // why its Read was made to return: the connection is served anyway
	closed      Reason    // why its time was over
	hungUp      bool      // it is closed already
}

var pendings sync.Pool

func newPending(ln *Listener, c *Conn, r headerReader) *pending {
	p, ok := pendings.Get().(*pending)
	if !ok {
		p = new(pending)
		p.run = p.keep
	}
	p.headerReader, p.ln, p.conn = r, ln, c
	return p
}

// release gives the memory back. Nobody but its caller may know p by then.
func (p *pending) release() {
	*p = pending{run: p.run}
	pendings.Put(p)
}

// enqueue makes a connection wait for its header, or for what follows a LOCAL one.
func (ln *Listener) enqueue(c *Conn, r headerReader, hold bool) {
	p := newPending(ln, c, r)
	p.begun = len(r.buf.bytes()) > 0
	p.held = hold
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.closed != nil {
		ln.expel(p, ReasonClosed)
	} else {
		ln.await(p)
	}
	go p.run()
}

// await puts p at the end of the queue in which it waits. If too many wait, one that is held, or
// else the one that has waited longest, gives way. It needs mu.
func (ln *Listener) await(p *pending) {
	p.leave()
	switch n := ln.waiting.n + ln.held.n; {
	case n < ln.cfg.maxPending():
	case ln.held.n > 0:
		ln.expel(ln.held.first, ReasonEvicted)
	default:
		ln.expel(ln.waiting.first, ReasonEvicted)
	}
	if p.held {
		ln.put(p, &ln.held, probeHold)
	} else {
		ln.put(p, &ln.waiting, ln.cfg.headerTimeout())
	}
}

// put moves p to the end of a queue. It needs mu.
func (ln *Listener) put(p *pending, q *queue, limit time.Duration) {
	p.leave()
	p.limit = time.Time{}
	if limit > 0 {
		p.limit = time.Now().Add(limit)
	}
	q.add(p)
	ln.setTimer()
}

// expel takes p out of its queue and makes its goroutine give up, whatever the connection's
// deadlines do. A silent peer that needs no header, and one whose LOCAL header is good, are to be
// served: they are only interrupted, and closed when that doesn't help within a grace, or when
// more than MaxPending have been interrupted. It needs mu.
func (ln *Listener) expel(p *pending, why Reason) {
	silent := p.action == Optional && !p.begun
	if (silent || p.held) && why != ReasonClosed && p.interrupted == 0 &&
		p.conn.inner.SetReadDeadline(aLongTimeAgo) == nil {
		p.interrupted = why
		if ln.interrupted.n >= ln.cfg.maxPending() {
			ln.expel(ln.interrupted.first, why)
		}
		ln.put(p, &ln.interrupted, interruptGrace)
		return
	}
	p.leave()
	p.closed = why
	if p.interrupted != 0 && why != ReasonClosed {
		p.closed = p.interrupted
	}
	p.hungUp = endRead(p.conn.inner)
}

// setTimer makes sure that expelDue is called when the first connection's time is over. It needs
// mu. Of each queue only the first matters, since all in it have the same patience.
func (ln *Listener) setTimer() {
	var due time.Time
	for _, q := range ln.queues() {
		if q.first != nil && !q.first.limit.IsZero() &&
			(due.IsZero() || q.first.limit.Before(due)) {
			due = q.first.limit
		}
	}
	switch {
	case due.IsZero() || !ln.due.IsZero() && !due.Before(ln.due):
		return // a timer that is set too early sets itself again
	case ln.timer == nil:
		ln.timer = time.AfterFunc(time.Until(due), ln.expelDue)
	default:
		ln.timer.Reset(time.Until(due))
	}
	ln.due = due
}

// expelDue is what the timer does.
func (ln *Listener) expelDue() {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.due = time.Time{}
	now := time.Now()
	for _, q := range ln.queues() {
		for q.first != nil && !q.first.limit.IsZero() && !now.Before(q.first.limit) {
			ln.expel(q.first, ReasonTimeout)
		}
	}
	ln.setTimer()
}

func (ln *Listener) queues() [3]*queue {
	return [3]*queue{&ln.waiting, &ln.held, &ln.interrupted}
}

// keep is the goroutine of a pending connection.
func (p *pending) keep() {
	for {
		err := p.buf.readFrom(p.conn.inner)
		if p.settle(p.look(err), err) {
			p.release()
			return
		}
	}
}

// look judges what has been read. After a LOCAL header, which was valid, any byte will do.
func (p *pending) look(readErr error) verdict {
	if !p.held {
		v := p.step(&p.conn.header, readErr)
		if v == served {
			v = p.confirm(&p.conn.header)
		}
		return v
	}
	switch {
	case len(p.buf.bytes()) > p.size:
		return served
	case isEnd(readErr):
		return ended
	case readErr == nil, isTimeout(readErr):
		return undecided
	}
	return p.drop(ReasonBroken, readErr)
}

// settle acts on a verdict, unless the connection's time was over before. It reports whether the
// connection is out of the Listener's hands.
func (p *pending) settle(v verdict, readErr error) (done bool) {
	v, done = p.claim(v, readErr)
	if !done || v == served {
		return done
	}
	if !p.hungUp {
		closeChain(p.conn.inner)
	}
	if v == ended {
		p.probe()
	} else {
		p.report(p.fault())
	}
	return true
}

// claim decides, while the queues stand still, whose the connection is: it stays pending, is
// delivered, or is for its goroutine to close.
func (p *pending) claim(v verdict, readErr error) (_ verdict, done bool) {
	ln, c := p.ln, p.conn
	ln.mu.Lock()
	defer ln.mu.Unlock()
	interrupted := p.interrupted
	if interrupted != 0 {
		p.interrupted = 0
		c.inner.SetReadDeadline(time.Time{})
	}
	switch {
	case p.closed != 0:
		c.header = Header{}
		v = p.dropClosed()
	case v == served && !p.held && holds(&p.headerReader, &c.header):
		p.held = true
		ln.await(p)
		return v, false
	case v == served:
		p.deliver()
	case v == undecided && readErr == nil && (interrupted != ReasonEvicted || p.held):
		if interrupted != 0 || p.action == Optional && !p.begun {
			ln.await(p) // its time starts with its first byte
		}
		p.begun = true
		return v, false
	case v == undecided && readErr == nil:
		v = p.drop(ReasonEvicted, errEvicted)
	case v == undecided && interrupted == 0 && !p.held:
		v = p.drop(ReasonBroken, readErr)
	case v == undecided:
		v = served
		p.deliver()
	}
	p.leave()
	return v, true
}

// holds reports whether a connection that is served with h is held first: its header is LOCAL and
// nothing has followed yet. One without deadlines can't be.
func holds(r *headerReader, h *Header) bool {
	if h.Version != V2 || h.Command != Local || r.action == Ignore || len(r.buf.bytes()) != r.size {
		return false
	}
	err := r.peer.Conn.SetReadDeadline(time.Time{})
	return err == nil || isClosed(err)
}

func (p *pending) dropClosed() verdict {
	switch p.closed {
	case ReasonTimeout:
		return p.dropTimeout()
	case ReasonEvicted:
		return p.drop(ReasonEvicted, errEvicted)
	}
	return p.drop(p.closed, net.ErrClosed)
}

// deliver hands the connection to a caller of Accept: as its header says, or, if it was silent
// for long enough, with a gate for a header that comes too late. It needs the Listener's mu.
func (p *pending) deliver() {
	a := accepted{conn: p.conn}
	if len(p.buf.bytes()) > 0 {
		a.outcome = p.outcome(&p.conn.header)
		p.conn.open(&p.headerReader)
	} else {
		p.buf.release()
		p.buf = nil
		p.late = true
		g := new(gate)
		g.init(p.headerReader)
		p.conn.gate.Store(g)
	}
	p.ln.ready = append(p.ln.ready, a)
	p.ln.news.Signal()
}

// queue is a list of pending connections that have the same time, the oldest first. The
// Listener's mu guards it.
type queue struct {
	first, last *pending
	n           int
}

func (q *queue) add(p *pending) {
	p.queue, p.prev = q, q.last
	if q.last == nil {
		q.first = p
	} else {
		q.last.next = p
	}
	q.last = p
	q.n++
}

// leave takes p out of its queue, if it is in one.
func (p *pending) leave() {
	q := p.queue
	if q == nil {
		return
	}
	if p.prev == nil {
		q.first = p.next
	} else {
		p.prev.next = p.next
	}
	if p.next == nil {
		q.last = p.prev
	} else {
		p.next.prev = p.prev
	}
	p.queue, p.prev, p.next = nil, nil, nil
	q.n--
}
