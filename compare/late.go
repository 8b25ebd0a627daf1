package main

import "slices"

// lateContenders are those whose headers may come late, bare first.
var lateContenders = []string{
	nameBare, nameOurs, nameLazy, namePires, nameArmon, nameMastercactapus,
}

// lateWork is the one piece of work of this part.
const lateWork = "pending"

// measureLate opens connections that send nothing, looks at what they take, and then sends header
// and payload on all of them. The CPU time is that of the whole connection; each one has a
// goroutine of its user's as soon as it is accepted.
func measureLate(m *measuring) {
	conns := m.many(10_000, 50)
	m.inTurn(m.many(3, 1), len(lateContenders), func(i int) {
		kind := lateContenders[i]
		server := m.start("server", firstCPU, urgent)
		defer server.stop()
		client := m.start("client", secondCPU, urgent)
		defer client.stop()
		header := headerFor(kind)
		addr := server.ask(request{Op: "listen", Kind: kind, Handler: "short",
			Want: wantFor(kind, header), MaxPending: conns + 1}).Addr
		empty := server.ask(request{Op: "collect"})
		client.ask(request{Op: "hold", Addr: addr, Conns: conns})
		accepted := server.await(request{Op: "stat"},
			func(r reply) bool { return r.Arrived == int64(conns) })
		pending := server.ask(request{Op: "collect"})
		client.ask(request{Op: "write", Header: slices.Concat(header, make([]byte, lenPayload))})
		served := server.await(request{Op: "stat"},
			func(r reply) bool { return r.Done == int64(conns) })
		client.ask(request{Op: "finish"})
		n := float64(conns)
		cpu := accepted.CPU - empty.CPU + served.CPU - pending.CPU
		m.add(lateWork, kind, unitCPU, float64(cpu)/n)
		m.add(lateWork, kind, unitConnBytes, float64(int64(pending.Live)-int64(empty.Live))/n)
		m.add(lateWork, kind, unitGoroutines, float64(pending.Goroutines-empty.Goroutines)/n)
	})
}
