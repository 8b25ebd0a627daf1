// Package api holds v1.txt, every exported name of the module's packages with its signature, so
// that a change of API is seen in review. After one on purpose: go test ./api -update
package api

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write v1.txt")

// packages are those that v1.txt promises.
var packages = []string{
	".", "clientip", "cloudtlv", "proxyhttp", "proxytls", "proxyudp", "toa",
}

func TestAPI(t *testing.T) {
	var lines []string
	for _, dir := range packages {
		lines = append(lines, exported(t, dir)...)
	}
	slices.Sort(lines)
	got := strings.Join(slices.Compact(lines), "\n") + "\n"
	if *update {
		require.NoError(t, os.WriteFile("v1.txt", []byte(got), 0o644))
	}
	want, err := os.ReadFile("v1.txt")
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "the API has changed: if that is meant, go test ./api -update")
}

// exported returns a line for each exported name of a package, whatever system it is for.
func exported(t *testing.T, dir string) (lines []string) {
	t.Helper()
	fset := token.NewFileSet()
	paths, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
	require.NoError(t, err)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		d := describer{fset: fset, prefix: "pkg " + file.Name.Name + ", "}
		for _, decl := range file.Decls {
			d.decl(decl)
		}
		lines = append(lines, d.lines...)
	}
	require.NotEmpty(t, lines, "package %s", dir)
	return lines
}

// A describer writes declarations, a line each.
type describer struct {
	fset   *token.FileSet
	prefix string
	lines  []string
}

func (d *describer) add(parts ...string) {
	d.lines = append(d.lines, d.prefix+strings.Join(parts, " "))
}

var space = regexp.MustCompile(`\s+`)

// text prints a node in one line.
func (d *describer) text(node any) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, d.fset, node); err != nil {
		panic(err)
	}
	// One line, however long lines are broken in the source.
	return strings.NewReplacer("( ", "(", ", )", ")").Replace(space.ReplaceAllString(b.String(), " "))
}

func (d *describer) decl(decl ast.Decl) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		d.function(decl)
	case *ast.GenDecl:
		var typ ast.Expr // of constants that repeat it
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				d.typ(spec)
			case *ast.ValueSpec:
				if spec.Type != nil || len(spec.Values) > 0 {
					typ = spec.Type
				}
				d.values(decl.Tok.String(), spec, typ)
			}
		}
	}
}

func (d *describer) function(f *ast.FuncDecl) {
	if !f.Name.IsExported() {
		return
	}
	signature := strings.TrimPrefix(d.text(f.Type), "func")
	if f.Recv == nil {
		d.add("func", f.Name.Name+signature)
		return
	}
	receiver := d.text(f.Recv.List[0].Type)
	if ast.IsExported(strings.TrimPrefix(receiver, "*")) {
		d.add("method", "("+receiver+")", f.Name.Name+signature)
	}
}

func (d *describer) values(kind string, spec *ast.ValueSpec, typ ast.Expr) {
	for _, name := range spec.Names {
		switch {
		case !name.IsExported():
		case typ == nil:
			d.add(kind, name.Name)
		default:
			d.add(kind, name.Name, d.text(typ))
		}
	}
}

func (d *describer) typ(spec *ast.TypeSpec) {
	if !spec.Name.IsExported() {
		return
	}
	var fields *ast.FieldList
	kind := ""
	switch t := spec.Type.(type) {
	case *ast.StructType:
		kind, fields = "struct", t.Fields
	case *ast.InterfaceType:
		kind, fields = "interface", t.Methods
	default:
		d.add("type", spec.Name.Name, d.text(t))
		return
	}
	d.add("type", spec.Name.Name, kind)
	for _, field := range fields.List {
		typ, tag := d.text(field.Type), ""
		if field.Tag != nil {
			tag = " " + field.Tag.Value
		}
		if len(field.Names) == 0 {
			d.add("type", spec.Name.Name, kind+", embeds", typ)
		}
		for _, name := range field.Names {
			if name.IsExported() {
				d.add("type", spec.Name.Name, kind+",", name.Name, typ+tag)
			}
		}
	}
}
