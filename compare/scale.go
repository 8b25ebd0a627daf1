package main

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// scaleLevels are how many connections are there already. What they add up to with those that are
// made meanwhile must fit the descriptors of a process.
var scaleLevels = []int{1000, 5000, 10_000, 15_000}

// What these connections do.
const (
	scaleIdle    = "idle"
	scalePending = "pending"
)

var scaleContenders = []string{nameBare, nameOurs}

// scaleWork names connections in a state.
func scaleWork(state string, level int) string { return grouped(level) + " " + state }

// scaleWorks returns what was measured in a state, by ascending number.
func scaleWorks(f *figures, state string) []string {
	return slices.DeleteFunc(f.works(), func(work string) bool {
		return strings.HasPrefix(work, "simulated") || !strings.HasSuffix(work, " "+state)
	})
}

// simulated are the pieces of work that package net has no part in, with what is simulated.
const (
	simulatedIdle   = "simulated idle"
	simulatedAttack = "simulated attack"
)

var simulatedCounts = []int{1000, 10_000, 100_000, 1_000_000}

// measureScale measures how memory, and the CPU time of a new connection, grow with those that are
// there; and, with connections that exist in memory only, what a million of them takes.
func measureScale(m *measuring) {
	levels, counts := scaleLevels, simulatedCounts
	for len(levels) > 1 && levels[len(levels)-1]+1000 > descriptors() {
		levels = levels[:len(levels)-1]
	}
	if m.quick {
		levels, counts = []int{10, 20}, []int{100, 2000}
	}
	m.simulateScale(counts)
	states := []string{scaleIdle, scalePending}
	m.inTurn(m.many(5, 1), len(states)*len(scaleContenders), func(i int) {
		m.growScale(states[i/len(scaleContenders)], scaleContenders[i%len(scaleContenders)], levels)
	})
}

// growScale makes more and more connections, and at each level some new ones.
func (m *measuring) growScale(state, kind string, levels []int) {
	news := m.many(500, 20)
	server := m.start("server", firstCPU, urgent)
	defer server.stop()
	holder, client := m.start("client", secondCPU, urgent), m.start("client", secondCPU, urgent)
	defer holder.stop()
	defer client.stop()
	header := headerFor(kind)
	addr := server.ask(request{Op: "listen", Kind: kind, Handler: "short", MaxPending: 20_000,
		Want: wantFor(kind, header)}).Addr
	first := header
	if state == scalePending {
		first = header[:len(header)/2]
	} else if kind == nameBare {
		first = nil
	}
	fresh := func() int64 {
		before := server.ask(request{Op: "stat"})
		client.ask(request{Op: "hold", Addr: addr, Conns: news,
			Header: slices.Concat(header, make([]byte, lenPayload))})
		after := server.await(request{Op: "stat"},
			func(r reply) bool { return r.Done == before.Done+int64(news) })
		client.ask(request{Op: "finish"})
		return int64(after.CPU - before.CPU)
	}
	fresh() // what happens only once
	empty, slab := server.ask(request{Op: "collect"}), kernelMemory()
	here := 0
	for _, level := range levels {
		holder.ask(request{Op: "hold", Addr: addr, Conns: level - here, Header: first})
		here = level
		server.await(request{Op: "stat"}, func(r reply) bool {
			return r.Arrived == empty.Arrived+int64(here)+r.Done-empty.Done
		})
		full := server.ask(request{Op: "collect"})
		work := scaleWork(state, level)
		m.add(work, kind, unitConnBytes, float64(int64(full.Live)-int64(empty.Live))/float64(here))
		// Both ends are on this machine.
		m.add(work, kind, unitKernelBytes, float64(kernelMemory()-slab)/float64(2*here))
		m.add(work, kind, unitCPU, float64(fresh())/float64(news))
	}
	holder.ask(request{Op: "drop"})
}

// kernelMemory is how many bytes the kernel's small objects take, sockets among them.
func kernelMemory() int64 {
	f, err := os.Open("/proc/meminfo")
	check(err)
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 1 && fields[0] == "Slab:" {
			kB, err := strconv.ParseInt(fields[1], 10, 64)
			check(err)
			return kB * 1024
		}
	}
	check(fmt.Errorf("/proc/meminfo has no line for Slab"))
	return 0
}

// simulateScale has a process serve connections that exist in memory only.
func (m *measuring) simulateScale(counts []int) {
	for _, n := range counts {
		for work, maxPending := range map[string]int{simulatedIdle: n + 1, simulatedAttack: 1000} {
			h := m.start("simulation", secondCPU, urgent)
			req := request{Op: work, Conns: n, MaxPending: maxPending}
			for _, f := range h.ask(req).Figures {
				m.add(work+" "+grouped(n), nameOurs, f.Unit, f.X)
			}
			h.stop()
		}
	}
}
