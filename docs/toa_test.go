package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// docs/toa.md's program compiles, and the tests that it calls as witnesses are there.
func TestTOAPage(t *testing.T) {
	page, err := os.ReadFile("toa.md")
	require.NoError(t, err)
	_, program, found := strings.Cut(string(page), "\n```go\n")
	require.True(t, found)
	program, _, found = strings.Cut(program, "\n```\n")
	require.True(t, found)
	path := filepath.Join(t.TempDir(), "main.go")
	require.NoError(t, os.WriteFile(path, []byte(program+"\n"), 0o600))
	out, err := exec.Command("go", "vet", path).CombinedOutput()
	assert.NoError(t, err, "%s", out)

	files, err := filepath.Glob("../toa/agent/*_test.go")
	require.NoError(t, err)
	var tests strings.Builder
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		tests.Write(b)
	}
	names := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(page), -1)
	assert.Greater(t, len(names), 9)
	for _, name := range names {
		assert.Contains(t, tests.String(), "func "+name[1]+"(t *testing.T)", "toa.md names it")
	}
}
