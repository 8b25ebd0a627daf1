package main

import "slices"

// What a connection costs is measured without the scheduler: the backlog is full of connections
// that have sent all, and one goroutine serves them without ever waiting. What the process used of
// the CPU meanwhile, in the kernel and outside, is the cost of its listener.

// wrappers are the contenders for whole connections, the bare listener first.
var wrappers = []string{nameBare, nameOurs, namePires, nameArmon, nameMastercactapus}

// The headers that connections begin with.
const (
	backlogV1   = "v1"
	backlogV2   = "v2"
	backlogTLVs = "v2 four TLVs"
)

var backlogHeaders = []struct {
	name string
	wire []byte
	able []string
}{
	{backlogV1, wires.v1TCP4, wrappers},
	{backlogV2, wires.v2TCP4, []string{nameBare, nameOurs, namePires, nameMastercactapus}},
	{backlogTLVs, wires.v2TLVs, []string{nameBare, nameOurs, namePires}},
}

const (
	unitCPU         = "cpu-ns/conn"
	unitConnBytes   = "B/conn"
	unitConnAllocs  = "allocs/conn"
	unitGoroutines  = "goroutines/conn"
	unitElapsed     = "elapsed-ns/conn"
	unitKernelBytes = "kernel-B/conn"
)

// measureBacklog fills each contender's backlog in turn and has it served. Each has a process of
// its own, and so pays for its own garbage.
func measureBacklog(m *measuring) {
	conns := m.many(500, 20)
	client := m.start("client", secondCPU, urgent)
	defer client.stop()
	servers, addrs := map[string]*helper{}, map[string]string{}
	for _, kind := range wrappers {
		s := m.start("server", firstCPU, alone)
		defer s.stop()
		servers[kind] = s
		addrs[kind] = s.ask(request{Op: "listen", Kind: kind, Hold: true, MaxPending: 2000}).Addr
	}
	type turn struct {
		work, kind string
		wire       []byte
	}
	var all []turn
	for _, h := range backlogHeaders {
		for _, kind := range h.able {
			all = append(all, turn{h.name, kind, h.wire})
		}
	}
	serve := func(t turn) reply {
		first := slices.Concat(t.wire, make([]byte, lenPayload))
		client.ask(request{Op: "hold", Addr: addrs[t.kind], Header: first, Conns: conns})
		rep := servers[t.kind].ask(request{Op: "drain", Conns: conns, Want: wantFor(t.kind, t.wire)})
		client.ask(request{Op: "drop"})
		return rep
	}
	for _, t := range all {
		serve(t) // what happens only once
	}
	m.inTurn(m.many(40, 1), len(all), func(i int) {
		rep := serve(all[i])
		n := float64(conns)
		m.add(all[i].work, all[i].kind, unitCPU, float64(rep.CPU)/n)
		m.add(all[i].work, all[i].kind, unitConnAllocs, float64(rep.Allocs)/n)
		m.add(all[i].work, all[i].kind, unitConnBytes, float64(rep.Bytes)/n)
	})
}
