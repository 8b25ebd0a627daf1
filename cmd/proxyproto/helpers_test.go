package main

import (
	"os"
	"strconv"
	"testing"
)

// missing fails the test in CI, where all programs have to be there, and says so elsewhere.
func missing(t *testing.T, program string) {
	t.Helper()
	if ci, _ := strconv.ParseBool(os.Getenv("CI")); ci {
		t.Errorf("%s is not installed", program)
		return
	}
	t.Logf("%s is not installed: what needs it is left out", program)
}
