package main

import (
	"strings"
	"testing"
)

func TestRows(t *testing.T) {
	for _, w := range works {
		for _, clients := range []int{1, 3} {
			r, err := measure(w, clients, 2)
			if err != nil {
				t.Fatal(err)
			}
			if row := r.row(w, clients); strings.Count(row, "|") != 6 || strings.Contains(row, "NaN") {
				t.Error(row)
			}
		}
	}
}

func TestPerSecond(t *testing.T) {
	for ns, want := range map[float64]string{batch * 1000: "1,000,000", batch * 800: "1,250,000", batch * 5000: "200,000"} {
		if got := perSecond(ns); got != want {
			t.Errorf("%v ns: %s instead of %s", ns, got, want)
		}
	}
}
