package main

import (
	"net"
	"os/exec"
	"runtime"
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
	t.Log("\n" + out.String())
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 1+len(kinds)*clientsPerKind)
	clients := map[string]bool{}
	for i, line := range lines[1:] {
		fields := strings.Fields(line)
		client, plain, ours := fields[0], fields[1], fields[2]
		assert.Equal(t, client, ours)
		if runtime.GOOS == "linux" {
			assert.True(t, strings.HasPrefix(plain, "127.0.0.1:"), "the proxy's address: %s", line)
		}
		assert.NotEqual(t, client, plain)
		assert.Equal(t, kinds[i/clientsPerKind].tlvs, strings.Contains(line, `AUTHORITY="example.com"`), line)
		host, _, err := net.SplitHostPort(client)
		require.NoError(t, err)
		clients[host] = true
	}
	if runtime.GOOS == "linux" {
		assert.Len(t, clients, len(kinds)*clientsPerKind)
	}
}

// As the README says it is started.
func TestGoRun(t *testing.T) {
	command := exec.Command("go", "run", "./examples/quickstart")
	command.Dir = "../.."
	out, err := command.CombinedOutput()
	assert.NoError(t, err, "%s", out)
}
