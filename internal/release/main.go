// Release tags the modules of a release: the root, and the nested ones that others install. The
// root's tag is on HEAD. Those of the nested modules are on a commit after it, which no branch has:
// there they require the tagged root, and their replace, which leads to a checkout that nobody else
// has, is taken out.
//
//	cd internal/release && go run . v0.1.0
//
// Nothing is pushed: it ends with the command that does. With -proxy DIRECTORY it leaves the
// modules there as a GOPROXY serves them (file://DIRECTORY), to try them before that.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/mod/zip"
)

const root = "github.com/seed2e8fe8ee/proxyproto"

// nested are the modules that are released with the root.
var nested = []string{"proxyprom", "cmd/proxyproto", "toa/agent"}

func main() {
	log.SetFlags(0)
	log.SetPrefix("release: ")
	checkout := flag.String("checkout", "../..", "the repository's work tree")
	proxy := flag.String("proxy", "", "where to leave the modules as a GOPROXY serves them")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("go run . [-proxy DIRECTORY] VERSION")
	}
	scratch, err := os.MkdirTemp("", "release")
	if err != nil {
		log.Fatal(err)
	}
	dir, err := filepath.Abs(*checkout)
	if err != nil {
		log.Fatal(err)
	}
	r := &release{version: flag.Arg(0), checkout: dir, tree: filepath.Join(scratch, "tree")}
	r.proxy = filepath.Join(scratch, "proxy")
	if *proxy != "" {
		if r.proxy, err = filepath.Abs(*proxy); err != nil {
			log.Fatal(err)
		}
	}
	err = r.make()
	if err != nil && len(r.tags) > 0 {
		r.git(r.checkout, append([]string{"tag", "-d"}, r.tags...)...)
	}
	r.git(r.checkout, "worktree", "remove", "--force", r.tree)
	os.RemoveAll(scratch)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("git push origin", strings.Join(r.tags, " "))
}

type release struct {
	version, checkout, tree, proxy string

	tags []string // made so far
}

// make makes the tags. Those of r.tags are there also if it fails.
func (r *release) make() error {
	if semver.Canonical(r.version) != r.version {
		return fmt.Errorf("%q isn't a version such as v0.1.0", r.version)
	}
	changes, err := r.git(r.checkout, "status", "--porcelain")
	if err != nil {
		return err
	}
	if changes != "" {
		return fmt.Errorf("the work tree has changes that aren't committed:\n%s", changes)
	}
	log, err := os.ReadFile(filepath.Join(r.checkout, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Split(string(log), "\n"), "## "+r.version) {
		return fmt.Errorf("CHANGELOG.md has no line %q", "## "+r.version)
	}
	if _, err := r.git(r.checkout, "worktree", "add", "--detach", r.tree, "HEAD"); err != nil {
		return err
	}
	if err := r.tag("", "HEAD"); err != nil {
		return err
	}
	for _, sub := range nested {
		if err := r.requireTagged(filepath.Join(r.tree, sub)); err != nil {
			return err
		}
	}
	message := "Require " + r.version + " of the root in the modules released with it"
	if _, err := r.git(r.tree, "commit", "-q", "-a", "-m", message); err != nil {
		return err
	}
	commit, err := r.git(r.tree, "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	for _, sub := range nested {
		if err := r.tag(sub, strings.TrimSpace(commit)); err != nil {
			return err
		}
	}
	return nil
}

// tag tags the module in a directory of the repository, and serves it.
func (r *release) tag(sub, commit string) error {
	tag := path.Join(sub, r.version)
	if _, err := r.git(r.checkout, "tag", "-a", "-m", tag, tag, commit); err != nil {
		return err
	}
	r.tags = append(r.tags, tag)
	return r.serve(sub, tag)
}

// serve puts a module where a file GOPROXY has it.
func (r *release) serve(sub, tag string) error {
	m := module.Version{Path: path.Join(root, sub), Version: r.version}
	at := filepath.Join(r.proxy, filepath.FromSlash(m.Path), "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	var archive bytes.Buffer
	if err := zip.CreateFromVCS(&archive, m, r.checkout, tag, sub); err != nil {
		return err
	}
	mod, err := r.git(r.checkout, "show", tag+":"+path.Join(sub, "go.mod"))
	if err != nil {
		return err
	}
	info, err := json.Marshal(map[string]string{"Version": r.version})
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"list":              []byte(r.version + "\n"),
		r.version + ".zip":  archive.Bytes(),
		r.version + ".mod":  []byte(mod),
		r.version + ".info": info,
	} {
		if err := os.WriteFile(filepath.Join(at, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// requireTagged makes the module in a directory require the tagged root, whose checksum go.sum gets
// from the modules served here: it is the same wherever they are downloaded from.
func (r *release) requireTagged(dir string) error {
	modules, err := run(dir, nil, "go", "env", "GOMODCACHE", "GOPROXY")
	if err != nil {
		return err
	}
	cache, others, _ := strings.Cut(strings.TrimSpace(modules), "\n")
	env := []string{
		// A cache of its own, so that a release that is given up leaves nothing in the user's.
		"GOMODCACHE=" + filepath.Join(filepath.Dir(r.tree), "modules"),
		"GOPROXY=file://" + filepath.ToSlash(r.proxy) +
			",file://" + filepath.ToSlash(cache) + "/cache/download," + others,
		"GONOSUMDB=" + root, "GOFLAGS=-modcacherw", "GOWORK=off",
	}
	for _, args := range [][]string{
		{"mod", "edit", "-dropreplace=" + root, "-require=" + root + "@" + r.version},
		{"mod", "tidy"},
		{"build", "./..."},
	} {
		log.Printf("%s: go %s", filepath.Base(dir), strings.Join(args, " "))
		if _, err := run(dir, env, "go", args...); err != nil {
			return err
		}
	}
	return nil
}

func (r *release) git(dir string, args ...string) (string, error) {
	return run(dir, nil, "git", args...)
}

// run runs a command and returns what it writes to stdout.
func run(dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, &stderr)
	}
	return string(out), nil
}
