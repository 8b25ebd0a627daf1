package proxies

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Nginx is a running nginx.
type Nginx struct {
	*Process
}

// StartNginx starts an nginx whose stream block has the given content. Files are written into its
// directory, which is where relative paths in the configuration lead.
func StartNginx(t testing.TB, stream string, files map[string]string) *Nginx {
	t.Helper()
	ready := FreeAddr(t)
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	all := map[string]string{"nginx.conf": fmt.Sprintf(`%s
daemon off;
%s
worker_processes 2;
worker_rlimit_nofile 16384;
pid nginx.pid;
error_log stderr warn;
events {
	worker_connections 4096;
}
stream {
	server {
		listen %s;
		return ok;
	}
%s
}
`, StreamModule(t), user, ready, stream)}
	for name, content := range files {
		all[name] = content
	}
	dir := Dir(t, all)
	return &Nginx{Start(t, Spec{
		Program: "nginx",
		Args:    []string{"-p", dir, "-c", "nginx.conf", "-e", "stderr"},
		Dir:     dir,
		Ready:   Says("tcp", ready, "ok"),
	})}
}

var modulesPath = regexp.MustCompile(`--modules-path=(\S+)`)

// StreamModule returns the line of a configuration that loads nginx's stream module, and nothing if
// it is built in.
func StreamModule(t testing.TB) string {
	t.Helper()
	version, err := exec.Command(Need(t, "nginx"), "-V").CombinedOutput()
	require.NoError(t, err)
	out := string(version)
	for arg := range strings.FieldsSeq(out) {
		if arg == "--with-stream" {
			return ""
		}
	}
	if m := modulesPath.FindStringSubmatch(out); m != nil {
		module := filepath.Join(m[1], "ngx_stream_module.so")
		if _, err := os.Stat(module); err == nil {
			return "load_module " + module + ";"
		}
	}
	missing(t, "nginx's stream module", "libnginx-mod-stream")
	return ""
}
