package main

import "slices"

// The ways to accept with two CPUs.
const (
	socketsOneLoop  = "1 socket, 1 accept loop"
	socketsTwoLoops = "1 socket, 2 accept loops"
	socketsTwo      = "2 sockets on the address, an accept loop each"
)

var socketWays = []struct {
	name           string
	sockets, loops int
}{
	{socketsOneLoop, 1, 1}, {socketsTwoLoops, 1, 2}, {socketsTwo, 2, 2},
}

var socketContenders = []string{nameBare, nameOurs}

// measureSockets serves a full backlog with all CPUs, by as many accept loops as sockets, or more.
func measureSockets(m *measuring) {
	conns := m.many(2000, 40)
	client := m.start("client", anyCPU, urgent)
	defer client.stop()
	server := m.start("server", anyCPU, urgent)
	defer server.stop()
	m.inTurn(m.many(25, 1), len(socketWays)*len(socketContenders), func(i int) {
		way, kind := socketWays[i/len(socketContenders)], socketContenders[i%len(socketContenders)]
		header := headerFor(kind)
		addr := server.ask(request{Op: "listen", Kind: kind, Hold: true,
			Sockets: way.sockets, MaxPending: conns}).Addr
		client.ask(request{Op: "hold", Addr: addr, Conns: conns,
			Header: slices.Concat(header, make([]byte, lenPayload))})
		rep := server.ask(request{Op: "drain", Conns: conns, Sockets: way.loops,
			Want: wantFor(kind, header)})
		client.ask(request{Op: "drop"})
		m.add(way.name, kind, unitElapsed, float64(rep.Elapsed)/float64(conns))
		m.add(way.name, kind, unitCPU, float64(rep.CPU)/float64(conns))
	})
}
