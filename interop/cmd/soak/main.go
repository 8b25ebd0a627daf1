// Command soak drives connections from 60,000 client addresses through HAProxy and nginx in turn
// to a server behind a Listener, and tells whether one was lost or taken for another's, and what
// the process holds at the end that it didn't at the start.
//
//	go run ./cmd/soak -n 1000000
//	go run ./cmd/soak -for 8h
package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/seed2e8fe8ee/proxyproto/interop/internal/soak"
)

func main() {
	n := flag.Int("n", 0, "stop after so many connections")
	d := flag.Duration("for", 0, "stop after this time")
	workers := flag.Int("workers", 32, "connections at a time")
	flag.Parse()
	if *n <= 0 && *d <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	if *n <= 0 {
		*n = math.MaxInt
	}
	os.Exit(run(soak.Options{Connections: *n, Duration: *d, Workers: *workers, Progress: func(s string) { fmt.Println(s) }}))
}

func run(o soak.Options) int {
	t := &program{}
	defer t.cleanup()
	r := soak.Run(t, o)
	fmt.Println(r)
	failures := r.Failures()
	for _, f := range failures {
		fmt.Println("FAILED:", f)
	}
	return min(1, len(failures))
}

// program is a testing.TB for the harness that starts the proxies: what ends a test ends the program.
type program struct {
	testing.TB // nil: what isn't here isn't used
	cleanups   []func()
}

func (p *program) Helper()          {}
func (p *program) Failed() bool     { return false }
func (p *program) Cleanup(f func()) { p.cleanups = append(p.cleanups, f) }

func (p *program) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func (p *program) Errorf(format string, args ...any) { p.Logf(format, args...) }

func (p *program) FailNow() {
	p.cleanup()
	os.Exit(1)
}

func (p *program) Fatalf(format string, args ...any) {
	p.Logf(format, args...)
	p.FailNow()
}

func (p *program) Skipf(format string, args ...any) { p.Fatalf(format, args...) }

func (p *program) cleanup() {
	for _, f := range slices.Backward(p.cleanups) {
		f()
	}
	p.cleanups = nil
}
