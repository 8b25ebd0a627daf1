package proxyhttp

import (
	"container/list"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	defaultIdleSessions = 1024
	defaultIdleTimeout  = 90 * time.Second
)

var errOver = errors.New("proxyhttp: the client's connection has ended")

// A session is the connections of one header. It is in sessions.byHeader from its first request
// until it is dropped, and in sessions.idle while it has none under way.
type session struct {
	transport *http.Transport
	wire      string
	client    string // RemoteAddr of the requests, if the header is of a client

	conns    map[*conn]struct{}
	requests int
	idle     *list.Element
	since    time.Time // when it became idle
	dropped  bool
}

// sessions has those of a Transport by their headers' wire form. A dropped one is in no list any
// more, ends its requests, and keeps no connection.
type sessions struct {
	maxIdle     int
	idleTimeout time.Duration

	mu       sync.Mutex
	byHeader map[string]*session
	byClient map[string][]*session
	idle     list.List // the one that has been so for longest at first
}

func (all *sessions) init(maxIdle int, idleTimeout time.Duration) {
	if maxIdle <= 0 {
		maxIdle = defaultIdleSessions
	}
	all.maxIdle, all.idleTimeout = maxIdle, idleTimeout
	all.byHeader = map[string]*session{}
	all.byClient = map[string][]*session{}
}

// acquire returns the session of a header for one request. dial makes its connections if there is
// none yet.
func (all *sessions) acquire(
	wire []byte, client string, dial func(*session) *http.Transport,
) *session {
	all.mu.Lock()
	s := all.byHeader[string(wire)]
	if s == nil {
		s = &session{wire: string(wire), client: client, conns: map[*conn]struct{}{}}
		s.transport = dial(s)
		all.byHeader[s.wire] = s
		if client != "" {
			all.byClient[client] = append(all.byClient[client], s)
		}
	}
	s.requests++
	if s.idle != nil {
		all.idle.Remove(s.idle)
		s.idle = nil
	}
	closes := all.expire()
	all.mu.Unlock()
	all.close(closes)
	return s
}

// release ends a request.
func (all *sessions) release(s *session) {
	var closes []*session
	all.mu.Lock()
	if s.requests--; s.requests == 0 {
		if s.dropped {
			closes = append(closes, s)
		} else {
			s.since = time.Now()
			s.idle = all.idle.PushBack(s)
			closes = all.expire()
		}
	}
	all.mu.Unlock()
	all.close(closes)
}

// expire drops the sessions that are idle for too long, or too many, and returns them to be closed.
// Needs mu.
func (all *sessions) expire() (closes []*session) {
	for {
		first := all.idle.Front()
		if first == nil {
			return closes
		}
		s := first.Value.(*session)
		expired := all.idleTimeout > 0 && time.Since(s.since) >= all.idleTimeout
		if all.idle.Len() <= all.maxIdle && !expired {
			return closes
		}
		all.drop(s)
		closes = append(closes, s)
	}
}

// drop forgets a session. Needs mu.
func (all *sessions) drop(s *session) {
	s.dropped = true
	if s.idle != nil {
		all.idle.Remove(s.idle)
		s.idle = nil
	}
	delete(all.byHeader, s.wire)
	if s.client == "" {
		return
	}
	others := slices.DeleteFunc(all.byClient[s.client], func(o *session) bool { return o == s })
	if len(others) == 0 {
		delete(all.byClient, s.client)
	} else {
		all.byClient[s.client] = others
	}
}

// retire drops the sessions of a client's connection. Those that have requests end these first.
func (all *sessions) retire(client string) {
	var closes []*session
	all.mu.Lock()
	for _, s := range slices.Clone(all.byClient[client]) {
		if s.requests == 0 {
			closes = append(closes, s)
		}
		all.drop(s)
	}
	all.mu.Unlock()
	all.close(closes)
}

// closeIdle drops all sessions without a request, and closes the idle connections of the others.
func (all *sessions) closeIdle() {
	var closes []*session
	all.mu.Lock()
	for _, s := range all.byHeader {
		closes = append(closes, s)
		if s.requests == 0 {
			all.drop(s)
		}
	}
	all.mu.Unlock()
	all.close(closes)
}

// close closes the connections of sessions that have no request. A dropped session's go all, those
// too which its transport doesn't count as idle yet: HTTP/2's while a stream's end is written.
func (all *sessions) close(closes []*session) {
	for _, s := range closes {
		s.transport.CloseIdleConnections()
		all.mu.Lock()
		var rest []*conn
		if s.over() {
			rest = slices.Collect(maps.Keys(s.conns))
		}
		all.mu.Unlock()
		for _, c := range rest {
			c.Close()
		}
	}
}

// over reports whether no request will ever use the session again. Needs sessions.mu.
func (s *session) over() bool { return s.dropped && s.requests == 0 }

// add gives a session a connection that was made for it, unless it comes too late.
func (all *sessions) add(c *conn) error {
	all.mu.Lock()
	defer all.mu.Unlock()
	if c.of.over() {
		return errOver
	}
	c.of.conns[c] = struct{}{}
	return nil
}

func (all *sessions) remove(c *conn) {
	all.mu.Lock()
	delete(c.of.conns, c)
	all.mu.Unlock()
}
