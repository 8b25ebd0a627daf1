package proxies

import (
	"fmt"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Apache is a running Apache httpd.
type Apache struct {
	*Process
}

// apacheModules is where Debian puts them.
const apacheModules = "/usr/lib/apache2/modules"

// StartApache starts an Apache httpd that listens at addr, with mod_remoteip and the given
// directives.
func StartApache(t testing.TB, addr, directives string) *Apache {
	t.Helper()
	dir := Dir(t, map[string]string{"apache.conf": fmt.Sprintf(`
ServerName localhost
PidFile httpd.pid
DefaultRuntimeDir .
Mutex file:. default
LoadModule mpm_event_module %[1]s/mod_mpm_event.so
LoadModule authz_core_module %[1]s/mod_authz_core.so
LoadModule remoteip_module %[1]s/mod_remoteip.so
User nobody
Group nogroup
StartServers 1
ServerLimit 1
ThreadsPerChild 32
MaxRequestWorkers 32
MinSpareThreads 1
MaxSpareThreads 32
Listen %[2]s
ErrorLog /dev/stderr
LogLevel warn
DocumentRoot .
%[3]s
`, apacheModules, addr, directives)})
	require.NoError(t, os.Chmod(dir, 0o755)) // its children are nobody
	return &Apache{Start(t, Spec{
		Program: "apache2",
		Args:    []string{"-d", dir, "-f", dir + "/apache.conf", "-DFOREGROUND"},
		Dir:     dir,
		Ready:   Dials("tcp", addr),
	})}
}

// Logged waits until a line of the access log matches, and returns the match's groups. Apache
// writes the line after it has answered.
func (p *Apache) Logged(line *regexp.Regexp) ([]string, error) {
	for deadline := time.Now().Add(Timeout); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(p.Dir + "/access.log")
		if found := line.FindStringSubmatch(string(b)); found != nil || err != nil {
			return found, err
		}
	}
	return nil, fmt.Errorf("no line of the access log matches %v", line)
}
