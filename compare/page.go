package main

import (
	"fmt"
	"slices"
	"strings"
)

// A page is Markdown being written, from the figures of all parts.
type page struct {
	strings.Builder
	all map[string]*record
}

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// section begins a section if its part has been measured, and returns its figures.
func (p *page) section(title, part string) (*figures, bool) {
	if p.all[part] == nil {
		return nil, false
	}
	p.line("\n## %s\n", title)
	return p.all[part].figures, true
}

// command says how a section's figures are measured again.
func (p *page) command(part string) {
	p.line("\n`go run . -only %s`, load average before: %s.", part, p.all[part].about["load"])
}

func (p *page) chart(file, alt string) { p.line("\n![%s](charts/%s.svg)\n", alt, file) }

// figuresOf returns a part's figures: none if it hasn't been measured.
func figuresOf(all map[string]*record, part string) *figures {
	if r := all[part]; r != nil {
		return r.figures
	}
	return newFigures()
}

// writePage writes the page. datagrams is the last section's table.
func writePage(all map[string]*record, datagrams string) string {
	p := &page{all: all}
	p.line("# Performance")
	p.line("")
	p.answers()
	p.method()
	p.connections()
	p.attacks()
	p.parsing()
	p.lateHeaders()
	p.growth()
	p.more()
	if datagrams != "" {
		p.line("\n## Datagrams\n")
		p.line("Served by a PacketConn and by a bare `*net.UDPConn` in turn, `go run ./udp` in " +
			"`compare`: read alone, and read and answered.\n")
		p.WriteString(datagrams)
	}
	return strings.TrimRight(p.String(), "\n") + "\n"
}

// answers are what a user wants to know.
func (p *page) answers() {
	if f := figuresOf(p.all, partBacklog); len(f.order) > 0 {
		p.line("- **What does a connection cost?** %s of CPU time more than without a PROXY header,",
			percent(f.ratio(backlogV2, nameOurs, nameBare, unitCPU).median()))
		p.line("  to accept it, ask who it is, read and close it (pires: %s).",
			percent(f.ratio(backlogV2, namePires, nameBare, unitCPU).median()))
	}
	if f := figuresOf(p.all, partParse); len(f.order) > 0 {
		p.line("- **How does it compare?** It parses a version 2 header in %s ns, pires in %s; one "+
			"of version 1 in %s ns, pires",
			number(f.of("v2 TCP4", nameOurs, unitNs).median()), number(f.of("v2 "+
				"TCP4", namePires, unitNs).median()),
			number(f.of("v1 TCP4", nameOurs, unitNs).median()))
		p.line("  in %s. It allocates nothing for that.", number(f.of("v1 "+
			"TCP4", namePires, unitNs).median()))
	}
	if f := figuresOf(p.all, partAttack); len(f.order) > 0 {
		p.line("- **What happens under attack?** While 5,000 peers connect and send half a header, " +
			"a good client's connection takes")
		p.line("  %.2f times what it takes at a bare listener under the same attack, and of the "+
			"peers %s are kept instead of %s.",
			f.ratio(attackHalf, nameOurs, nameBare, unitMedian).median(),
			grouped(int(f.of(attackHalf, nameOurs, unitHeld).median())),
			grouped(int(f.of(attackHalf, nameBare, unitHeld).median())))
	}
}

func (p *page) method() {
	p.line("\n## Method\n")
	p.line("What is compared takes turns within a round, a figure is the median over the rounds " +
		"with the distance between its")
	p.line("quartiles, and a ratio the median of the ratios within each round, so that what " +
		"disturbs the machine disturbs both")
	p.line("sides. *bare* is a listener of package net whose user reads the header as if it were " +
		"payload. Servers and clients are")
	p.line("processes of their own, each on its CPU where it says nothing else, and `make bench` " +
		"measures and writes it all.\n")
	var machines, versions []string
	for _, part := range parts {
		if r := p.all[part.name]; r != nil {
			a := r.about
			machine := fmt.Sprintf("%s CPUs, %s, %s/%s, "+
				"%s", a["cpus"], a["cpu"], a["goos"], a["goarch"], a["kernel"])
			if !slices.Contains(machines, machine) {
				machines = append(machines, machine)
			}
			if !slices.Contains(versions, a["versions"]) {
				versions = append(versions, a["versions"])
			}
		}
	}
	p.line("Machine: %s.\nVersions: %s.", strings.Join(machines, "; and "+
		""), strings.Join(versions, "; and "))
	var noisy []string
	for _, part := range parts {
		if r := p.all[part.name]; r != nil {
			for _, by := range []string{nameOurs, nameBare} {
				for _, work := range r.figures.works() {
					for _, unit := range []string{unitNs, unitCPU} {
						s := r.figures.of(work, by, unit)
						if len(s) > 1 && s.spread() > 0.2 && !slices.Contains(noisy, part.name) {
							noisy = append(noisy, part.name)
						}
					}
				}
			}
		}
	}
	if noisy != nil {
		p.line("\nThis machine was shared with other work, and couldn't do better: in %s there are "+
			"times whose quartiles lie more than 10 %%",
			strings.Join(noisy, ", "))
		p.line("from the median. The minimum is beside the median there, and the ratios hold within " +
			"each round.")
	}
}

func (p *page) connections() {
	f, ok := p.section("What a connection costs", partBacklog)
	if !ok {
		return
	}
	p.chart("backlog", "CPU time of a connection over a bare listener's, by library")
	p.line("500 connections that have sent header and 32 bytes wait in the kernel. One goroutine " +
		"accepts them, asks for RemoteAddr,")
	p.line("reads and closes; the time is what the process used of the CPU by getrusage, in the " +
		"kernel and outside. Nobody waits,")
	p.line("so no scheduler is in it. armon knows version 1 only, mastercactapus takes no TLVs.")
	for _, h := range backlogHeaders {
		p.line("\nHeader %s:\n", h.name)
		p.line("| | CPU µs | least | over bare | allocations | bytes |\n|---|---|---|---|---|---|")
		for _, kind := range h.able {
			s := f.of(h.name, kind, unitCPU)
			p.line("| %s | %.1f %s | %.1f | %s | %.1f | %.0f "+
				"|", kind, s.median()/1e3, spread(s), slices.Min(s)/1e3,
				percent(s.over(f.of(h.name, nameBare, unitCPU)).median()),
				f.of(h.name, kind, unitConnAllocs).median(), f.of(h.name, kind, unitConnBytes).median())
		}
	}
	p.command(partBacklog)
}

func (p *page) attacks() {
	f, ok := p.section("Under attack", partAttack)
	if !ok {
		return
	}
	p.chart("attack", "Time of a good client's connection under attack, by listener")
	p.line("5,000 peers, each with an address of its own, connect as fast as they can, send half " +
		"a header, and stay. A good")
	p.line("client makes one connection after the other meanwhile: header and 32 bytes, an " +
		"answer of 32 bytes, the end. `MaxPending`")
	p.line("is 1,000: of the peers the Listener keeps that many, and closes the one that has " +
		"waited longest for each new one. *lost* are")
	p.line("the good client's connections that got no answer.\n")
	p.line("| | | median µs | over bare | 99th percentile µs | over bare | peers kept | lost " +
		"|\n|---|---|---|---|---|---|---|---|")
	for _, work := range []string{attackNone, attackHalf} {
		for _, kind := range attackContenders {
			cells := []string{kind, work}
			for _, unit := range []string{unitMedian, unitP99} {
				s := f.of(work, kind, unit)
				cells = append(cells, fmt.Sprintf("%.0f %s", s.median()/1e3, spread(s)),
					fmt.Sprintf("%.2fx", f.ratio(work, kind, nameBare, unit).median()))
			}
			held, lost := "0", "0"
			if work == attackHalf {
				held = grouped(int(f.of(work, kind, unitHeld).median()))
				lost = fmt.Sprintf("%.1f", f.of(work, kind, unitLost).median())
			}
			p.line("| %s | %s | %s |", strings.Join(cells, " | "), held, lost)
		}
	}
	p.command(partAttack)
}

// spread writes how far the quartiles are apart.
func spread(s series) string {
	if len(s) < 3 {
		return ""
	}
	return fmt.Sprintf("± %.0f %%", 50*s.spread())
}

// percent writes a ratio as what is more or less.
func percent(x float64) string { return fmt.Sprintf("%+.1f %%", (x-1)*100) }

// number writes a time with the digits that it deserves.
func number(x float64) string {
	if x >= 1000 {
		return grouped(int(x + 0.5))
	}
	if x >= 100 {
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.1f", x)
}
