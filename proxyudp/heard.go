package proxyudp

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// heard has what is known of the addresses that were heard of last: at most limit of them, each
// for age after it was heard of.
type heard[V any] struct {
	limit int
	age   time.Duration

	mu     sync.Mutex
	order  list.List // of *heardOf[V], the last heard of in front
	byAddr map[netip.AddrPort]*list.Element
}

type heardOf[V any] struct {
	addr  netip.AddrPort
	what  V
	heard time.Time
}

func newHeard[V any](limit int, age time.Duration) *heard[V] {
	return &heard[V]{limit: limit, age: age, byAddr: make(map[netip.AddrPort]*list.Element)}
}

// note says what is known of an address that was just heard of.
func (h *heard[V]) note(addr netip.AddrPort, what V) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if e, ok := h.byAddr[addr]; ok {
		of := e.Value.(*heardOf[V])
		of.what, of.heard = what, now
		h.order.MoveToFront(e)
		return
	}
	for e := h.order.Back(); e != nil; e = h.order.Back() {
		oldest := e.Value.(*heardOf[V])
		if h.order.Len() < h.limit && now.Sub(oldest.heard) < h.age {
			break
		}
		delete(h.byAddr, oldest.addr)
		h.order.Remove(e)
	}
	h.byAddr[addr] = h.order.PushFront(&heardOf[V]{addr, what, now})
}

// find returns what is known of an address. again says that it has just been heard of again.
func (h *heard[V]) find(addr netip.AddrPort, again bool) (what V, ok bool) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	e, ok := h.byAddr[addr]
	if !ok {
		return what, false
	}
	of := e.Value.(*heardOf[V])
	if now.Sub(of.heard) >= h.age {
		return what, false
	}
	if again {
		of.heard = now
		h.order.MoveToFront(e)
	}
	return of.what, true
}
