package proxies

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// StartPostfix starts a postfix whose smtpd listens at addr, refuses all mail, and has the given
// settings besides. Postfix runs only as root.
func StartPostfix(t testing.TB, addr, settings string) *Process {
	t.Helper()
	Need(t, postfixMaster)
	if os.Getuid() != 0 {
		t.Skip("postfix can only be started by root")
	}
	dir := Dir(t, nil)
	require.NoError(t, os.Chmod(dir, 0o755))
	write := func(name, content string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	write("main.cf", fmt.Sprintf(`
compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
daemon_directory = %[2]s
maillog_file = /dev/stdout
inet_interfaces = 127.0.0.1
myhostname = mx.interop.test
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
smtpd_peername_lookup = no
smtpd_relay_restrictions = reject
smtpd_recipient_restrictions = reject
%[3]s
`, dir, filepath.Dir(postfixMaster), settings))
	write("master.cf", addr+` inet n - n - - smtpd
postlog   unix-dgram n - n - 1 postlogd
rewrite   unix  - - n - - trivial-rewrite
anvil     unix  - - n - 1 anvil
`)
	owner, err := user.Lookup("postfix")
	require.NoError(t, err)
	uid, err := strconv.Atoi(owner.Uid)
	require.NoError(t, err)
	for _, sub := range []string{"data", "queue", "queue/pid", "queue/private", "queue/public"} {
		path := filepath.Join(dir, sub)
		require.NoError(t, os.Mkdir(path, 0o755))
		if sub != "queue" && sub != "queue/pid" {
			require.NoError(t, os.Chown(path, uid, -1))
		}
	}
	return Start(t, Spec{
		Program: postfixMaster,
		Args:    []string{"-d", "-s", "-c", dir}, // stays in the foreground, and its daemons in its group
		Dir:     dir,
		Ready:   Dials("tcp", addr),
	})
}

// postfixMaster is what the postfix command starts after some checks that take seconds.
const postfixMaster = "/usr/lib/postfix/sbin/master"
