// Compare measures what a PROXY header costs a Go server with this library, with its peers, with
// no library at all, and in C, side by side. It stores the figures in results, compares them with
// those before, and writes docs/performance.md and its charts of them.
//
//	go run .                      everything
//	go run . -only parse,attack   some parts; the rest of the page stays
//	go run . -only ""             the page anew, of the figures that are stored
//	go run . -marks               which of CONTRIBUTING.md's marks the stored figures reach
//	go run . -quick -results DIR  everything in seconds: it shows that it works and no more
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A part answers one question.
type part struct {
	name    string
	takes   time.Duration // usually
	measure func(m *measuring)
}

// The parts, by their names for -only.
const (
	partBacklog = "backlog"
	partLate    = "late"
	partAttack  = "attack"
	partParse   = "parse"
	partAppend  = "append"
	partPolicy  = "policy"
	partCalls   = "calls"
	partRelay   = "relay"
	partWeb     = "web"
	partScale   = "scale"
	partSockets = "sockets"
)

var parts = []part{
	{partBacklog, 50 * time.Second, measureBacklog},
	{partLate, 75 * time.Second, measureLate},
	{partAttack, 150 * time.Second, measureAttack},
	{partParse, 80 * time.Second, measureMicro(partParse)},
	{partAppend, 70 * time.Second, measureMicro(partAppend)},
	{partPolicy, 25 * time.Second, measureMicro(partPolicy)},
	{partCalls, 60 * time.Second, measureCalls},
	{partRelay, 90 * time.Second, measureRelays},
	{partWeb, 50 * time.Second, measureWeb},
	{partScale, 120 * time.Second, measureScale},
	{partSockets, 60 * time.Second, measureSockets},
}

func main() {
	log.SetFlags(0)
	if ranRole() {
		return
	}
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	only := flag.String("only", strings.Join(names, ","), "parts to measure")
	quick := flag.Bool("quick", false, "measure too little for figures to mean anything")
	results := flag.String("results", resultsDir, "folder of the figures")
	docs := flag.String("docs", "../docs", "folder of the page; nothing is written if empty")
	judge := flag.Bool("marks", false, "only tell which marks are reached")
	flag.Parse()
	err := error(nil)
	if !*judge {
		err = measureParts(strings.Split(*only, ","), *quick, *results)
	}
	if err == nil {
		err = report(*results, *docs, *judge)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// measureParts measures the parts and stores their figures.
func measureParts(only []string, quick bool, results string) error {
	var wanted []part
	var c clock
	for _, name := range only {
		i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		switch {
		case i >= 0:
			wanted = append(wanted, parts[i])
			c.left += parts[i].takes
		case name != "":
			return fmt.Errorf("there is no part %q", name)
		}
	}
	dir, err := os.MkdirTemp("", "compare")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, p := range wanted {
		about := aboutMachine()
		c.begin(p)
		f := newFigures()
		m := &measuring{f, quick, dir, func(done, all int) { c.step(p, done, all) }}
		var absent missing
		switch err := m.run(p); {
		case errors.As(err, &absent):
			log.Printf("%s isn't measured: %v", p.name, absent)
		case err != nil:
			return fmt.Errorf("%s: %w", p.name, err)
		default:
			if err := store(results, p.name, f.format(p.name, about)); err != nil {
				return err
			}
		}
	}
	return nil
}

// run measures a part; check's panics become its error.
func (m *measuring) run(p part) (err error) {
	defer func() {
		switch failed := recover().(type) {
		case nil:
		case failure:
			err = failed
		case missing:
			err = failed
		default:
			panic(failed)
		}
	}()
	p.measure(m)
	return nil
}

// report writes the page and the charts, unless it is only to judge, and tells the marks.
func report(results, docs string, judge bool) error {
	records, err := readRecords(results)
	if err != nil {
		return err
	}
	if !judge && docs != "" {
		datagrams, err := os.ReadFile(filepath.Join(results, "datagrams.md"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := drawCharts(records, filepath.Join(docs, "charts")); err != nil {
			return err
		}
		page := filepath.Join(docs, "performance.md")
		text := writePage(records, string(datagrams))
		if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
			return err
		}
	}
	fmt.Print("\nMarks (CONTRIBUTING.md):\n\n", judgement(records))
	return nil
}

// descriptors is how many files a process may have open. Go raises the soft limit to the hard one.
func descriptors() int {
	var limit syscall.Rlimit
	check(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	return int(min(limit.Max, 1<<30))
}
