package main

import (
	"fmt"
	"slices"
	"strings"
)

func (p *page) parsing() {
	f, ok := p.section("Parse and AppendTo", partParse)
	if !ok {
		return
	}
	p.chart("parse", "Nanoseconds to parse a header, by library")
	p.line("ns for one header, the least in brackets, how many times this library's that is, and " +
		"allocations. What the caller keeps is")
	p.line("counted in: a Header stored, which here is a value and elsewhere a pointer. The C " +
		"sample is the receiver of the spec's")
	p.line("section 9 (`csample/`, gcc -O2, inet_pton for version 1), which leaves the addresses " +
		"in a struct of its caller. armon has")
	p.line("no parser apart from its connections: its figures have a connection in them. A " +
		"contender that doesn't find what is in a")
	p.line("header has no figure.\n")
	p.microTable(f, []string{nameOurs, namePires, nameArmon, nameMastercactapus, nameC})
	p.command(partParse)
	if f := figuresOf(p.all, partAppend); len(f.order) > 0 {
		p.line("\nAppendTo to a buffer with room, pires' Format, mastercactapus' WriteTo to a " +
			"bytes.Buffer with room. A contender that doesn't")
		p.line("write the same bytes has no figure.\n")
		p.microTable(f, []string{nameOurs, namePires, nameMastercactapus})
		p.command(partAppend)
	}
}

func (p *page) microTable(f *figures, names []string) {
	p.line("| work | %s |", strings.Join(names, " | "))
	p.line("|---|%s", strings.Repeat("---|", len(names)))
	for _, work := range f.works() {
		cells := make([]string, len(names))
		for i, by := range names {
			s := f.of(work, by, unitNs)
			if len(s) == 0 {
				cells[i] = "–"
				continue
			}
			cells[i] = fmt.Sprintf("%s %s (%s)", number(s.median()), spread(s), number(slices.Min(s)))
			if i > 0 {
				cells[i] += ", " + times(s.over(f.of(work, names[0], unitNs)).median())
			}
			if n := f.of(work, by, unitAllocs).median(); n > 0 {
				cells[i] += fmt.Sprintf(", %.0f allocs", n)
			}
		}
		p.line("| %s | %s |", work, strings.Join(cells, " | "))
	}
}

func times(x float64) string {
	if x >= 10 {
		return fmt.Sprintf("%.0fx", x)
	}
	return fmt.Sprintf("%.2gx", x)
}

func (p *page) lateHeaders() {
	f, ok := p.section("Headers that come late", partLate)
	if !ok {
		return
	}
	p.chart("late", "Memory of a pending connection, by library")
	p.line("10,000 connections that send nothing, what each takes then, and the CPU time of the " +
		"whole connection when header and 32 bytes")
	p.line("have come at last. This library waits itself, and its user sees the connection when " +
		"the header is there; with `Lazy`, and with")
	p.line("the others, the user's goroutine waits.\n")
	p.line("| | goroutines | heap and stack, bytes | CPU µs | over bare |\n|---|---|---|---|---|")
	for _, kind := range lateContenders {
		cpu := f.of(lateWork, kind, unitCPU)
		p.line("| %s | %.2f | %s | %.1f %s | %s |", kind, f.of(lateWork, kind, unitGoroutines).median(),
			grouped(int(f.of(lateWork, kind, unitConnBytes).median())), cpu.median()/1e3, spread(cpu),
			percent(f.ratio(lateWork, kind, nameBare, unitCPU).median()))
	}
	p.command(partLate)
}

// more are the sections that few need.
func (p *page) more() {
	if f, ok := p.section("System calls of a connection", partCalls); ok {
		p.line("Counted by strace, without those of the scheduler. In *together* header and payload " +
			"have arrived before the connection is")
		p.line("accepted; in *apart* the server waits for the header, and then for the payload.\n")
		p.callTable(f)
		p.command(partCalls)
	}
	if f, ok := p.section("Relay and file", partRelay); ok {
		p.line("µs for a megabyte from a client through the server to a client, and by strace which " +
			"system calls put the bytes into the socket.")
		p.line("io.CopyN hands a bare connection an io.LimitedReader, in which package net looks " +
			"for its own types only: no wrapper can")
		p.line("make it splice from a wrapped connection to a bare one. io.Copy does.\n")
		p.relayTable(f)
		p.command(partRelay)
	}
	if f, ok := p.section("HTTP, keep-alive", partWeb); ok {
		p.line("wrk with 32 connections, HAProxy in TCP mode and the server share the machine.\n")
		p.line("| way | requests/s | of bare behind HAProxy | 99th percentile, ms |\n|---|---|---|---|")
		for _, s := range sites {
			rate := f.of(webRequests, s.name, unitRate)
			p.line("| %s | %s %s | %.2f | %.1f |", s.name, grouped(int(rate.median())), spread(rate),
				f.ratio(webRequests, s.name, siteBare, unitRate).median(), f.of(webRequests, s.name, unitP99).median()/1e6)
		}
		p.command(partWeb)
	}
	if f, ok := p.section("Policies", partPolicy); ok {
		p.line("ns for one decision; half of the peers are in a prefix, in random order.\n")
		p.microTable(f, []string{nameTrust, nameRules, namePires})
		p.command(partPolicy)
	}
}

func (p *page) callTable(f *figures) {
	names := map[string]bool{}
	for _, key := range f.order {
		names[strings.TrimSuffix(key.unit, suffixCalls)] = true
	}
	columns := sortedKeys(names)
	p.line("| | | %s |\n|---|---|%s", strings.Join(columns, " | "+
		""), strings.Repeat("---|", len(columns)))
	for _, work := range []string{callsTogether, callsApart} {
		for _, kind := range wrappers {
			calls := callsOf(f, work, kind)
			cells := make([]string, len(columns))
			for i, name := range columns {
				cells[i] = fmt.Sprintf("%.1f", calls[name])
			}
			p.line("| %s | %s | %s |", work, kind, strings.Join(cells, " | "))
		}
	}
}

func (p *page) relayTable(f *figures) {
	p.line("| way | %s | %s by | bare by | pires by |", strings.Join(relayers, " | "), nameOurs)
	p.line("|---|%s", strings.Repeat("---|", len(relayers)+3))
	for _, r := range relayings() {
		var cells []string
		for _, kind := range relayers {
			s := f.of(r.name, kind, unitRelay)
			cell := fmt.Sprintf("%.0f %s", s.median(), spread(s))
			if kind != nameBare {
				cell += " (" + percent(f.ratio(r.name, kind, nameBare, unitRelay).median()) + ")"
			}
			cells = append(cells, cell)
		}
		for _, kind := range []string{nameOurs, nameBare, namePires} {
			var texts []string
			shares := bySuffix(f, r.name, kind, suffixBytes)
			for _, call := range sortedKeys(shares) {
				if shares[call] >= 0.001 {
					texts = append(texts, fmt.Sprintf("%s %.1f %%", call, 100*shares[call]))
				}
			}
			cells = append(cells, strings.Join(texts, ", "))
		}
		p.line("| %s | %s |", r.name, strings.Join(cells, " | "))
	}
}
