// Package proxies starts real proxies, servers and clients for tests, on loopback addresses that
// nobody else uses, and stops what it started.
package proxies

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// packages names the Debian package of each program that a test may need.
var packages = map[string]string{
	"nginx":    "nginx libnginx-mod-stream",
	"haproxy":  "haproxy",
	"curl":     "curl",
	"varnishd": "varnish",
	"ip":       "iproute2",
	"bridge":   "iproute2",
	"nft":      "nftables",
	"iptables": "iptables",
	"dnsdist":  "dnsdist",
	"kdig":     "knot-dnsutils",
	"apache2":  "apache2",
	"postconf": "postfix",
	"python3":  "python3",

	postfixMaster: "postfix",
}

// Need returns the path of an installed program. When it is missing the test fails if the
// environment says CI=true, and is skipped elsewhere, with the same words.
func Need(t testing.TB, program string) string {
	t.Helper()
	pkg, known := packages[program]
	if !known {
		t.Fatalf("no Debian package is known for %q: add it to the list in need.go", program)
	}
	path := lookPath(program)
	if path == "" {
		missing(t, program, pkg)
	}
	return path
}

func missing(t testing.TB, what, pkg string) {
	t.Helper()
	const format = "%s is not installed; on Debian: apt-get install --no-install-recommends %s"
	if ci, _ := strconv.ParseBool(os.Getenv("CI")); ci {
		t.Fatalf(format, what, pkg)
	}
	t.Skipf(format, what, pkg)
}

// lookPath also looks where Debian puts servers, which isn't in the PATH of every user.
func lookPath(program string) string {
	for _, name := range []string{program, filepath.Join("/usr/sbin", program),
		filepath.Join("/usr/local/sbin", program)} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}
