//go:build !race

package testenv

// Race says that the race detector is on, under which allocations don't count.
const Race = false
