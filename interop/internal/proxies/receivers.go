package proxies

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// StartNginxHTTP starts an nginx whose http block has the given content.
func StartNginxHTTP(t testing.TB, http string) *Process {
	t.Helper()
	ready := FreeAddr(t)
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	dir := Dir(t, map[string]string{"nginx.conf": fmt.Sprintf(`%s
daemon off;
worker_processes 2;
worker_rlimit_nofile 16384;
pid nginx.pid;
error_log stderr crit;
events {
	worker_connections 4096;
}
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	server {
		listen %s;
		return 204;
	}
%s
}
`, user, ready, http)})
	return Start(t, Spec{
		Program: "nginx",
		Args:    []string{"-p", dir, "-c", "nginx.conf", "-e", "stderr"},
		Dir:     dir,
		Ready:   Dials("tcp", ready),
	})
}

// StartVarnish starts a varnish without a backend that takes PROXY headers at addr, and has the
// given VCL besides the version and the backend.
func StartVarnish(t testing.TB, addr, vcl string) *Process {
	t.Helper()
	dir := Dir(t, map[string]string{"default.vcl": "vcl 4.1;\nbackend default none;\n" + vcl})
	return Start(t, Spec{
		Program: "varnishd",
		// Each thread of a pool serves one connection, also one that waits for its header.
		Args: []string{"-F", "-n", dir + "/work", "-j", "none", "-f", dir + "/default.vcl", "-a", "proxy=" + addr + ",PROXY",
			"-T", "none", "-s", "malloc,16m", "-p", "thread_pool_min=50"},
		Dir:   dir,
		Ready: Dials("tcp", addr),
		Stop:  syscall.SIGTERM,
	})
}
