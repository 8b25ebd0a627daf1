package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is released from the last commit can be installed and imported by somebody who has no
// checkout.
func TestReleaseInstalls(t *testing.T) {
	dir := t.TempDir()
	checkout, proxy := filepath.Join(dir, "checkout"), filepath.Join(dir, "proxy")
	do := func(in string, env []string, name string, args ...string) string {
		t.Helper()
		out, err := run(in, env, name, args...)
		require.NoError(t, err)
		return out
	}
	do("../..", nil, "git", "clone", "-q", ".", checkout)
	changes, err := os.ReadFile("../../CHANGELOG.md")
	require.NoError(t, err)
	const version = "v0.99.0"
	released := "# Changelog\n\n## " + version + "\n\n" + string(changes)
	require.NoError(t, os.WriteFile(filepath.Join(checkout, "CHANGELOG.md"), []byte(released), 0o600))
	do(checkout, nil, "git", "config", "user.name", "test")
	do(checkout, nil, "git", "config", "user.email", "test@example.com")

	command := []string{"run", ".", "-checkout", checkout, "-proxy", proxy, version}
	_, err = run(".", nil, "go", command...)
	require.ErrorContains(t, err, "aren't committed")
	do(checkout, nil, "git", "commit", "-q", "-a", "-m", "Release "+version)
	push := do(".", nil, "go", command...)
	assert.Equal(t, "git push origin v0.99.0 proxyprom/v0.99.0 cmd/proxyproto/v0.99.0 toa/agent/v0.99.0\n", push)
	tags := do(checkout, nil, "git", "tag")
	assert.Len(t, strings.Fields(tags), len(strings.Fields(push))-3+len(oldTags(t)))

	modules := do(".", nil, "go", "env", "GOMODCACHE", "GOPROXY")
	cache, others, _ := strings.Cut(strings.TrimSpace(modules), "\n")
	env := []string{
		"GOMODCACHE=" + filepath.Join(dir, "modules"), "GOBIN=" + filepath.Join(dir, "bin"),
		"GOPROXY=file://" + proxy + ",file://" + cache + "/cache/download," + others,
		"GONOSUMDB=" + root, "GOFLAGS=-modcacherw", "GOWORK=off",
	}
	do(dir, env, "go", "install", root+"/cmd/proxyproto@"+version)
	out, err := exec.Command(filepath.Join(dir, "bin", "proxyproto"), "--help").CombinedOutput()
	assert.NoError(t, err)
	assert.Contains(t, string(out), "decode")

	user := filepath.Join(dir, "user")
	require.NoError(t, os.Mkdir(user, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(user, "main.go"), []byte(`package main

import (
	"github.com/seed2e8fe8ee/proxyproto/proxyprom"
	_ "github.com/seed2e8fe8ee/proxyproto/toa/agent"
)

func main() { proxyprom.NewCollector(nil, nil) }
`), 0o600))
	do(user, env, "go", "mod", "init", "example.com/user")
	do(user, env, "go", "get", root+"/proxyprom@"+version, root+"/toa/agent@"+version)
	do(user, env, "go", "vet", ".")
}

// oldTags are those that the repository has already.
func oldTags(t *testing.T) []string {
	t.Helper()
	out, err := run("..", nil, "git", "tag")
	require.NoError(t, err)
	return strings.Fields(out)
}
