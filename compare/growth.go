package main

import (
	"fmt"
	"math"
)

// growth is the section about large servers: what was measured, and what follows for more.
func (p *page) growth() {
	f, ok := p.section("At scale", partScale)
	if !ok {
		return
	}
	p.chart("scale", "CPU time of a new connection by how many are there")
	p.line("Measured, with sockets: heap and stack of a connection with its goroutine, the " +
		"kernel's memory for its socket (half of what both")
	p.line("ends take here), and the CPU time of a whole new connection while so many are there. " +
		"*idle* ones have sent their header, *pending*")
	p.line("ones half of it.\n")
	p.line("| connections | %s: bytes | CPU µs | %s: bytes | CPU µs | kernel, bytes "+
		"|\n|---|---|---|---|---|---|", nameBare, nameOurs)
	for _, state := range []string{scaleIdle, scalePending} {
		for _, work := range scaleWorks(f, state) {
			p.line("| %s | %s | %.1f %s | %s | %.1f %s | %s |", work,
				grouped(int(f.of(work, nameBare, unitConnBytes).median())),
				f.of(work, nameBare, unitCPU).median()/1e3, spread(f.of(work, nameBare, unitCPU)),
				grouped(int(f.of(work, nameOurs, unitConnBytes).median())),
				f.of(work, nameOurs, unitCPU).median()/1e3, spread(f.of(work, nameOurs, unitCPU)),
				grouped(max(0, int(f.of(work, nameOurs, unitKernelBytes).median()))))
		}
	}
	p.line("\nSimulated, with connections that exist in memory only, so that the figures are the " +
		"Listener's and the runtime's: *idle*, what the")
	p.line("Listener keeps for a connection after its header; *attack*, peers that send half a " +
		"header and are closed for the next one, `MaxPending`")
	p.line("1,000.\n")
	p.line("| connections | idle: bytes | CPU µs | attack: CPU µs a peer | goroutines at most | " +
		"heap and stacks at most | left |\n|---|---|---|---|---|---|---|")
	for _, n := range simulatedCounts {
		idle, attack := simulatedIdle+" "+grouped(n), simulatedAttack+" "+grouped(n)
		p.line("| %s | %s | %.1f | %.1f | %s | %.1f MB | %s |", grouped(n),
			grouped(int(f.of(idle, nameOurs, unitConnBytes).median())), f.of(idle, nameOurs, unitCPU).median()/1e3,
			f.of(attack, nameOurs, unitCPU).median()/1e3, grouped(int(f.of(attack, nameOurs, unitPeakGoroutines).median())),
			f.of(attack, nameOurs, unitPeakBytes).median()/1e6, grouped(int(f.of(attack, nameOurs, unitLeft).median())))
	}
	p.command(partScale)
	p.million(f)
	p.cores()
}

// million says what a million of connections takes.
func (p *page) million(f *figures) {
	works := scaleWorks(f, scaleIdle)
	last := works[len(works)-1]
	ours := f.of(last, nameOurs, unitConnBytes).median()
	bare := f.of(last, nameBare, unitConnBytes).median()
	kernel := f.of(last, nameOurs, unitKernelBytes).median()
	p.line("\n### A million idle connections\n")
	p.line("- Memory: %.1f GB of heap and stacks, of which a bare server has %.1f GB too, and "+
		"%.1f GB in the kernel without socket buffers.",
		ours*1e6/1e9, bare*1e6/1e9, max(0, kernel)*1e6/1e9)
	p.line("  Once its header is read a connection is known to nobody but its user: the Listener " +
		"has no list of them, no timer, no goroutine.")
	p.line("- Descriptors: a million and some; `LimitNOFILE=` in systemd, and `fs.nr_open`, are " +
		"1,048,576 or less unless raised.")
	p.line("- Locks: none. `Read` and `Write` go to the socket; until the bytes that came with " +
		"the header are read, `Read` takes the Conn's own.")
	p.line("\n### An attack of a million peers\n")
	attack := f.of(simulatedAttack+" "+grouped(1_000_000), nameOurs, unitCPU).median()
	p.line("- Memory: with sockets, what `MaxPending` connections take. The simulated listener never has")
	p.line("  its caller wait, and so shows the worst that the scheduler allows: peers that were told to")
	p.line("  go, but whose goroutines haven't had a turn, were %s at most, and took %.0f MB.",
		grouped(int(f.of(simulatedAttack+" "+grouped(1_000_000), nameOurs,
			unitPeakGoroutines).median())),
		f.of(simulatedAttack+" "+grouped(1_000_000), nameOurs, unitPeakBytes).median()/1e6)
	p.line("- CPU: %.1f µs a peer for the Listener and the runtime, and the kernel's work for a "+
		"connection on top, so that a million take %.0f s of", attack/1e3, attack*1e6/1e9)
	p.line("  one CPU. A peer that gives way is found in constant time, since the queue is in " +
		"the order of arrival.")
	p.line("- A good proxy's connection is safe as long as fewer than `MaxPending` peers come " +
		"between its connect and its header: with the header in")
	p.line("  the first segment, as HAProxy and nginx send it, that is none. Let the Policy name " +
		"the proxies: whoever else connects is closed before")
	p.line("  a byte is read, and never pending.")
}

// cores says what a machine with many CPUs takes, and what two sockets bring here.
func (p *page) cores() {
	b := figuresOf(p.all, partBacklog)
	if len(b.order) == 0 {
		return
	}
	service := b.of(backlogV2, nameOurs, unitCPU).median()
	const rate = 100_000
	p.line("\n### 100,000 new connections a second on 64 cores\n")
	p.line("One Listener accepts in one goroutine at a time, as fast as the kernel hands out " +
		"connections of one socket. If accepting one takes as")
	p.line("long as all of it takes above, %.1f µs, one socket serves %s a second at most. More "+
		"sockets on the same address (SO_REUSEPORT), each", service/1e3, grouped(int(1e9/service)))
	p.line("with a Listener of its own, share nothing: no lock, no queue, no count. Simulated, " +
		"with connections that come at random:\n")
	p.line("| sockets | an accept loop is busy | waits, median | waits, 99th percentile " +
		"|\n|---|---|---|---|")
	for _, sockets := range []int{1, 2, 4, 8, 16, 64} {
		busy, median, p99 := waits(rate, sockets, service)
		p.line("| %d | %.0f %% | %s | %s |", sockets, 100*busy, micros(median), micros(p99))
	}
	p.line("\n[examples/reuseport](../examples/reuseport/main.go) does it for net/http. " +
		"`SetPolicy`, `Stats` and `Close` are then called for each Listener,")
	p.line("and `MaxPending` holds for each.")
	f := figuresOf(p.all, partSockets)
	if len(f.order) == 0 {
		return
	}
	p.line("\nMeasured on all CPUs of this machine, a backlog of 2,000 that has sent header and " +
		"payload:\n")
	p.line("| | %s: µs a connection | CPU µs | %s: µs a connection | CPU µs "+
		"|\n|---|---|---|---|---|", nameBare, nameOurs)
	for _, way := range socketWays {
		p.line("| %s | %.1f %s | %.1f | %.1f %s | %.1f |", way.name,
			f.of(way.name, nameBare, unitElapsed).median()/1e3, spread(f.of(way.name, nameBare, unitElapsed)),
			f.of(way.name, nameBare, unitCPU).median()/1e3,
			f.of(way.name, nameOurs, unitElapsed).median()/1e3, spread(f.of(way.name, nameOurs, unitElapsed)),
			f.of(way.name, nameOurs, unitCPU).median()/1e3)
	}
	one := f.of(socketsOneLoop, nameOurs, unitElapsed)
	if f.of(socketsTwo, nameOurs, unitElapsed).over(one).median() > 0.8 {
		p.line("\nThis machine shows no gain: its %s CPUs had other work, and the kernel's part of a connection",
			p.all[partSockets].about["cpus"])
		p.line("on the loopback interface, both ends of it, is most of the time.")
	}
	p.command(partSockets)
}

func micros(ns float64) string {
	if math.IsInf(ns, 1) {
		return "for ever"
	}
	return fmt.Sprintf("%.1f µs", ns/1e3)
}
