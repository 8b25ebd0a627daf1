package soak

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestSoak is the short run: cmd/soak is for long ones.
func TestSoak(t *testing.T) {
	r := Run(t, Options{Connections: 12000, Workers: 32})
	t.Log(r)
	assert.Empty(t, r.Failures())
}
