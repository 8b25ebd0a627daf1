// Package docs holds the pages, and the tests that what they show is true.
package docs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The Go blocks of docs/deploy.md are programs, or bodies of its trust function: the programs are
// vetted, and the bodies run, for a range that doesn't parse is an error of theirs.
func TestDeployPageGoBlocks(t *testing.T) {
	docs, err := os.Getwd()
	require.NoError(t, err)
	root, page := filepath.Dir(docs), filepath.Join(docs, "deploy.md")
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	const module = "github.com/seed2e8fe8ee/proxyproto"
	gomod, err := os.ReadFile("../go.mod")
	require.NoError(t, err)
	write("go.mod", strings.Replace(string(gomod), "module "+module, "module docs", 1)+
		fmt.Sprintf("\nrequire %s v0.0.0\n\nreplace %[1]s => %s\n", module, root))
	gosum, err := os.ReadFile("../go.sum")
	require.NoError(t, err)
	write("go.sum", string(gosum))
	programs, bodies, calls := 0, 0, ""
	for line, block := range goBlocks(t, page) {
		at := fmt.Sprintf("//line %s:%d\n", page, line)
		if strings.HasPrefix(block, "package main\n") {
			programs++
			write(fmt.Sprintf("program%d/main.go", programs), at+block)
			continue
		}
		bodies++
		imports := fmt.Sprintf("import %q\n", module)
		if strings.Contains(block, "netip.") {
			imports += `import "net/netip"` + "\n"
		}
		write(fmt.Sprintf("trust/trust%d.go", bodies), fmt.Sprintf(
			"package main\n\n%s\nfunc trust%d() (proxyproto.Policy, error) {\n%s%s}\n", imports, bodies, at, block))
		calls += fmt.Sprintf("\tcheck(%d, trust%d)\n", line, bodies)
	}
	write("trust/main.go", `package main

import (
	"log"

	"`+module+`"
)

func main() {
	log.SetFlags(0)
`+calls+`}

func check(line int, trust func() (proxyproto.Policy, error)) {
	if policy, err := trust(); policy == nil || err != nil {
		log.Fatalf("deploy.md:%d: %v", line, err)
	}
}
`)
	assert.Equal(t, 1, programs)
	assert.Greater(t, bodies, 10)
	for _, args := range [][]string{{"vet", "./..."}, {"run", "./trust"}} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOPROXY=off")
		out, err := cmd.CombinedOutput()
		assert.NoError(t, err, "go %s\n%s", strings.Join(args, " "), out)
	}
}

// goBlocks returns the Go code blocks of a page by the line on which they begin.
func goBlocks(t *testing.T, page string) map[int]string {
	t.Helper()
	b, err := os.ReadFile(page)
	require.NoError(t, err)
	blocks := map[int]string{}
	for at := 0; ; {
		begin := bytes.Index(b[at:], []byte("\n```go\n"))
		if begin < 0 {
			return blocks
		}
		begin += at + len("\n```go\n")
		end := bytes.Index(b[begin:], []byte("\n```\n"))
		require.Positive(t, end, "a block without an end")
		at = begin + end + 1
		blocks[1+bytes.Count(b[:begin], []byte("\n"))] = string(b[begin:at])
	}
}
