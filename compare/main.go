// Compare measures what a PROXY header costs a Go server with this library, with its peers, with
// no library at all, and in C, side by side in one run, and writes what it found as a page.
//
//	go run . -o ../docs/performance.md        everything, in some ten minutes
//	go run . -only parse,policy               some parts, on standard output
//	go run . -quick                           everything in seconds: it shows that it works and no more
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The parts, by their names for -only.
const (
	partParse  = "parse"
	partAppend = "append"
	partPolicy = "policy"
	partConns  = "conns"
	partCalls  = "calls"
	partRelay  = "relay"
	partWeb    = "web"
	partIdle   = "idle"
	partGrowth = "growth"
)

var parts = []string{partParse, partAppend, partPolicy, partConns, partCalls, partRelay, partWeb, partIdle, partGrowth}

// has reports whether a part has been measured.
func (r *results) has(part string) bool {
	return map[string]bool{
		partParse: r.parse != nil, partAppend: r.appendTo != nil, partPolicy: r.policies != nil, partConns: r.conns != nil,
		partCalls: r.together != nil, partRelay: r.relays != nil, partWeb: r.web != nil, partIdle: r.idle != nil, partGrowth: r.pending != nil,
	}[part]
}

func main() {
	log.SetFlags(0)
	if ranRole() {
		return
	}
	only := flag.String("only", strings.Join(parts, ","), "parts to measure")
	quick := flag.Bool("quick", false, "measure too little for figures to mean anything")
	out := flag.String("o", "", "file to write the page to; standard output if empty")
	flag.Parse()
	text, err := run(strings.Split(*only, ","), *quick)
	if err != nil {
		log.Fatal(err)
	}
	if *out == "" {
		fmt.Print(text)
		return
	}
	if err := os.WriteFile(*out, []byte(text), 0o644); err != nil {
		log.Fatal(err)
	}
}

// run measures the parts and returns the page.
func run(only []string, quick bool) (text string, err error) {
	for _, name := range only {
		if !slices.Contains(parts, name) {
			return "", fmt.Errorf("there is no part %q: there are %s", name, strings.Join(parts, ", "))
		}
	}
	dir, err := os.MkdirTemp("", "compare")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	r := new(results)
	load := loadAverage()
	started := time.Now()
	for _, name := range parts {
		if !slices.Contains(only, name) {
			continue
		}
		log.Printf("%5.0f s: %s", time.Since(started).Seconds(), name)
		if err := r.measure(name, quick, dir); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
	about := setup(load)
	if quick {
		about += "\n\nMeasured with -quick: **the figures mean nothing.**"
	}
	return page(r, about), nil
}

// measure measures one part. That a program for it isn't installed is no error, but is noted.
func (r *results) measure(part string, quick bool, dir string) (err error) {
	defer func() {
		var absent missing
		switch failed := recover().(type) {
		case nil:
		case failure:
			err = failed
		case missing:
			absent = failed
			r.missing = append(r.missing, part+", because "+absent.Error())
		default:
			panic(failed)
		}
	}()
	// Rounds many enough for a median that stays, slices long enough to be measured.
	micro, net := effort{121, 3 * time.Millisecond}, effort{25, 150 * time.Millisecond}
	relaySize, straceSize, straceConns := int64(64<<20), int64(16<<20), 200
	idleRounds, idleConns := 3, []int{1000, 15_000}
	webRounds, webEach := 9, 2*time.Second
	if quick {
		micro, net = effort{1, 100 * time.Microsecond}, effort{1, time.Millisecond}
		relaySize, straceSize, straceConns = 1<<20, 1<<20, 20
		idleRounds, idleConns = 1, []int{10, 100}
		webRounds, webEach = 1, time.Second
	}
	switch part {
	case partParse:
		log.SetOutput(io.Discard) // armon logs every refusal
		defer log.SetOutput(os.Stderr)
		r.parse = measureParse(micro)
	case partAppend:
		r.appendTo = measureAppend(micro)
	case partPolicy:
		r.policies = measurePolicies(micro)
	case partConns:
		r.conns = measureConns(net, quick)
	case partCalls:
		together, apart := map[string]map[string]float64{}, map[string]map[string]float64{}
		for _, kind := range wrappers {
			together[kind] = syscallsOf(dir, kind, true, straceConns)
			apart[kind] = syscallsOf(dir, kind, false, straceConns)
		}
		r.together, r.apart = together, apart
	case partRelay:
		relays := measureRelays(effort{net.rounds, 0}, dir, relaySize)
		traceRelays(relays, dir, straceSize)
		r.relays = relays
	case partWeb:
		r.web = measureWeb(webRounds, webEach, dir)
	case partIdle:
		if most := descriptors() - 100; idleConns[len(idleConns)-1] > most {
			return fmt.Errorf("%w: %d idle connections need more than the %d descriptors that RLIMIT_NOFILE allows", errors.ErrUnsupported, idleConns[len(idleConns)-1], most+100)
		}
		r.idle = measureIdle(idleRounds, idleConns)
	case partGrowth:
		pending := measurePending(net, quick)
		r.cpus = measureCPUs(net)
		r.pending = pending
	}
	return nil
}

// descriptors is how many files a process may have open. Go raises the soft limit to the hard one.
func descriptors() int {
	var limit syscall.Rlimit
	check(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	return int(limit.Max)
}
