package clientip

import (
	"net/http"
	"sync/atomic"
)

// Stats counts the requests that a handler has passed on. A server that misses its clients sees it
// here: in Problems if its proxies don't send the field, in Found if they aren't trusted.
type Stats struct {
	Found    map[Found]uint64   // by where the client's address was found
	Problems map[Problem]uint64 // by what was wrong with the field
	Proxied  uint64             // those that came from a trusted HTTP proxy
}

// StatsOf returns what has been counted by a handler that [NewHandler] made, and whether h is one.
func StatsOf(h http.Handler) (Stats, bool) {
	counted, ok := h.(*handler)
	if !ok {
		return Stats{}, false
	}
	s := Stats{
		Found:    map[Found]uint64{},
		Problems: map[Problem]uint64{},
		Proxied:  counted.counts.proxied.Load(),
	}
	for i := range counted.counts.found {
		if n := counted.counts.found[i].Load(); n > 0 {
			s.Found[Found(i)] = n
		}
	}
	for i := range counted.counts.problems {
		if n := counted.counts.problems[i].Load(); n > 0 && Problem(i) != ProblemNone {
			s.Problems[Problem(i)] = n
		}
	}
	return s, true
}

// counts are a handler's Stats while it serves.
type counts struct {
	found    [len(foundNames)]atomic.Uint64
	problems [len(problemNames)]atomic.Uint64
	proxied  atomic.Uint64
}

func (c *counts) add(client *Client) {
	c.found[client.Found].Add(1)
	if client.Problem != ProblemNone {
		c.problems[client.Problem].Add(1)
	}
	if client.Proxied {
		c.proxied.Add(1)
	}
}
