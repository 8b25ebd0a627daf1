// Package built builds programs from the Go module proxy that tests need and no Debian package
// has. Each has a module that does nothing but pin it: what is built is what its authors released.
package built

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// KubeProxy builds kube-proxy as the module in dir pins it. It says on progress how far it is, and
// returns at once if it has built the same before.
func KubeProxy(dir string, progress io.Writer) (path string, err error) {
	version, err := pinned(dir, "k8s.io/kubernetes")
	if err != nil {
		return "", err
	}
	// kube-proxy refuses to run without a version, which Kubernetes' own build puts in.
	numbers := strings.Split(strings.TrimPrefix(version, "v"), ".")
	const into = " -X k8s.io/component-base/version."
	return build(dir, "k8s.io/kubernetes/cmd/kube-proxy", "-s -w"+into+"gitVersion="+version+
		into+"gitMajor="+numbers[0]+into+"gitMinor="+numbers[1], progress)
}

// Caddy does the same for Caddy.
func Caddy(dir string, progress io.Writer) (path string, err error) {
	return build(dir, "github.com/caddyserver/caddy/v2/cmd/caddy", "-s -w", progress)
}

// pinned returns the version that a go.mod requires of a module.
func pinned(dir, module string) (string, error) {
	gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(regexp.QuoteMeta(module) + ` (v\d+\.\d+\.\d+)\b`).FindSubmatch(gomod)
	if m == nil {
		return "", fmt.Errorf("%s/go.mod doesn't require %s", dir, module)
	}
	return string(m[1]), nil
}

// build returns the path of a program in the user's cache, where it is found by all that it is
// made of: go.mod and go.sum, the flags and the toolchain.
func build(dir, pkg, ldflags string, progress io.Writer) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%d\n%s", len(b), b)
	}
	fmt.Fprintln(hash, pkg, ldflags, runtime.Version(), runtime.GOARCH)
	cache = filepath.Join(cache, "proxyproto-interop")
	path := filepath.Join(cache, fmt.Sprintf("%s-%.8x", filepath.Base(pkg), hash.Sum(nil)))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	// Another process may be building the same: each renames its own, complete.
	unfinished, err := os.MkdirTemp(cache, "unfinished")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(unfinished)
	out := filepath.Join(unfinished, "program")
	if err := compile(dir, pkg, ldflags, out, progress); err != nil {
		return "", err
	}
	return path, os.Rename(out, path)
}

// compile runs go build, and says every few seconds how much is left.
func compile(dir, pkg, ldflags, out string, progress io.Writer) error {
	goTool := func(args ...string) *exec.Cmd {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly")
		return cmd
	}
	start := time.Now()
	fmt.Fprintf(progress, "building %s: its modules are downloaded first\n", pkg)
	var errs bytes.Buffer
	list := goTool("list", "-deps", pkg)
	list.Stderr = &errs
	packages, err := list.Output()
	if err != nil {
		return fmt.Errorf("go list -deps %s: %w\n%s", pkg, err, errs.Bytes())
	}
	total := bytes.Count(packages, []byte("\n"))

	cmd := goTool("build", "-v", "-trimpath", "-ldflags", ldflags, "-o", out, pkg)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var output strings.Builder
	said := time.Now()
	lines := bufio.NewScanner(stderr)
	for done := 1; lines.Scan(); done++ {
		fmt.Fprintln(&output, lines.Text())
		if time.Since(said) > 10*time.Second {
			said = time.Now()
			fmt.Fprintf(progress, "building %s: %d of at most %d packages after %v\n",
				pkg, done, total, time.Since(start).Round(time.Second))
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, output.String())
	}
	fmt.Fprintf(progress, "built %s in %v\n", pkg, time.Since(start).Round(time.Second))
	return nil
}
