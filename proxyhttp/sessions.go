package proxyhttp

import (
	"container/list"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	defaultIdleSessions = 1024
	defaultIdleTimeout  = 90 * time.Second
)

// A session is the connections of one header. It is in sessions.byHeader from its first request
// until it is dropped, and in sessions.idle while it has none under way.
type session struct {
	transport *http.Transport
	wire      string
	of        clientConn // whose header it is, if it is a client's

	requests int
	idle     *list.Element
	since    time.Time // when it became idle
	dropped  bool
}

// clientConn tells a client's connection to the proxy from others.
type clientConn struct{ remote, local string }

// clientConnOf is the one that a server's request came on, or the zero value.
func clientConnOf(r *http.Request) clientConn {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return clientConn{}
	}
	return clientConn{r.RemoteAddr, local.String()}
}

// sessions has those of a Transport by their headers' wire form. A dropped one is in no list any
// more, ends its requests, and keeps no connection.
type sessions struct {
	maxIdle     int
	idleTimeout time.Duration

	mu       sync.Mutex
	byHeader map[string]*session
	byClient map[clientConn][]*session
	idle     list.List // the one that has been so for longest at first
}

func (all *sessions) init(maxIdle int, idleTimeout time.Duration) {
	if maxIdle <= 0 {
		maxIdle = defaultIdleSessions
	}
	all.maxIdle, all.idleTimeout = maxIdle, idleTimeout
	all.byHeader = map[string]*session{}
	all.byClient = map[clientConn][]*session{}
}

// acquire returns the session of a header for one request. dial makes its connections if there is
// none yet.
func (all *sessions) acquire(
	wire []byte, of clientConn, dial func() *http.Transport,
) *session {
	all.mu.Lock()
	s := all.byHeader[string(wire)]
	if s == nil {
		s = &session{transport: dial(), wire: string(wire), of: of}
		all.byHeader[s.wire] = s
		if of != (clientConn{}) {
			all.byClient[of] = append(all.byClient[of], s)
		}
	}
	s.requests++
	if s.idle != nil {
		all.idle.Remove(s.idle)
		s.idle = nil
	}
	closes := all.expire()
	all.mu.Unlock()
	closeAll(closes)
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
	closeAll(closes)
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
		if all.idle.Len() <= all.maxIdle && time.Since(s.since) < all.idleTimeout {
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
	if s.of == (clientConn{}) {
		return
	}
	others := slices.DeleteFunc(all.byClient[s.of], func(o *session) bool { return o == s })
	if len(others) == 0 {
		delete(all.byClient, s.of)
	} else {
		all.byClient[s.of] = others
	}
}

// retire drops the sessions of a client's connection. Those that have requests end these first.
func (all *sessions) retire(of clientConn) {
	var closes []*session
	all.mu.Lock()
	for _, s := range slices.Clone(all.byClient[of]) {
		if s.requests == 0 {
			closes = append(closes, s)
		}
		all.drop(s)
	}
	all.mu.Unlock()
	closeAll(closes)
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
	closeAll(closes)
}

func closeAll(closes []*session) {
	for _, s := range closes {
		s.transport.CloseIdleConnections()
	}
}
