package migrate

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the tables into the page")

const pagePath = "../migrate.md"

// A page's table stands between these.
var tableMarks = regexp.MustCompile(`(?s)<!-- table: (\w+) -->\n(.*?)<!-- end of table -->`)

// Every table on the page is what the code here makes of it.
func TestTables(t *testing.T) {
	tables := map[string]string{
		"pires":          namesTable(t, "names_pires.go", "pires"),
		"armon":          namesTable(t, "names_armon.go", "armon"),
		"mastercactapus": namesTable(t, "names_mastercactapus.go", "mastercactapus"),
		"headers":        markdown(headerRows(t)),
		"situations":     markdown(situationRows(t)),
		"strangers":      markdown(strangerRows(t)),
		"singles":        markdown(singleRows(t)),
	}
	maps.Copy(tables, programTables(t))
	page, err := os.ReadFile(pagePath)
	require.NoError(t, err)
	made := tableMarks.ReplaceAllStringFunc(string(page), func(whole string) string {
		name := tableMarks.FindStringSubmatch(whole)[1]
		table, ok := tables[name]
		assert.True(t, ok, "a table that isn't made here: %s", name)
		delete(tables, name)
		return "<!-- table: " + name + " -->\n" + table + "<!-- end of table -->"
	})
	assert.Empty(t, tables, "tables that the page doesn't have")
	if *update {
		require.NoError(t, os.WriteFile(pagePath, []byte(made), 0o644))
		return
	}
	is, should := strings.Split(string(page), "\n"), strings.Split(made, "\n")
	for i := range max(len(is), len(should)) {
		if i >= len(is) || i >= len(should) || is[i] != should[i] {
			t.Fatalf("line %d of the page isn't what is made here; go test -update fixes it, but look whether the text still holds:\n%s\n%s",
				i+1, strings.Join(is[i:min(i+1, len(is))], ""), strings.Join(should[i:min(i+1, len(should))], ""))
		}
	}
}

// Every Go block on the page stands in programs.go, or in recipes.go as a function's body.
func TestBlocks(t *testing.T) {
	page, err := os.ReadFile(pagePath)
	require.NoError(t, err)
	source, err := os.ReadFile("recipes.go")
	require.NoError(t, err)
	programs, err := os.ReadFile("programs.go")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	assert.NotEmpty(t, blocks)
	for _, block := range blocks {
		if strings.Contains(string(programs), "\n"+block[1]) {
			continue
		}
		var indented strings.Builder
		for line := range strings.Lines(block[1]) {
			indented.WriteString("\t" + line)
		}
		assert.Contains(t, string(source), indented.String())
	}
}

// Every exported name of the libraries is in the page's tables.
func TestNamesAreComplete(t *testing.T) {
	for library, packages := range map[string][]string{
		"pires": {
			"github.com/pires/go-proxyproto",
			"github.com/pires/go-proxyproto/tlvparse",
			"github.com/pires/go-proxyproto/helper/http2",
		},
		"armon":          {"github.com/armon/go-proxyproto"},
		"mastercactapus": {"github.com/mastercactapus/proxyprotocol"},
	} {
		theirs := map[string]bool{}
		for _, row := range nameRows(t, "names_"+library+".go") {
			for _, word := range regexp.MustCompile(`\w+`).FindAllString(strings.Join(row.theirs, " "), -1) {
				theirs[word] = true
			}
		}
		for _, pkg := range packages {
			names := exported(t, pkg)
			assert.NotEmpty(t, names)
			for _, name := range names {
				assert.True(t, theirs[name], "%s: %s is in no row", pkg, name)
			}
		}
	}
}

// exported returns the names that a package's users see: its own, its types' methods and its structs' fields.
func exported(t *testing.T, pkg string) (names []string) {
	t.Helper()
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", pkg).Output()
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "*.go"))
	require.NoError(t, err)
	add := func(ids ...*ast.Ident) {
		for _, id := range ids {
			if id.IsExported() {
				names = append(names, id.Name)
			}
		}
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil || ast.IsExported(receiver(d)) {
					add(d.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch spec := spec.(type) {
					case *ast.ValueSpec:
						add(spec.Names...)
					case *ast.TypeSpec:
						add(spec.Name)
						if s, ok := spec.Type.(*ast.StructType); ok && spec.Name.IsExported() {
							for _, f := range s.Fields.List {
								add(f.Names...)
							}
						}
					}
				}
			}
		}
	}
	return names
}

func receiver(d *ast.FuncDecl) string {
	switch typ := d.Recv.List[0].Type.(type) {
	case *ast.StarExpr:
		return typ.X.(*ast.Ident).Name
	case *ast.Ident:
		return typ.Name
	}
	return ""
}

// nameRow is a row of a table of names: what both columns say line by line, and the comment.
type nameRow struct {
	section      string
	theirs, ours []string
	note         string
}

// nameRows reads a file of pairs of functions. See the package's comment.
func nameRows(t *testing.T, path string) (rows []nameRow) {
	t.Helper()
	source, err := os.ReadFile(path)
	require.NoError(t, err)
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, source, parser.ParseComments)
	require.NoError(t, err)
	var functions []*ast.FuncDecl
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			functions = append(functions, f)
		}
	}
	require.Zero(t, len(functions)%2, "functions make pairs")
	for i := 0; i < len(functions); i += 2 {
		theirs, ours := functions[i], functions[i+1]
		at := fset.Position(theirs.Pos())
		require.NotNil(t, theirs.Doc, "%v: a row begins with a comment", at)
		require.Nil(t, ours.Doc, "%v: a row has one comment", at)
		rows = append(rows, nameRow{
			section: sectionOf(file, theirs),
			theirs:  lines(source, fset, theirs),
			ours:    lines(source, fset, ours),
			note:    strings.Join(strings.Fields(theirs.Doc.Text()), " "),
		})
	}
	return rows
}

// sectionOf returns the last "Section:" comment before f.
func sectionOf(file *ast.File, f *ast.FuncDecl) (section string) {
	for _, c := range file.Comments {
		if name, ok := strings.CutPrefix(strings.TrimSpace(c.Text()), "Section: "); ok && c.Pos() < f.Pos() {
			section = name
		}
	}
	return section
}

var blank = regexp.MustCompile(`^(var _|_(, _)* =) `)

// lines returns a function's statements without what the compiler alone wants of them.
func lines(source []byte, fset *token.FileSet, f *ast.FuncDecl) (lines []string) {
	for _, s := range f.Body.List {
		text := string(source[fset.Position(s.Pos()).Offset:fset.Position(s.End()).Offset])
		lines = append(lines, blank.ReplaceAllString(strings.Join(strings.Fields(text), " "), ""))
	}
	return lines
}

func namesTable(t *testing.T, path, library string) string {
	t.Helper()
	var b strings.Builder
	section, rows := "", [][]string{{library, "here", ""}, nil}
	flush := func() {
		if len(rows) > 2 {
			if section != "Names" {
				fmt.Fprintf(&b, "\n#### %s\n\n", section)
			}
			b.WriteString(markdown(rows))
		}
		rows = rows[:2]
	}
	for _, row := range nameRows(t, path) {
		if row.section != section {
			flush()
			section = row.section
		}
		rows = append(rows, []string{spans(row.theirs), spans(row.ours), row.note})
	}
	flush()
	return b.String()
}

// spans puts each line in a code span.
func spans(lines []string) string {
	if len(lines) == 0 {
		return "–"
	}
	return "`" + strings.Join(lines, "`<br>`") + "`"
}

// markdown makes a table; the second row is the line under the heads.
func markdown(rows [][]string) string {
	var b strings.Builder
	for i, row := range rows {
		if i == 1 {
			b.WriteString("|" + strings.Repeat("---|", len(rows[0])) + "\n")
			continue
		}
		for _, cell := range row {
			b.WriteString("| " + strings.ReplaceAll(cell, "|", `\|`) + " ")
		}
		b.WriteString("|\n")
	}
	return b.String()
}
