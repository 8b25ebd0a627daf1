package main

import (
	"math"
	"math/rand/v2"
	"slices"
)

// waits simulates connections that come at random, perSecond of them, each to one of as many
// sockets as the kernel's hash says, and are accepted one after the other at each, which takes
// service nanoseconds. It returns how busy a socket's accept loop is, and what a connection waits
// for it in the median and in the 99th percentile, in nanoseconds.
func waits(perSecond float64, sockets int, service float64) (busy, median, p99 float64) {
	busy = perSecond / float64(sockets) * service / 1e9
	if busy >= 1 {
		return busy, math.Inf(1), math.Inf(1)
	}
	random := rand.New(rand.NewPCG(1, uint64(sockets)))
	free := make([]float64, sockets) // when each loop has nothing left to do
	var all series
	now := 0.0
	for range 300_000 {
		now += random.ExpFloat64() / perSecond * 1e9
		i := random.IntN(sockets)
		begin := max(now, free[i])
		free[i] = begin + service
		all = append(all, begin-now)
	}
	slices.Sort(all)
	return busy, all.quantile(0.5), all.quantile(0.99)
}
