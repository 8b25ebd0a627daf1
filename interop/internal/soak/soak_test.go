package soak

import (
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSoak is the short run, or one of as many connections as the environment's SOAK says. cmd/soak
// is for long ones.
func TestSoak(t *testing.T) {
	connections := 3000
	if s := os.Getenv("SOAK"); s != "" {
		var err error
		connections, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	r := Run(t, Options{Connections: connections, Workers: 32})
	t.Log(r)
	assert.Empty(t, r.Failures())
}
