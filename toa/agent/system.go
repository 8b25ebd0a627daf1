package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// What a kernel must have: the packet that completes a handshake in sock_ops programs, and
// bpf_skc_to_mptcp_sock.
var (
	minKernel      = [2]int{5, 10}
	minKernelMPTCP = [2]int{5, 19}
)

// checkSystem says in words what the machine or the process lacks.
func checkSystem(cgroup, dir string) error {
	release, version, err := kernel()
	if err != nil {
		return err
	}
	if less(version, minKernel) {
		return fmt.Errorf("the kernel is too old: Linux %d.%d or later is needed, this is %s",
			minKernel[0], minKernel[1], release)
	}
	if err := checkFileSystem(cgroup, unix.CGROUP2_SUPER_MAGIC); err != nil {
		return fmt.Errorf("%s is no directory of cgroup v2 (usually at /sys/fs/cgroup, or at "+
			"/sys/fs/cgroup/unified where version 1 is mounted too): %w", cgroup, err)
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := checkFileSystem(parent, unix.BPF_FS_MAGIC); err != nil {
		return fmt.Errorf("%s is no directory of a BPF file system (mount -t bpf bpf /sys/fs/bpf): %w",
			parent, err)
	}
	return checkCapabilities(unix.CAP_BPF, unix.CAP_NET_ADMIN)
}

// checkMPTCP says in words why MPTCP connections can't be covered.
func checkMPTCP() error {
	release, version, err := kernel()
	if err != nil {
		return err
	}
	if less(version, minKernelMPTCP) {
		return fmt.Errorf("it needs Linux %d.%d or later, this is %s",
			minKernelMPTCP[0], minKernelMPTCP[1], release)
	}
	return checkCapabilities(unix.CAP_PERFMON)
}

var errFileSystem = errors.New("it is in another file system")

func checkFileSystem(path string, magic int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return err
	}
	if int64(fs.Type) != magic {
		return errFileSystem
	}
	return nil
}

// checkCapabilities names those that the process lacks. CAP_SYS_ADMIN stands for any of them.
func checkCapabilities(needed ...int) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	has := func(capability int) bool {
		return data[capability/32].Effective&(1<<(capability%32)) != 0
	}
	if has(unix.CAP_SYS_ADMIN) {
		return nil
	}
	var missing []string
	for _, capability := range needed {
		if !has(capability) {
			missing = append(missing, capabilityNames[capability])
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("the process lacks %s", strings.Join(missing, " and "))
}

var capabilityNames = map[int]string{
	unix.CAP_BPF: "CAP_BPF", unix.CAP_NET_ADMIN: "CAP_NET_ADMIN", unix.CAP_PERFMON: "CAP_PERFMON",
}

func kernel() (release string, version [2]int, err error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", version, fmt.Errorf("uname: %w", err)
	}
	release = unix.ByteSliceToString(name.Release[:])
	if _, err := fmt.Sscanf(release, "%d.%d", &version[0], &version[1]); err != nil {
		return release, version, fmt.Errorf("kernel release %q: %w", release, err)
	}
	return release, version, nil
}

func less(a, b [2]int) bool { return a[0] < b[0] || a[0] == b[0] && a[1] < b[1] }

// cgroupID returns the ID by which links know a cgroup: its directory's inode.
func cgroupID(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Ino, nil
}

// lockDir keeps other agents from a directory until unlock is called: a DaemonSet's update may
// start one before it stops the other.
func lockDir(dir string, create bool) (unlock func(), err error) {
	for {
		if create {
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				return nil, err
			}
		}
		f, err := os.Open(dir)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			f.Close()
			return nil, fmt.Errorf("locking %s: %w", dir, err)
		}
		// Detach may have removed it meanwhile.
		locked, err := f.Stat()
		if err == nil {
			if there, errThere := os.Stat(dir); errThere == nil && os.SameFile(locked, there) {
				return func() { f.Close() }, nil
			}
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}
