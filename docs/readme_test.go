package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A code block of README.md with the comment before it, which says where it comes from or what runs it.
var readmeBlock = regexp.MustCompile("(?s)(?:<!-- (from|run by) ([^ ]+) -->\n)?```[a-z]*\n(.*?)```\n")

// Each block in README.md is a copy from the file that it names, or run by the one that it names.
func TestReadmeBlocks(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	blocks := readmeBlock.FindAllStringSubmatch(string(readme), -1)
	assert.Equal(t, strings.Count(string(readme), "```"), 2*len(blocks))
	for _, b := range blocks {
		how, file, code := b[1], b[2], b[3]
		require.NotEmpty(t, file, "a block without a comment that says where it comes from:\n%s", code)
		content, err := os.ReadFile(filepath.Join("..", file))
		require.NoError(t, err)
		if how == "from" {
			assert.Contains(t, plainLines(string(content)), plainLines(code), "README.md shows what isn't in %s", file)
			continue
		}
		// A file that runs blocks of README.md either takes them from there or repeats the command.
		for command := range strings.Lines(code) {
			runs := strings.Contains(string(content), "README.md") || strings.Contains(commandLine(string(content)), strings.TrimSpace(command))
			assert.True(t, runs, "%s doesn't run %s", file, command)
		}
	}
}

// plainLines is a text without indentation and comment signs.
func plainLines(s string) string {
	var plain strings.Builder
	for line := range strings.Lines(s) {
		plain.WriteString(strings.TrimPrefix(strings.TrimSpace(line), "// ") + "\n")
	}
	return plain.String()
}

// commandLine makes of the arguments of an exec.Command what one would type.
func commandLine(s string) string {
	return strings.NewReplacer(`", "`, " ", `"`, "").Replace(s)
}
