//go:build linux

// Package netns makes network namespaces for tests. They have no names and no mounts: the kernel
// takes a namespace away, with all that is in it, when the test has closed it and the programs in
// it have ended, however they ended.
package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// A Namespace is a network namespace with its loopback interface up.
type Namespace struct {
	Name string // for messages only
	file *os.File
}

// New makes a namespace that lasts as long as the test. Where that isn't permitted the test fails
// if the environment says CI=true, and is skipped elsewhere.
func New(t testing.TB, name string) *Namespace {
	t.Helper()
	n := &Namespace{Name: name}
	var err error
	onThread(func() {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			n.file, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		}
	})
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		const format = "a network namespace can't be made here: %v (it takes root, " +
			"and in a container the capability CAP_SYS_ADMIN)"
		if ci, _ := strconv.ParseBool(os.Getenv("CI")); ci {
			t.Fatalf(format, err)
		}
		t.Skipf(format, err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { n.file.Close() })
	n.IP(t, "link set lo up")
	return n
}

// onThread calls f on a thread that is used for nothing else and ends with it.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: what f does to the thread ends with the goroutine
		f()
	}()
	<-done
}

// Enter moves the calling thread into the namespace. The caller has locked it and never unlocks it.
func (n *Namespace) Enter() error {
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering the network namespace %s: %w", n.Name, err)
	}
	return nil
}

// Do calls f on a thread in the namespace: sockets and programs that f itself makes are there.
func (n *Namespace) Do(f func()) {
	onThread(func() {
		if err := n.Enter(); err != nil {
			panic(err)
		}
		f()
	})
}

// Dial connects from the namespace to an address; names aren't looked up there.
func (n *Namespace) Dial(ctx context.Context, address string) (c net.Conn, err error) {
	n.Do(func() { c, err = new(net.Dialer).DialContext(ctx, "tcp", address) })
	return c, err
}

// Listen listens in the namespace until the test ends.
func (n *Namespace) Listen(t testing.TB, address string) (ln net.Listener) {
	t.Helper()
	var err error
	n.Do(func() { ln, err = net.Listen("tcp", address) })
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln
}

// Run runs a program in the namespace to its end, with the input, and returns its output.
func (n *Namespace) Run(t testing.TB, input, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(proxies.Need(t, program), args...)
	cmd.Stdin = strings.NewReader(input)
	var out []byte
	var err error
	n.Do(func() { out, err = cmd.CombinedOutput() })
	require.NoError(t, err, "in %s: %s %s\n%s\n%s",
		n.Name, program, strings.Join(args, " "), input, out)
	return string(out)
}

// IP runs commands of ip, one a line.
func (n *Namespace) IP(t testing.TB, lines ...string) {
	t.Helper()
	n.Run(t, strings.Join(lines, "\n")+"\n", "ip", "-batch", "-")
}

// Sysctl sets kernel parameters of the namespace, by their names below net: "ipv4.ip_forward".
func (n *Namespace) Sysctl(t testing.TB, value string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join("/proc/sys/net", strings.ReplaceAll(name, ".", "/"))
		var err error
		n.Do(func() { err = os.WriteFile(path, []byte(value), 0) })
		require.NoError(t, err,
			"in %s (those of bridges take the kernel module br_netfilter)", n.Name)
	}
}

// Join joins two namespaces by a pair of interfaces, both up: like a cable.
func Join(t testing.TB, a *Namespace, aName string, b *Namespace, bName string) {
	t.Helper()
	a.IP(t,
		// ip takes a path for a namespace's name.
		fmt.Sprintf("link add name %s type veth peer name %s netns /proc/%d/fd/%d",
			aName, bName, os.Getpid(), b.file.Fd()),
		fmt.Sprintf("link set %s up", aName))
	b.IP(t, fmt.Sprintf("link set %s up", bName))
}
