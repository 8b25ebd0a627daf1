package main

import (
	"os"
	"strings"
	"testing"
)

// The test program plays the roles that its own one has.
func TestMain(m *testing.M) {
	for i, arg := range os.Args {
		switch arg {
		case "-serve":
			serveQUIC(os.Args[i+1])
			return
		case "-relay":
			relayTo(os.Args[i+1], os.Args[i+2] == "-headers=true")
			return
		}
	}
	os.Exit(m.Run())
}

func TestDatagrams(t *testing.T) {
	for _, w := range works {
		took, garbage, err := measure(w, 3, 2)
		if err != nil {
			t.Fatal(err)
		}
		for i := range sockets {
			if len(took[i]) != 2 || took[i][0] <= 0 || garbage[i].bytes < 0 {
				t.Error(took[i], garbage[i])
			}
		}
	}
}

func TestQUIC(t *testing.T) {
	for _, c := range contenders {
		s, err := startSite(c)
		if err != nil {
			t.Fatal(err)
		}
		defer s.stop()
		for _, j := range jobs(1) {
			seconds, cpu, err := s.do(j)
			if err != nil || seconds <= 0 || cpu <= 0 {
				t.Fatal(c.name, j.name, seconds, cpu, err)
			}
			f := figures{[]float64{seconds}, []float64{cpu}}
			if r := row(j, c, f, f); strings.Count(r, "|") != 6 || !strings.Contains(r, "| 1.00 (1.00") {
				t.Error(r)
			}
		}
	}
}

func TestPerSecond(t *testing.T) {
	for ns, want := range map[float64]string{
		batch * 1000: "1,000,000", batch * 800: "1,250,000", batch * 5000: "200,000",
	} {
		if got := perSecond(ns); got != want {
			t.Errorf("%v ns: %s instead of %s", ns, got, want)
		}
	}
}
