//go:build !race

package proxyudp

// raceEnabled says that the race detector is on, under which allocations don't count.
const raceEnabled = false
