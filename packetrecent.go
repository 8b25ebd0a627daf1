package proxyproto

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"
)

// recentClients remembers how to reach the clients that were heard of last: at most limit of
// them, each for age.
type recentClients struct {
	limit int
	age   time.Duration

	mu     sync.Mutex
	order  list.List // of *recentClient, the last heard of in front
	byAddr map[ipPort]*list.Element
}

type recentClient struct {
	key   ipPort
	addr  *PacketAddr // its own memory, and never changed
	heard time.Time
}

func newRecentClients(limit int, age time.Duration) *recentClients {
	return &recentClients{limit: limit, age: age, byAddr: make(map[ipPort]*list.Element)}
}

// note remembers a client that was just heard of. One without an IP address can't be looked
// for, and isn't remembered.
func (r *recentClients) note(a *PacketAddr) {
	if !a.hasClient {
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.byAddr[a.client]; ok {
		known := e.Value.(*recentClient)
		if known.heard = now; *known.addr != *a {
			own := *a
			known.addr = &own
		}
		r.order.MoveToFront(e)
		return
	}
	for e := r.order.Back(); e != nil; e = r.order.Back() {
		oldest := e.Value.(*recentClient)
		if r.order.Len() < r.limit && now.Sub(oldest.heard) < r.age {
			break
		}
		delete(r.byAddr, oldest.key)
		r.order.Remove(e)
	}
	own := *a
	r.byAddr[a.client] = r.order.PushFront(&recentClient{a.client, &own, now})
}

// find returns the way to a client, or nil if it isn't remembered.
func (r *recentClients) find(client netip.AddrPort) *PacketAddr {
	if !client.IsValid() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.byAddr[pack(client)]
	if !ok {
		return nil
	}
	c := e.Value.(*recentClient)
	if time.Since(c.heard) >= r.age {
		return nil
	}
	return c.addr
}

// way returns how to reach addr: as its client was heard of last, or else as addr says itself
// if it is one of ReadFrom's.
func (r *recentClients) way(addr net.Addr) *PacketAddr {
	a, ok := addr.(*PacketAddr)
	switch {
	case !ok:
		return r.find(addrPort(addr))
	case a == nil || !a.hasDestination:
		return a
	}
	if latest := r.find(a.client.addrPort()); latest != nil && latest.hasDestination && latest.destination == a.destination {
		return latest
	}
	return a
}
