package main

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

// found is a figure of a simulation.
type found struct {
	Unit string
	X    float64
}

const (
	unitPeakGoroutines = "goroutines"
	unitPeakBytes      = "B"
	unitLeft           = "left"
)

// simulate serves req.Conns connections that exist in memory only: what is measured is the
// Listener's and the runtime's, without the kernel.
func simulate(req request) (reply, error) {
	inner := &crowd{n: req.Conns, over: make(chan struct{})}
	switch req.Op {
	case simulatedIdle:
		inner.first = wires.v2TCP4
	case simulatedAttack:
		inner.first = wires.v2TCP4[:len(wires.v2TCP4)/2]
	default:
		return reply{}, errors.New("no such operation")
	}
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{
		Policy:        proxyproto.Trust(netip.MustParsePrefix("127.0.0.0/8")),
		HeaderTimeout: time.Hour,
		MaxPending:    req.MaxPending,
	})
	if err != nil {
		return reply{}, err
	}
	if req.Op == simulatedIdle {
		return simulateIdle(ln, inner)
	}
	return simulateAttack(ln, inner)
}

// simulateIdle accepts all, and keeps them.
func simulateIdle(ln *proxyproto.Listener, inner *crowd) (reply, error) {
	accepted := make([]net.Conn, 0, inner.n)
	inner.all = make([]fakeConn, inner.n)
	before, cpu := live(), processTime()
	for range inner.n {
		c, err := ln.Accept()
		if err != nil {
			return reply{}, err
		}
		accepted = append(accepted, c)
	}
	took := processTime() - cpu
	bytes := live() - before
	runtime.KeepAlive(accepted)
	return reply{Figures: []found{
		{unitCPU, float64(took) / float64(inner.n)},
		{unitConnBytes, float64(bytes) / float64(inner.n)},
	}}, ln.Close()
}

// live is what heap and stacks have after a collection.
func live() int64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// simulateAttack has all peers say too little.
func simulateAttack(ln *proxyproto.Listener, inner *crowd) (reply, error) {
	cpu := processTime()
	goroutines := runtime.NumGoroutine()
	go ln.Accept() // no connection ever comes out
	<-inner.over
	for ln.Stats().TotalDropped() < uint64(max(0, inner.n-ln.Stats().Pending)) {
		time.Sleep(time.Millisecond)
	}
	took := processTime() - cpu
	rep := reply{Figures: []found{
		{unitCPU, float64(took) / float64(inner.n)},
		{unitPeakGoroutines, float64(inner.goroutines - goroutines)},
		{unitPeakBytes, float64(inner.bytes)},
		{unitLeft, float64(ln.Stats().Pending)},
	}}
	return rep, ln.Close()
}

// A crowd is a listener with n connections that are there already.
type crowd struct {
	n     int
	first []byte     // what each sends
	all   []fakeConn // the connections, if they were made before
	over  chan struct{}
	close sync.Once

	accepted, goroutines int // so far, and at most
	bytes                uint64
}

func (l *crowd) Accept() (net.Conn, error) {
	if l.accepted == l.n {
		l.close.Do(func() { close(l.over) })
		select {} // nothing else comes
	}
	l.accepted++
	if l.accepted%max(1, l.n/100) == 0 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		l.bytes = max(l.bytes, m.HeapInuse+m.StackInuse)
		l.goroutines = max(l.goroutines, runtime.NumGoroutine())
	}
	if l.all == nil {
		return &fakeConn{first: l.first}, nil
	}
	c := &l.all[l.accepted-1]
	c.first = l.first
	return c, nil
}

func (l *crowd) Close() error   { return nil }
func (l *crowd) Addr() net.Addr { return fakeAddr }

var fakeAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443}

// A fakeConn has sent something and is then silent until it is closed.
type fakeConn struct {
	net.Conn
	first []byte

	mu     sync.Mutex
	closed bool
	wake   chan struct{} // made by a Read that waits
}

func (c *fakeConn) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return 0, net.ErrClosed
	}
	c.wake = make(chan struct{})
	c.mu.Unlock()
	<-c.wake
	return 0, net.ErrClosed
}

func (c *fakeConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed && c.wake != nil {
		close(c.wake)
	}
	c.closed = true
	return nil
}

func (c *fakeConn) Write([]byte) (int, error)        { return 0, io.ErrClosedPipe }
func (c *fakeConn) LocalAddr() net.Addr              { return fakeAddr }
func (c *fakeConn) RemoteAddr() net.Addr             { return fakeAddr }
func (c *fakeConn) SetDeadline(time.Time) error      { return nil }
func (c *fakeConn) SetReadDeadline(time.Time) error  { return nil }
func (c *fakeConn) SetWriteDeadline(time.Time) error { return nil }
