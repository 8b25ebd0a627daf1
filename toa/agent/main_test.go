package agent

import (
	"bufio"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The tests run in a cgroup of their own, since sockets belong to the one that their process was in
// when it made them, and with a BPF file system of their own.
var (
	cgroup    string // what the programs are attached to
	elsewhere string // a sibling
	bpffs     string
)

func TestMain(m *testing.M) {
	log.SetFlags(0)
	if reason := lacking(); reason != "" {
		if os.Getenv("CI") != "" {
			log.Fatalf("FAIL: the tests of toa/agent can't run: %s", reason)
		}
		log.Printf("SKIP: NOTHING of toa/agent is tested: %s", reason)
		return
	}
	os.Exit(isolated(m))
}

// lacking says what the tests need and the machine doesn't have.
func lacking() string {
	if os.Getuid() != 0 {
		return "they load BPF programs, which root may"
	}
	if _, err := unifiedCgroup(); err != nil {
		return err.Error()
	}
	return ""
}

// unifiedCgroup returns where cgroup version 2 is mounted.
func unifiedCgroup() (string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1], nil
		}
	}
	return "", fmt.Errorf("cgroup version 2 is mounted nowhere")
}

func isolated(m *testing.M) int {
	check := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	root, err := unifiedCgroup()
	check(err)
	self, err := os.ReadFile("/proc/self/cgroup")
	check(err)
	home := root
	for line := range strings.Lines(string(self)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			home = filepath.Join(root, strings.TrimSpace(path))
		}
	}
	cgroup = filepath.Join(root, fmt.Sprintf("toa-test-%d", os.Getpid()))
	elsewhere = cgroup + "-elsewhere"
	bpffs, err = os.MkdirTemp("", "toa-bpf")
	check(err)
	check(os.Mkdir(cgroup, 0o755))
	check(os.Mkdir(elsewhere, 0o755))
	check(unix.Mount("bpf", bpffs, "bpf", 0, ""))
	check(os.Chmod(bpffs, 0o755))
	check(enter(cgroup))
	defer func() {
		check(enter(home))
		check(os.Remove(cgroup))
		check(os.Remove(elsewhere))
		check(unix.Unmount(bpffs, 0))
		check(os.Remove(bpffs))
	}()
	return m.Run()
}

// enter moves the test's process to a cgroup.
func enter(cgroup string) error {
	return os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte("0"), 0)
}

// pins returns a directory for a test's pins, which are removed when it ends.
func pins(t testing.TB) string {
	t.Helper()
	parent, err := os.MkdirTemp(bpffs, "pins")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(parent, 0o755))
	dir := filepath.Join(parent, "toa")
	t.Cleanup(func() {
		require.NoError(t, Detach(dir))
		require.NoError(t, os.Remove(parent))
	})
	return dir
}

// Formats that most tests read: wherever the balancer writes them, or first.
const (
	all      = "dpvs,huawei,tencent"
	allAhead = "dpvs,253/20/first,200/8/first"
)

// attach runs an agent for the test's cgroup until the test ends.
func attach(t testing.TB, read string) State {
	t.Helper()
	formats, err := ParseFormats(read)
	require.NoError(t, err)
	state, err := Attach(Config{Cgroup: cgroup, Dir: pins(t), Formats: formats})
	require.NoError(t, err)
	return state
}

// requireMPTCP skips a test where the kernel has no MPTCP, or BPF's sight of it: Linux 5.19.
func requireMPTCP(t testing.TB) {
	t.Helper()
	_, version, err := kernel()
	require.NoError(t, err)
	if less(version, minKernelMPTCP) {
		t.Skipf("NOT TESTED: MPTCP, which needs Linux %v", minKernelMPTCP)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	if err == unix.EPROTONOSUPPORT || err == unix.ENOPROTOOPT {
		t.Skip("NOT TESTED: MPTCP, which this kernel was built without or has switched off")
	}
	require.NoError(t, err)
	unix.Close(fd)
}
