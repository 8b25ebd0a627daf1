package proxyproto

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// LogDrops returns a function for Config.OnDrop that logs to l (nil is slog.Default()). However
// often peers come again, and however many there are, the log can't be flooded: it has the lines
// that [SampleDrops] lets through.
//
//	cfg := &proxyproto.Config{Policy: trust, OnDrop: proxyproto.LogDrops(nil)}
//
// A line has the peer, the reason and the cause, and in "suppressed" how many drops have gone
// unlogged since the last such line, those of a level that l doesn't log among them. It is a
// warning if the peer passed the Policy, because a proxy of yours, or something between it and you,
// needs attention; a reset inside the header, though, is information. So is a peer that the Policy
// rejects, since strangers will knock. But the first of these is a warning too and says what would
// admit the peer: with an empty trust list, or a wrong one, that peer is your proxy.
func LogDrops(l *slog.Logger) func(p Peer, drop *DropError) {
	var told atomic.Bool // what admits a peer
	s := dropSampler{start: time.Now()}
	return func(p Peer, drop *DropError) {
		logger := l
		if logger == nil {
			logger = slog.Default()
		}
		level := slog.LevelWarn
		if drop.Reason == ReasonBroken || drop.Reason == ReasonRejected && told.Load() {
			level = slog.LevelInfo
		}
		suppressed, ok := s.sample(p, drop, logger.Enabled(context.Background(), level))
		if !ok {
			return
		}
		attrs := make([]slog.Attr, 0, 5)
		attrs = append(attrs, slog.String("peer", p.String()),
			slog.String("reason", drop.Reason.String()), slog.String("err", drop.Error()))
		if drop.Reason == ReasonRejected && level == slog.LevelWarn {
			if told.Swap(true) { // another was the first
				level = slog.LevelInfo
			} else {
				attrs = append(attrs, slog.String("hint", admits(p)))
			}
		}
		if suppressed > 0 {
			attrs = append(attrs, slog.Uint64("suppressed", suppressed))
		}
		logger.LogAttrs(context.Background(), level, "PROXY connection dropped", attrs...)
	}
}

// admits says what makes a Policy accept the headers of a peer that it has rejected.
func admits(p Peer) string {
	if addr := p.Addr.Addr(); addr.IsValid() {
		return "if this is your proxy, add " + addr.String() + " to the trust list"
	}
	return "a peer without an IP address is in no trust list: if this is your proxy, " +
		"use Always(Require), or Rules(Require, ...)"
}

// SampleDrops returns a function for Config.OnDrop that passes on to log so many drops that nothing
// remains hidden and nothing is flooded: of one peer and reason the first in a minute, and in any
// minute at most 128 in all. Peers that the Policy rejects have 128 of their own, so that no number
// of strangers can hide a drop of your own proxy. Peers without an IP address, those on a Unix
// socket, are one. All drops are counted in [Stats].
//
// suppressed is how many drops haven't been passed on since the last that was: for a peer that the
// Policy rejects, of such peers, and otherwise of the others. Those after the last are told
// with the next.
//
// It needs no goroutine and little memory. log may be called by several goroutines at once, and
// shares its time with whoever calls OnDrop; it must not be nil.
func SampleDrops(
	log func(p Peer, drop *DropError, suppressed uint64),
) func(p Peer, drop *DropError) {
	if log == nil {
		panic("proxyproto: SampleDrops needs a function")
	}
	s := dropSampler{start: time.Now()}
	return func(p Peer, drop *DropError) {
		if suppressed, ok := s.sample(p, drop, true); ok {
			log(p, drop, suppressed)
		}
	}
}

// A dropSampler chooses apart from those that the Policy rejects and from the others.
type dropSampler struct {
	start             time.Time
	strangers, others sampler
}

// sample reports whether to pass on a drop if anybody wants it, and how many before it weren't.
func (s *dropSampler) sample(p Peer, drop *DropError, wanted bool) (suppressed uint64, ok bool) {
	of := &s.others
	if drop.Reason == ReasonRejected {
		of = &s.strangers
	}
	return of.pass(dropKey{p.Addr.Addr(), drop.Reason}, time.Since(s.start), wanted)
}

const (
	sampleInterval = time.Minute
	sampleMost     = 128
)

// A sampler chooses what is passed on. It remembers what it has chosen for sampleInterval, and has
// room for sampleMost: no interval, wherever it begins, sees more.
type sampler struct {
	mu         sync.Mutex
	passed     map[dropKey]struct{}
	order      [sampleMost]passedDrop // a ring of the same, the oldest at first
	first      int
	suppressed uint64
}

// dropKey is what is passed on once in an interval.
type dropKey struct {
	addr   netip.Addr
	reason Reason
}

type passedDrop struct {
	key dropKey
	at  time.Duration
}

// pass reports whether to pass on a drop at time now, and how many before it weren't. One that
// isn't wanted takes no place.
func (s *sampler) pass(key dropKey, now time.Duration, wanted bool) (suppressed uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.passed == nil {
		s.passed = make(map[dropKey]struct{}, sampleMost)
	}
	for len(s.passed) > 0 && now-s.order[s.first].at >= sampleInterval {
		delete(s.passed, s.order[s.first].key)
		s.first = (s.first + 1) % sampleMost
	}
	if _, again := s.passed[key]; again || !wanted || len(s.passed) == sampleMost {
		s.suppressed++
		return 0, false
	}
	s.order[(s.first+len(s.passed))%sampleMost] = passedDrop{key, now}
	s.passed[key] = struct{}{}
	suppressed, s.suppressed = s.suppressed, 0
	return suppressed, true
}
