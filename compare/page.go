package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
)

// page writes what was measured as Markdown.
func page(r *results, setup string) string {
	var p strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&p, format+"\n", args...) }
	line("# Performance")
	line("")
	line("Written by `make bench` (`cd compare && go run . -o ../docs/performance.md`), which measures everything below")
	line("in one run: nothing here is typed by hand. The contenders take turns, round after round. A time is the median of the")
	line("rounds, ± the distance between its quartiles, and a ratio the median of the ratios within each round, so that")
	line("what disturbs the machine disturbs both sides of it.")
	line("")
	line("%s", setup)
	line("")
	line("## Marks")
	line("")
	line("| work | mark | measured | | command, in `compare` |")
	line("|---|---|---|---|---|")
	for _, m := range marks {
		figure, verdict := "not measured", "–"
		if r.has(m.part) {
			var pass bool
			figure, pass = m.measure(r)
			verdict = "**short**"
			if pass {
				verdict = "pass"
			}
		}
		line("| %s | %s | %s | %s | `go run . -only %s` |", m.work, m.want, figure, verdict, m.part)
	}
	for _, m := range r.missing {
		line("")
		line("Not measured: %s.", m)
	}
	if r.parse != nil {
		line("")
		line("## Parse")
		line("")
		line("ns for one header, and allocations if there are any. The C sample is the receiver of the spec's section 9 (`csample/`, gcc -O2,")
		line("inet_pton for version 1); it leaves the addresses in a struct of its caller, and the libraries do in what they return. In the rows with")
		line("*source kept* the caller then copies the source address: for this library, whose Parse returns a Header and not a")
		line("pointer to one, that copies the whole Header. armon has no parser apart from its connections, and knows version 1 only;")
		line("its figures have a connection in them. A contender that doesn't find what is in a header has no figure.")
		line("")
		workTable(line, r.parse, []string{nameOurs, namePires, nameArmon, nameMastercactapus, nameC})
	}
	if r.appendTo != nil {
		line("")
		line("## AppendTo")
		line("")
		line("ns for one header: AppendTo to a buffer with room, pires' Format, mastercactapus' WriteTo to io.Discard. A")
		line("contender that doesn't write the same bytes has no figure.")
		line("")
		workTable(line, r.appendTo, []string{nameOurs, namePires, nameMastercactapus})
	}
	if r.conns != nil {
		connTables(line, r)
	}
	if r.together != nil {
		callTables(line, r)
	}
	if r.web != nil {
		line("")
		line("## HTTP, keep-alive")
		line("")
		line("wrk with 32 connections, HAProxy in TCP mode and the server share the machine.")
		line("")
		line("| way | requests/s | of bare behind HAProxy | 99th percentile |")
		line("|---|---|---|---|")
		var bare series
		for _, s := range r.web {
			if s.name == siteBare {
				bare = s.requests
			}
		}
		for _, s := range r.web {
			line("| %s | %.0f ± %.0f %% | %.3f | %.2f ms |", s.name, s.requests.median(), 100*s.requests.spread(), s.requests.over(bare).median(), s.latency.median()/1e6)
		}
	}
	if r.relays != nil {
		relayTable(line, r)
	}
	if r.idle != nil {
		line("")
		line("## Idle connections")
		line("")
		line("Bytes of heap and stacks for a connection whose header has been read, with its goroutine waiting in Read; bare without a header.")
		line("")
		line("| connections | %s |", strings.Join(wrappers, " | "))
		line("|---|%s", strings.Repeat("---|", len(wrappers)))
		for _, m := range r.idle {
			cells := make([]string, len(wrappers))
			for i, kind := range wrappers {
				cells[i] = fmt.Sprintf("%.0f", m.bytes[kind].median())
				if kind != nameBare {
					cells[i] += fmt.Sprintf(" (%+.0f)", m.bytes[kind].minus(m.bytes[nameBare]).median())
				}
			}
			line("| %s | %s |", grouped(m.conns), strings.Join(cells, " | "))
		}
	}
	if r.policies != nil {
		line("")
		line("## Policies")
		line("")
		line("ns for one decision; half of the peers are in a prefix, in random order.")
		line("")
		workTable(line, r.policies, []string{nameTrust, nameRules, namePires})
	}
	if r.pending != nil {
		line("")
		line("## Growth")
		line("")
		line("µs for a short connection, header and payload in one write. While others are connected and have sent nothing, 8 at once:")
		line("")
		growthTable(line, r.pending)
		line("")
		line("64 at once, by the CPUs that there are:")
		line("")
		growthTable(line, r.cpus)
	}
	return p.String()
}

func workTable(line func(string, ...any), works []work, names []string) {
	line("| work | %s |", strings.Join(names, " | "))
	line("|---|%s", strings.Repeat("---|", len(names)))
	for _, w := range works {
		cells := make([]string, len(names))
		for i, name := range names {
			s := w.of(name)
			if s == nil {
				cells[i] = "–"
				continue
			}
			cells[i] = fmt.Sprintf("%.1f ± %.0f %%", s.ns.median(), 100*s.ns.spread())
			if s.ns.median() >= 1000 {
				cells[i] = fmt.Sprintf("%s ± %.0f %%", grouped(int(s.ns.median())), 100*s.ns.spread())
			}
			if i > 0 {
				cells[i] += fmt.Sprintf(", %.2gx", s.ns.over(w.of(names[0]).ns).median())
				if x := s.ns.over(w.of(names[0]).ns).median(); x >= 10 {
					cells[i] = strings.TrimSuffix(cells[i], fmt.Sprintf("%.2gx", x)) + fmt.Sprintf("%.0fx", x)
				}
			}
			if s.allocs > 0 {
				cells[i] += fmt.Sprintf(", %.0f allocs", s.allocs)
			}
		}
		line("| %s | %s |", w.name, strings.Join(cells, " | "))
	}
}

func connTables(line func(string, ...any), r *results) {
	line("")
	line("## Short connections")
	line("")
	line("A client in another process dials, writes header and 32 bytes, reads 32 bytes and the end; the server accepts, asks for RemoteAddr,")
	line("reads, answers and closes. The server has one CPU and the clients have the other. The bare listener gets the same")
	line("bytes, and its user reads the header as if it were payload; armon gets a version 1 header. CPU is that of the server's process.")
	for _, c := range r.conns {
		line("")
		line("%s:", strings.ToUpper(c.name[:1])+c.name[1:])
		line("")
		line("| | µs for one | over bare | CPU µs | over bare | allocations | bytes |")
		line("|---|---|---|---|---|---|---|")
		for _, kind := range wrappers {
			times, cpu := c.times[kind], c.cpu[kind]
			line("| %s | %.1f ± %.0f %% | %s | %.1f ± %.0f %% | %s | %.1f | %.0f |", kind, times.median()/1e3, 100*times.spread(),
				percent(times.over(c.times[nameBare]).median()), cpu.median()/1e3, 100*cpu.spread(),
				percent(cpu.over(c.cpu[nameBare]).median()), c.allocs[kind], c.bytes[kind])
		}
	}
}

func callTables(line func(string, ...any), r *results) {
	line("")
	line("## System calls of a short connection")
	line("")
	line("Counted by strace, without those of the scheduler (futex, epoll_wait, nanosleep).")
	for _, t := range []struct {
		title string
		calls map[string]map[string]float64
	}{{"Header and payload have arrived before the connection is accepted:", r.together}, {"The server waits for the header, and then for the payload:", r.apart}} {
		names := map[string]bool{}
		for _, calls := range t.calls {
			for name, n := range calls {
				if n >= 0.05 {
					names[name] = true
				}
			}
		}
		columns := sortedKeys(names)
		line("")
		line("%s", t.title)
		line("")
		line("| | %s |", strings.Join(columns, " | "))
		line("|---|%s", strings.Repeat("---|", len(columns)))
		for _, kind := range wrappers {
			cells := make([]string, len(columns))
			for i, name := range columns {
				cells[i] = fmt.Sprintf("%.1f", t.calls[kind][name])
			}
			line("| %s | %s |", kind, strings.Join(cells, " | "))
		}
	}
}

func relayTable(line func(string, ...any), r *results) {
	line("")
	line("## Relay and file")
	line("")
	line("µs for a megabyte from a client through the server to a client, and by strace which system calls put the bytes into the socket.")
	line("io.CopyN hands a bare connection an io.LimitedReader, in which package net looks for its own types only: no wrapper can make it")
	line("splice from a wrapped connection to a bare one. io.Copy does.")
	line("")
	line("| way | %s | %s | %s by | bare by | pires by |", nameBare, strings.Join(relayers[1:], " | "), nameOurs)
	line("|---|%s", strings.Repeat("---|", len(relayers)+3))
	for _, relay := range r.relays {
		cells := make([]string, len(relayers))
		for i, kind := range relayers {
			cells[i] = fmt.Sprintf("%.0f ± %.0f %%", relay.times[kind].median(), 100*relay.times[kind].spread())
			if kind != nameBare {
				cells[i] += " (" + percent(relay.times[kind].over(relay.times[nameBare]).median()) + ")"
			}
		}
		line("| %s | %s | %s | %s | %s |", relay.name, strings.Join(cells, " | "), carriers(relay.sent), carriers(relay.bare), carriers(relay.sentPires))
	}
}

// carriers names the system calls that carried bytes, with their shares.
func carriers(sent map[string]int64) string {
	var texts []string
	for _, name := range sortedKeys(sent) {
		if share := carried(sent, name); share >= 0.001 {
			texts = append(texts, fmt.Sprintf("%s %.1f %%", name, 100*share))
		}
	}
	return strings.Join(texts, ", ")
}

func growthTable(line func(string, ...any), all []growth) {
	line("| | %s |", strings.Join(growers, " | "))
	line("|---|%s", strings.Repeat("---|", len(growers)))
	for _, g := range all {
		cells := make([]string, len(growers))
		for i, kind := range growers {
			times := g.times[kind]
			cells[i] = fmt.Sprintf("%.1f ± %.0f %%, %.2fx", times.median()/1e3, 100*times.spread(), times.over(all[0].times[kind]).median())
		}
		line("| %s | %s |", g.name, strings.Join(cells, " | "))
	}
}

// setup describes the machine, how busy it was before it all began, and what is compared.
func setup(load string) string {
	var lines []string
	lines = append(lines, fmt.Sprintf("Machine: %d CPUs, %s, %s/%s, %s; load average before: %s.", runtime.NumCPU(), cpuModel(),
		runtime.GOOS, runtime.GOARCH, firstLine("uname", "-sr"), load))
	versions := []string{runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			for _, name := range []string{namePires, nameArmon, nameMastercactapus} {
				if strings.HasPrefix(d.Path, "github.com/"+name+"/") {
					versions = append(versions, d.Path+" "+d.Version)
				}
			}
		}
	}
	for _, tool := range [][]string{{"gcc", "--version"}, {"haproxy", "-v"}, {"wrk", "-v"}, {"strace", "-V"}} {
		if v := firstLine(tool[0], tool[1:]...); v != "" {
			versions = append(versions, strings.TrimSuffix(strings.Split(v, " Copyright")[0], " - https://haproxy.org/"))
		}
	}
	lines = append(lines, "Versions: "+strings.Join(versions, "; ")+".")
	return strings.Join(lines, "\n")
}

func firstLine(name string, args ...string) string {
	// Debian puts servers where not every user looks.
	cmd := exec.Command(name, args...)
	if cmd.Err != nil {
		cmd = exec.Command("/usr/sbin/"+name, args...)
	}
	out, _ := cmd.CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return strings.TrimSpace(line)
}

// loadAverage tells how many processes have run or waited for a CPU lately.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if fields := strings.Fields(string(b)); err == nil && len(fields) > 0 {
		return fields[0]
	}
	return "unknown"
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown model"
}
