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

// The pages whose blocks are checked here. deploy.md, toa.md, clientip.md, command.md and
// migrate.md have tests of their own.
var pages = []string{
	"../README.md", "README.md", "trust.md", "tls.md", "tlvs.md", "observing.md", "sending.md",
	"udp.md", "frameworks.md",
}

// A code block with the comment before it, which says where it comes from or what runs it.
var pageBlock = regexp.MustCompile("(?s)(?:<!-- (from|run by) ([^ ]+) -->\n)?```([a-z]*)\n(.*?)```\n")

// Each block is a copy from the file that it names, or run by that file.
func TestPageBlocks(t *testing.T) {
	for _, page := range pages {
		content := read(t, page)
		blocks := pageBlock.FindAllStringSubmatch(content, -1)
		assert.Equal(t, strings.Count(content, "```"), 2*len(blocks), page)
		for _, b := range blocks {
			how, file, language, code := b[1], b[2], b[3], b[4]
			require.NotEmpty(t, file, "%s: a block that doesn't say where it comes from:\n%s", page, code)
			source := read(t, filepath.Join("..", file))
			if how == "from" {
				assert.Contains(t, plainLines(source), plainLines(code), "%s shows what isn't in %s", page, file)
				continue
			}
			// What runs it asks for this very block, or has each command in its own words.
			if asksFor(source, page, language, code) {
				continue
			}
			require.Equal(t, "sh", language, "%s doesn't read %s", file, page)
			for command := range strings.Lines(code) {
				assert.Contains(t, commandLine(source), strings.TrimSpace(command), "%s doesn't run it", file)
			}
		}
	}
}

// blockWanted is how a test asks for a block: by its language and a text that is in it.
var blockWanted = regexp.MustCompile(`readmeBlock\(t, "([a-z]*)", "([^"]+)"\)`)

// asksFor reports whether a test's source asks for a page's block.
func asksFor(source, page, language, code string) bool {
	for _, m := range blockWanted.FindAllStringSubmatch(source, -1) {
		if m[1] == language && strings.Contains(code, m[2]) {
			return true
		}
	}
	return language == "" && strings.Contains(source, `logBlock(t, "`+page+`")`)
}

// A table that says where it comes from has nothing but lines from there.
func TestPageTables(t *testing.T) {
	table := regexp.MustCompile(`(?m)<!-- from ([^ ]+) -->\n((?:\|.*\n)+)`)
	tables := table.FindAllStringSubmatch(read(t, "../README.md"), -1)
	require.NotEmpty(t, tables)
	for _, m := range tables {
		source := read(t, filepath.Join("..", m[1]))
		for row := range strings.Lines(m[2]) {
			assert.Contains(t, source, "\n"+row, "README.md has a row that isn't in %s", m[1])
		}
	}
}

// Ten minutes are for a short page.
func TestReadmeIsShort(t *testing.T) {
	assert.LessOrEqual(t, len(read(t, "../README.md")), 9<<10)
}

// The examples that frameworks.md lists are all that there are, and are started as it says.
func TestFrameworksPageNamesExamples(t *testing.T) {
	page := read(t, "frameworks.md")
	programs, err := filepath.Glob("../examples/*/main.go")
	require.NoError(t, err)
	more, err := filepath.Glob("../examples/frameworks/*/main.go")
	require.NoError(t, err)
	for _, program := range append(programs, more...) {
		switch filepath.Base(filepath.Dir(program)) {
		case "quickstart", "clientip": // in README.md and clientip.md
		default:
			assert.Contains(t, page, "]("+program+")")
		}
	}
	for _, m := range regexp.MustCompile("`(?:cd (\\S+) && )?go run (\\S+)`").FindAllStringSubmatch(page, -1) {
		assert.FileExists(t, filepath.Join("..", m[1], m[2], "main.go"))
	}
}

var (
	pageLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ (.*)$`)
	noAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	named    = regexp.MustCompile(`<a id="([^"]+)">`)
)

// Links within the repository lead to files and headings that are there.
func TestPageLinks(t *testing.T) {
	all, err := filepath.Glob("*.md")
	require.NoError(t, err)
	for _, page := range append(all, "../README.md", "../CONTRIBUTING.md", "../SECURITY.md", "../CHANGELOG.md") {
		for _, m := range pageLink.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(target); !assert.NoError(t, err, "%s links to %s", page, m[1]) || anchor == "" {
				continue
			}
			var anchors []string
			for _, h := range heading.FindAllStringSubmatch(read(t, target), -1) {
				plain := noAnchor.ReplaceAllString(strings.ToLower(h[1]), "")
				anchors = append(anchors, strings.ReplaceAll(plain, " ", "-"))
			}
			for _, id := range named.FindAllStringSubmatch(read(t, target), -1) {
				anchors = append(anchors, id[1])
			}
			assert.Contains(t, anchors, anchor, "%s links to %s", page, m[1])
		}
	}
}

// The index has every page.
func TestIndexIsWhole(t *testing.T) {
	all, err := filepath.Glob("*.md")
	require.NoError(t, err)
	for _, page := range all {
		if page != "README.md" {
			assert.Contains(t, read(t, "README.md"), "]("+page+")")
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
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
