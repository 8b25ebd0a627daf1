package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out strings.Builder
	ok, err := run(&out)
	require.NoError(t, err)
	assert.True(t, ok)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 1+len(kinds)*clientsPerKind)
	clients := map[string]bool{}
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		assert.Equal(t, 2, strings.Count(line, fields[0]), line)
		assert.Equal(t, strings.Contains(line, "with TLVs"), strings.HasSuffix(strings.TrimSpace(line), `AUTHORITY="example.com" ALPN="h2"`), line)
		clients[fields[0]] = true
	}
	assert.Len(t, clients, len(kinds)*clientsPerKind)
}

// As the README says it is started.
func TestGoRun(t *testing.T) {
	command := exec.Command("go", "run", "./examples/quickstart")
	command.Dir = "../.."
	out, err := command.CombinedOutput()
	assert.NoError(t, err, "%s", out)
}
