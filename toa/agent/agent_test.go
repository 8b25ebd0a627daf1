package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/toa"
)

func TestParseFormats(t *testing.T) {
	for list, want := range map[string]string{
		"lvs":                     "[254/8/first]",
		" LVS , dpvs":             "[254/8/first 254/20/first]",
		"huawei,tencent":          "[254/8 253/20 200/8]",
		"lvs,254/8":               "[254/8]",
		"251/20/first,251/8":      "[251/20/first 251/8]",
		"alibaba,253/20/first":    "[254/8/first 253/20/first]",
		"":                        `error "" is neither a balancer`,
		"f5":                      `error "f5" is neither a balancer`,
		"254":                     `error "254" is neither`,
		"254/8/last":              `error "254/8/last" is neither`,
		"256/8":                   `error "256/8" is neither`,
		"-1/8":                    `error "-1/8" is neither`,
		"254/9":                   "error format 254/9: an option with an IPv4 address has length 8",
		"8/8":                     "error format 8/8: kind 8 is one of TCP's own",
		"1/8":                     "error format 1/8: kind 1 is one of TCP's own",
		strings.Repeat("9/8,", 3): `error "" is neither`,
	} {
		formats, err := ParseFormats(list)
		if wantErr, isErr := strings.CutPrefix(want, "error "); isErr {
			assert.ErrorContains(t, err, wantErr, list)
			continue
		}
		assert.NoError(t, err, list)
		assert.Equal(t, want, fmt.Sprint(formats), list)
	}
	var many []string
	for kind := 100; kind < 117; kind++ {
		many = append(many, fmt.Sprintf("%d/8", kind))
	}
	_, err := ParseFormats(strings.Join(many, ","))
	assert.ErrorContains(t, err, "17 formats: expected 1 to 16")
	formats, err := ParseFormats(strings.Join(many[1:], ","))
	require.NoError(t, err)
	_, err = Attach(Config{Cgroup: cgroup, Dir: pins(t), Formats: formats})
	assert.NoError(t, err, "the verifier takes as many as there may be")
}

func TestAttachSaysWhatIsWrong(t *testing.T) {
	formats, err := ParseFormats("lvs")
	require.NoError(t, err)
	dir := pins(t)
	for what, cfg := range map[string]Config{
		"is no directory of cgroup v2":       {Cgroup: t.TempDir(), Dir: dir, Formats: formats},
		"no such file":                       {Cgroup: cgroup + "/none", Dir: dir, Formats: formats},
		"is no directory of a BPF file syst": {Cgroup: cgroup, Dir: t.TempDir(), Formats: formats},
		"0 formats":                          {Cgroup: cgroup, Dir: dir},
	} {
		_, err := Attach(cfg)
		assert.ErrorContains(t, err, what)
	}
	_, err = Status(dir)
	assert.ErrorIs(t, err, ErrNotAttached)
	assert.NoError(t, Detach(dir), "nothing was attached")

	_, err = Attach(Config{Cgroup: cgroup, Dir: dir, Formats: formats})
	require.NoError(t, err)
	_, err = Attach(Config{Cgroup: elsewhere, Dir: dir, Formats: formats})
	assert.ErrorContains(t, err, "is attached to another cgroup")
	state, err := Status(dir)
	require.NoError(t, err)
	covers, err := state.Covers(elsewhere)
	assert.NoError(t, err)
	assert.False(t, covers)
	covers, err = state.Covers(cgroup)
	assert.NoError(t, err)
	assert.True(t, covers)
	assert.Equal(t, formats, state.Formats)
}

// An agent that was killed anywhere leaves something that the next one completes.
func TestAttachCompletesWhatIsThere(t *testing.T) {
	formats, err := ParseFormats(all)
	require.NoError(t, err)
	s := newSender(t, cgroup)
	ln, err := toa.NewListener(listen(t, "tcp4", "127.0.0.1:0", false), &toa.Config{
		Policy: proxyproto.Always(proxyproto.Optional), WithoutAgent: true,
	})
	require.NoError(t, err)
	for _, missing := range [][]string{
		{pinGetsockopt}, {pinGetsockopt, pinSockOps}, {pinSockOps}, {pinGetsockopt, pinSockOps, pinConfig},
	} {
		dir := pins(t)
		_, err := Attach(Config{Cgroup: cgroup, Dir: dir, Formats: formats})
		require.NoError(t, err)
		for _, name := range missing {
			require.NoError(t, os.Remove(filepath.Join(dir, name)))
		}
		_, err = Status(dir)
		assert.ErrorIs(t, err, ErrNotAttached, missing)
		_, err = Attach(Config{Cgroup: cgroup, Dir: dir, Formats: formats})
		require.NoError(t, err, missing)
		wantClient(t, claim4(1), s.one(t, ln, option(254, claim4(1)), sendOnce, false), fmt.Sprint(missing))
		require.NoError(t, Detach(dir))
	}
}

func TestCgroupRemovedAndMadeAnew(t *testing.T) {
	formats, err := ParseFormats("lvs")
	require.NoError(t, err)
	dir, child := pins(t), filepath.Join(cgroup, "short-lived")
	require.NoError(t, os.Mkdir(child, 0o755))
	_, err = Attach(Config{Cgroup: child, Dir: dir, Formats: formats})
	require.NoError(t, err)
	require.NoError(t, os.Remove(child))
	require.Eventually(t, func() bool { // the kernel takes programs off a removed cgroup later
		_, err = Status(dir)
		return errors.Is(err, ErrNotAttached)
	}, time.Minute, 10*time.Millisecond)
	require.NoError(t, os.Mkdir(child, 0o755))
	defer os.Remove(child)
	_, err = Attach(Config{Cgroup: child, Dir: dir, Formats: formats})
	require.NoError(t, err)
	_, err = Status(dir)
	assert.NoError(t, err)
}

// While agents come, are replaced by others that read more, and are killed, no connection is without
// its option.
func TestNoGapWhenAgentIsReplaced(t *testing.T) {
	binary := build(t)
	dir := pins(t)
	run := func(read string) {
		ctx, kill := context.WithCancel(context.Background())
		cmd := exec.CommandContext(ctx, binary, "attach", "-read", read, "-cgroup", cgroup, "-dir", dir, "-stay")
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		line := make([]byte, 100)
		n, err := out.Read(line) // attached
		assert.NoError(t, err)
		assert.Contains(t, string(line[:n]), "attached to")
		kill() // by SIGKILL
		cmd.Wait()
	}
	run(all)
	s := newSender(t, cgroup)
	ln := wrapAs(t, listen(t, "tcp4", "127.0.0.1:0", false), proxyproto.Require)
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				stopped <- i
				return
			default:
			}
			client, err := s.dial("tcp4", ln.Addr().String(), option(254, claim4(i)), sendAll, false)
			if !assert.NoError(t, err) {
				continue
			}
			c, err := ln.Accept() // it would never return what has no option
			if assert.NoError(t, err) {
				assert.Equal(t, claim4(i).String(), c.RemoteAddr().String())
				c.Close()
			}
			client.SetLinger(0)
			client.Close()
		}
	}()
	for i := range 8 {
		run([]string{all, all + ",251/8"}[i%2])
	}
	close(stop)
	connections := <-stopped
	assert.Greater(t, connections, 20)
	assert.Empty(t, ln.Stats().Dropped)
}

// What the processes need that attach, by the words in which the agent says it.
func TestPrivileges(t *testing.T) {
	_, err := exec.LookPath("setpriv")
	require.NoError(t, err)
	binary := build(t)
	require.NoError(t, os.Chmod(bpffs, 0o1777))
	defer os.Chmod(bpffs, 0o755)
	for _, tc := range []struct{ capabilities, want string }{
		{"", "FAIL the process lacks CAP_BPF and CAP_NET_ADMIN"},
		{"bpf", "FAIL the process lacks CAP_NET_ADMIN"},
		{"net_admin,perfmon", "FAIL the process lacks CAP_BPF"},
		{"bpf,net_admin", "MPTCP connections are not covered: the process lacks CAP_PERFMON"},
		{"bpf,net_admin,perfmon", "attached"},
		{"sys_admin", "attached"},
	} {
		parent := filepath.Join(bpffs, "nobody-"+strings.ReplaceAll(tc.capabilities, ",", "-"))
		require.NoError(t, os.Mkdir(parent, 0o755))
		require.NoError(t, os.Chown(parent, 65534, 65534))
		dir := filepath.Join(parent, "toa")
		out, err := as(tc.capabilities, binary, "attach", "-read", "lvs", "-cgroup", cgroup, "-dir", dir)
		if strings.HasPrefix(tc.want, "FAIL ") {
			assert.Error(t, err, tc.capabilities)
		} else {
			assert.NoError(t, err, "%s: %s", tc.capabilities, out)
		}
		assert.Contains(t, out, strings.TrimPrefix(tc.want, "FAIL "), tc.capabilities)
		if tc.want == "attached" && checkMPTCP() == nil {
			assert.NotContains(t, out, "MPTCP")
		}
		if err == nil { // as a probe in a container runs it
			out, err = as("bpf", binary, "status", "-cgroup", cgroup, "-dir", dir)
			assert.NoError(t, err, out)
		}
		out, err = as("", binary, "detach", "-dir", dir)
		assert.NoError(t, err, out)
		require.NoError(t, os.Remove(parent))
	}
}

// An agent without CAP_PERFMON covers TCP connections alone, and a server says so of the others.
func TestMPTCPNotCovered(t *testing.T) {
	requireMPTCP(t)
	dir := pins(t)
	require.NoError(t, os.Chown(filepath.Dir(dir), 65534, 65534))
	out, err := as("bpf,net_admin", build(t), "attach", "-read", all, "-cgroup", cgroup, "-dir", dir)
	require.NoError(t, err, out)
	state, err := Status(dir)
	require.NoError(t, err)
	assert.EqualError(t, state.MPTCP, "the process lacks CAP_PERFMON")
	s := newSender(t, cgroup)
	ln := wrap(t, listen(t, "tcp4", "127.0.0.1:0", true))
	wantClient(t, claim4(5), s.one(t, ln, option(254, claim4(5)), sendOnce, false), "TCP client")
	c := s.one(t, ln, option(254, claim4(5)), sendOnce, true)
	wantClient(t, netip.AddrPort{}, c, "MPTCP client")
	_, err = c.Option()
	assert.ErrorContains(t, err, "it is an MPTCP connection, which the agent doesn't cover")
}

// A server without any privilege, not even the one to call bpf(2), is answered.
func TestServerNeedsNoPrivilege(t *testing.T) {
	attach(t, all)
	s := newSender(t, cgroup)
	binary := filepath.Join(t.TempDir(), "server")
	out, err := exec.Command("go", "build", "-o", binary, "./testdata/server").CombinedOutput()
	require.NoError(t, err, "%s", out)
	reachable(t, binary)
	cmd := exec.Command("setpriv", append(setpriv(""), binary)...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	var addr, remote string
	_, err = fmt.Fscan(stdout, &addr)
	require.NoError(t, err)
	client, err := s.dial("tcp4", addr, option(254, claim4(9)), sendAll, false)
	require.NoError(t, err)
	defer client.Close()
	_, err = fmt.Fscan(stdout, &remote)
	require.NoError(t, err)
	assert.Equal(t, claim4(9).String(), remote)
}

// build builds the command where everybody can run it.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "toa-agent")
	out, err := exec.Command("go", "build", "-o", binary, "./cmd/toa-agent").CombinedOutput()
	require.NoError(t, err, "%s", out)
	reachable(t, binary)
	return binary
}

// reachable lets everybody into the directories above a file that a test has made.
func reachable(t *testing.T, path string) {
	t.Helper()
	for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		require.NoError(t, os.Chmod(dir, 0o755))
	}
}

// as runs a command as nobody, with these capabilities and no more.
func as(capabilities string, command ...string) (string, error) {
	out, err := exec.Command("setpriv", append(setpriv(capabilities), command...)...).CombinedOutput()
	return string(out), err
}

func setpriv(capabilities string) []string {
	set := "-all"
	for name := range strings.SplitSeq(capabilities, ",") {
		if name != "" {
			set += ",+" + name
		}
	}
	return []string{"--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=" + set,
		"--ambient-caps=" + set, "--bounding-set=" + set, "--no-new-privs"}
}

// Two agents at once, as a DaemonSet's update starts them, and a third that removes what they made.
func TestAgentsAtOnce(t *testing.T) {
	formats, err := ParseFormats("lvs")
	require.NoError(t, err)
	dir := pins(t)
	done := make(chan error)
	for i := range 4 {
		go func() {
			var err error
			for range 3 {
				if i == 0 {
					err = errors.Join(err, Detach(dir))
					continue
				}
				if _, e := Attach(Config{Cgroup: cgroup, Dir: dir, Formats: formats}); e != nil {
					err = errors.Join(err, e)
				}
			}
			done <- err
		}()
	}
	for range 4 {
		assert.NoError(t, <-done)
	}
	var st unix.Statfs_t
	require.NoError(t, unix.Statfs(dir, &st))
}
