package main

import (
	"runtime"
	"time"
)

// attackContenders are who is attacked, the bare listener first.
var attackContenders = []string{nameBare, nameOurs, namePires}

// The pieces of work of a good client.
const (
	attackNone = "no attack"
	attackHalf = "under attack"

	unitMedian = "median-ns"
	unitP99    = "p99-ns"
	unitHeld   = "held" // goroutines that wait for the peers' bytes when all have come
	unitLost   = "lost" // connections of the good client without an answer
)

// measureAttack has peers, each from an address of its own, connect as fast as they can, send half
// a header, and stay. Meanwhile a good client makes one connection after the other. The
// listener of this library waits for 1,000 of them at most; the bare one's user, who waits for the
// same bytes, for all, and so does pires.
func measureAttack(m *measuring) {
	peers := m.many(5000, 100)
	maxPending := m.many(1000, 90)
	half := wires.v2TCP4[:len(wires.v2TCP4)/2]
	// The good client never waits for a CPU, so that its time is the server's.
	at := place(min(2, max(1, runtime.NumCPU()-1)))
	good := m.start("client", at, alone)
	defer good.stop()
	attackers := m.start("client", secondCPU, ordinary)
	defer attackers.stop()
	servers, addrs := map[string]*helper{}, map[string]string{}
	for _, kind := range attackContenders {
		s := m.start("server", firstCPU, urgent)
		defer s.stop()
		servers[kind] = s
		addrs[kind] = s.ask(request{Op: "listen", Kind: kind, Handler: "short",
			Want: wantFor(kind, wires.v2TCP4), MaxPending: maxPending}).Addr
	}
	attack := func(kind string) {
		server, addr := servers[kind], addrs[kind]
		before := server.ask(request{Op: "collect"})
		begin := request{Op: "begin", Addr: addr, Header: wires.v2TCP4}
		good.ask(begin)
		time.Sleep(time.Duration(m.many(100, 10)) * time.Millisecond)
		quiet := good.ask(request{Op: "end"})

		good.ask(begin)
		attackers.ask(request{Op: "hold", Addr: addr, Conns: peers, Header: half, Strangers: true})
		busy := good.ask(request{Op: "end"})
		held := server.ask(request{Op: "stat"}).Goroutines - before.Goroutines
		attackers.ask(request{Op: "drop"})
		server.await(request{Op: "stat"}, func(r reply) bool {
			return r.Goroutines <= before.Goroutines+2 // who accepts may be another one
		})

		m.add(attackNone, kind, unitMedian, float64(quiet.Median))
		m.add(attackNone, kind, unitP99, float64(quiet.P99))
		m.add(attackHalf, kind, unitMedian, float64(busy.Median))
		m.add(attackHalf, kind, unitP99, float64(busy.P99))
		m.add(attackHalf, kind, unitHeld, float64(held))
		m.add(attackHalf, kind, unitLost, float64(busy.Lost))
	}
	m.inTurn(m.many(20, 1), len(attackContenders), func(i int) { attack(attackContenders[i]) })
}
