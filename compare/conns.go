package main

import (
	"time"
)

// wrappers are the contenders for whole connections, the bare listener first.
var wrappers = []string{nameBare, nameOurs, nameLazy, namePires, nameArmon, nameMastercactapus}

// A conns is one way to load a server with short connections, and what each took.
type conns struct {
	name   string
	gap    time.Duration
	atOnce int
	times  map[string]series // of a connection, from the first dial to the last close, divided by their number
	cpu    map[string]series // of the server's process
	allocs map[string]float64
	bytes  map[string]float64
}

const (
	togetherAt8   = "header and 32 bytes in one write, 8 at once"
	togetherAt256 = "header and 32 bytes in one write, 256 at once"
	apartAt8      = "header 1 ms before the 32 bytes, 8 at once"
	apartAt256    = "header 1 ms before the 32 bytes, 256 at once"
)

// A target is a server's listener, and the client that connects to it.
type target struct {
	kind           string
	addr           string
	server, client *helper
}

func listen(server, client *helper, kind string) target {
	addr := server.ask(request{Op: "listen", Kind: kind, Handler: "short", Want: wantFor(kind), MaxPending: 20_000}).Addr
	return target{kind, addr, server, client}
}

// short makes n connections and returns the time of one, and that of the server's CPU.
func (t target) short(n, atOnce int, gap time.Duration) (elapsed, cpu float64) {
	t.server.ask(request{Op: "collect once"}) // nobody pays for the garbage of who came before
	before := t.server.ask(request{Op: "stat"}).CPU
	took := t.client.ask(request{Op: "short", Addr: t.addr, Header: headerFor(t.kind), Conns: n, AtOnce: atOnce, Gap: gap}).Elapsed
	after := t.server.ask(request{Op: "stat"}).CPU
	return float64(took.Nanoseconds()) / float64(n), float64((after - before).Nanoseconds()) / float64(n)
}

// measureConns has a server on one CPU and its clients on the other.
func measureConns(e effort, quick bool) []*conns {
	server, client := startHelper("server", firstCPU), startHelper("client", secondCPU)
	defer server.stop()
	defer client.stop()
	all := []*conns{
		{name: togetherAt8, atOnce: 8},
		{name: togetherAt256, atOnce: 256},
		{name: apartAt8, atOnce: 8, gap: time.Millisecond},
		{name: apartAt256, atOnce: 256, gap: time.Millisecond},
	}
	var targets []target
	for _, kind := range wrappers {
		targets = append(targets, listen(server, client, kind))
	}
	for _, c := range all {
		if quick {
			c.atOnce = min(c.atOnce, 16)
		}
		c.times, c.cpu = map[string]series{}, map[string]series{}
		c.allocs, c.bytes = map[string]float64{}, map[string]float64{}
		n := map[string]int{}
		for _, t := range targets {
			t.short(2*c.atOnce, c.atOnce, c.gap)
			took, _ := t.short(4*c.atOnce, c.atOnce, c.gap)
			n[t.kind] = max(2*c.atOnce, int(float64(e.slice.Nanoseconds())/took))
			many := n[t.kind]
			if !quick {
				many = max(many, 5000)
			}
			before := server.ask(request{Op: "stat"})
			t.short(many, c.atOnce, c.gap)
			after := server.ask(request{Op: "stat"})
			c.allocs[t.kind] = float64(after.Allocs-before.Allocs) / float64(many)
			c.bytes[t.kind] = float64(after.Bytes-before.Bytes) / float64(many)
		}
		for round := range e.rounds {
			for _, i := range turns(round, len(targets)) {
				t := targets[i]
				took, cpu := t.short(n[t.kind], c.atOnce, c.gap)
				c.times[t.kind] = append(c.times[t.kind], took)
				c.cpu[t.kind] = append(c.cpu[t.kind], cpu)
			}
		}
	}
	return all
}

// A growth is how the time of a short connection grows with something.
type growth struct {
	name  string
	times map[string]series
}

var pendings = []int{0, 100, 1000, 10_000}

var growers = []string{nameBare, nameOurs, namePires}

// measurePending measures short connections, 8 at once, while others wait for their headers.
func measurePending(e effort, quick bool) []growth {
	counts := pendings
	if quick {
		counts = []int{0, 10, 20, 50}
	}
	var all []growth
	var targets []target
	for i, pending := range counts {
		all = append(all, growth{grouped(pendings[i]) + " pending", map[string]series{}})
		for _, kind := range growers {
			server, client, holder := startHelper("server", firstCPU), startHelper("client", secondCPU), startHelper("client", secondCPU)
			defer server.stop()
			defer client.stop()
			defer holder.stop()
			t := listen(server, client, kind)
			holder.ask(request{Op: "hold", Addr: t.addr, Conns: pending})
			targets = append(targets, t)
		}
	}
	n := 0
	for round := range e.rounds + 1 {
		for _, i := range turns(round, len(targets)) {
			t := targets[i]
			if n == 0 {
				took, _ := t.short(64, 8, 0)
				n = max(16, int(float64(e.slice.Nanoseconds())/took))
			}
			took, _ := t.short(n, 8, 0)
			g := all[i/len(growers)]
			g.times[t.kind] = append(g.times[t.kind], took)
		}
	}
	for _, g := range all {
		for kind := range g.times {
			g.times[kind] = g.times[kind][1:] // the round in which everything happened for the first time
		}
	}
	return all
}

// measureCPUs measures short connections, 64 at once, with server and clients on one CPU each
// and with both on all CPUs.
func measureCPUs(e effort) []growth {
	var all []growth
	for _, p := range []struct {
		name           string
		server, client place
	}{{"1 CPU for the server", firstCPU, secondCPU}, {"2 CPUs for server and clients", anyCPU, anyCPU}} {
		g := growth{p.name, map[string]series{}}
		server, client := startHelper("server", p.server), startHelper("client", p.client)
		defer server.stop()
		defer client.stop()
		var targets []target
		for _, kind := range growers {
			t := listen(server, client, kind)
			t.short(128, 64, 0)
			targets = append(targets, t)
		}
		took, _ := targets[0].short(256, 64, 0)
		n := max(128, int(float64(e.slice.Nanoseconds())/took))
		for round := range e.rounds {
			for _, i := range turns(round, len(targets)) {
				t := targets[i]
				took, _ := t.short(n, 64, 0)
				g.times[t.kind] = append(g.times[t.kind], took)
			}
		}
		all = append(all, g)
	}
	return all
}

// An idle is how many bytes of heap and stack an idle connection takes.
type idle struct {
	conns int
	bytes map[string]series
}

// measureIdle opens connections whose header has come and whose payload hasn't.
func measureIdle(rounds int, counts []int) []idle {
	var all []idle
	for _, n := range counts {
		m := idle{n, map[string]series{}}
		for range rounds {
			for _, kind := range wrappers {
				m.bytes[kind] = append(m.bytes[kind], idleBytes(kind, n))
			}
		}
		all = append(all, m)
	}
	return all
}

func idleBytes(kind string, n int) float64 {
	server, client := startHelper("server", anyCPU), startHelper("client", anyCPU)
	defer server.stop()
	defer client.stop()
	addr := server.ask(request{Op: "listen", Kind: kind, Handler: "idle"}).Addr
	before := server.ask(request{Op: "collect"}).Live
	req := request{Op: "hold", Addr: addr, Conns: n}
	if kind != nameBare {
		req.Header = headerFor(kind)
	}
	client.ask(req)
	for deadline := time.Now().Add(time.Minute); server.ask(request{Op: "stat"}).Accepted < int64(n); {
		if time.Now().After(deadline) {
			check(errLate)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return float64(int64(server.ask(request{Op: "collect"}).Live)-int64(before)) / float64(n)
}
