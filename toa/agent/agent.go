// Package agent attaches the BPF programs that package toa asks: they read the TCP option in which
// a layer 4 load balancer passes on a client's address, for every server in a cgroup and below it.
//
// Once attached the programs stay, without a process, until [Detach], since they are pinned in a
// BPF file system. Attaching again replaces them in one step each, so that no connection falls into
// a gap when the agent is restarted or upgraded. The command toa-agent is a thin shell around this.
//
// It needs Linux 5.10, cgroup v2, and the capabilities CAP_BPF and CAP_NET_ADMIN; MPTCP connections
// are covered with Linux 5.19 and CAP_PERFMON.
package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/seed2e8fe8ee/proxyproto/toa/internal/sockopt"
)

// DefaultDir is where the programs are pinned if no other directory is given.
const DefaultDir = "/sys/fs/bpf/toa"

// Config says what to attach and where.
type Config struct {
	// Cgroup is the directory of a cgroup v2. Servers count whose listening socket was made in
	// it or below it.
	Cgroup string

	// Dir is a directory in a BPF file system. It is made if it isn't there.
	Dir string

	// Formats are the options that are read: those that your balancers write and no others,
	// since a client can write the rest.
	Formats []Format
}

// The names in Dir. getsockopt is pinned last and removed first: as long as servers are answered,
// options are read.
const (
	pinLock       = "." // the directory itself
	pinStorage    = "storage"
	pinConfig     = "config"
	pinSockOps    = "sockops"
	pinGetsockopt = "getsockopt"
)

// Attach attaches the programs, or replaces those that are attached already. It returns what
// [Status] does.
func Attach(cfg Config) (State, error) {
	if err := checkFormats(cfg.Formats); err != nil {
		return State{}, err
	}
	if err := checkSystem(cfg.Cgroup, cfg.Dir); err != nil {
		return State{}, err
	}
	unlock, err := lockDir(cfg.Dir, true)
	if err != nil {
		return State{}, err
	}
	defer unlock()
	a := attacher{Config: cfg}
	defer a.close()
	if err := a.run(); err != nil {
		return State{}, err
	}
	return read(cfg.Dir)
}

// An attacher holds what has to be closed when Attach returns.
type attacher struct {
	Config
	closers []interface{ Close() error }
}

func (a *attacher) close() {
	for _, c := range a.closers {
		c.Close()
	}
}

func (a *attacher) run() error {
	storage, err := a.openMap(pinStorage, storageSpec())
	if err != nil {
		return err
	}
	config, err := a.openMap(pinConfig, configSpec())
	if err != nil {
		return err
	}
	sockops, uncovered, err := a.loadSockOps(storage)
	if err != nil {
		return err
	}
	answers, err := a.load(&ebpf.ProgramSpec{
		Name: "toa_getsockopt", Type: ebpf.CGroupSockopt, AttachType: ebpf.AttachCGroupGetsockopt,
		Instructions: getsockopt(storage.FD(), uncovered == nil),
	})
	if err != nil {
		return err
	}
	if err := a.attach(pinSockOps, sockops, ebpf.AttachCGroupSockOps); err != nil {
		return err
	}
	if err := config.Put(uint32(0), encodeConfig(a.Formats, uncovered)); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	return a.attach(pinGetsockopt, answers, ebpf.AttachCGroupGetsockopt)
}

// storageSpec is the map in which the kernel keeps a value with each socket, and frees it with it.
func storageSpec() *ebpf.MapSpec {
	u32 := &btf.Int{Name: "unsigned int", Size: 4}
	return &ebpf.MapSpec{
		Name: "toa_storage", Type: ebpf.SkStorage, KeySize: 4, ValueSize: sockopt.Size,
		Flags: unix.BPF_F_NO_PREALLOC,
		Key:   &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
		Value: &btf.Struct{Name: "toa_value", Size: sockopt.Size, Members: []btf.Member{
			{Name: "w", Type: &btf.Array{Index: u32, Type: u32, Nelems: sockopt.Size / 4}},
		}},
	}
}

// configSpec is a map that no program reads: it tells Status what the programs were made from.
func configSpec() *ebpf.MapSpec {
	return &ebpf.MapSpec{
		Name: "toa_config", Type: ebpf.Array, KeySize: 4, ValueSize: configSize, MaxEntries: 1,
	}
}

// openMap opens a pinned map, or makes and pins it.
func (a *attacher) openMap(name string, spec *ebpf.MapSpec) (*ebpf.Map, error) {
	path := filepath.Join(a.Dir, name)
	m, err := ebpf.LoadPinnedMap(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		if m, err = ebpf.NewMap(spec); err == nil {
			if err = m.Pin(path); err != nil {
				m.Close()
			}
		}
	} else if err == nil && (m.Type() != spec.Type || m.ValueSize() != spec.ValueSize) {
		m.Close()
		err = errors.New("it was made by another version; detach first")
	}
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	a.closers = append(a.closers, m)
	return m, nil
}

// loadSockOps loads the program that reads; uncovered is why it doesn't cover MPTCP.
func (a *attacher) loadSockOps(storage *ebpf.Map) (p *ebpf.Program, uncovered, err error) {
	spec := func(mptcp bool) *ebpf.ProgramSpec {
		return &ebpf.ProgramSpec{
			Name: "toa_sockops", Type: ebpf.SockOps, AttachType: ebpf.AttachCGroupSockOps,
			Instructions: sockOps(storage.FD(), a.Formats, mptcp),
		}
	}
	if uncovered = checkMPTCP(); uncovered == nil {
		if p, uncovered = a.load(spec(true)); uncovered == nil {
			return p, nil, nil
		}
	}
	p, err = a.load(spec(false))
	return p, uncovered, err
}

func (a *attacher) load(spec *ebpf.ProgramSpec) (*ebpf.Program, error) {
	spec.License = "Dual MIT/GPL"
	p, err := ebpf.NewProgram(spec)
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", spec.Name, err)
	}
	a.closers = append(a.closers, p)
	return p, nil
}

// attach replaces the program of a pinned link, or makes and pins one.
func (a *attacher) attach(name string, p *ebpf.Program, at ebpf.AttachType) error {
	path := filepath.Join(a.Dir, name)
	id, err := cgroupID(a.Cgroup)
	if err != nil {
		return err
	}
	pinned, err := link.LoadPinnedLink(path, nil)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return a.attachNew(path, p, at)
	case err != nil:
		return fmt.Errorf("opening %s: %w", path, err)
	}
	defer pinned.Close()
	attached, err := linkCgroup(pinned)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", path, err)
	case attached == 0: // its cgroup has been removed
		if err := pinned.Unpin(); err != nil {
			return fmt.Errorf("removing %s: %w", path, err)
		}
		return a.attachNew(path, p, at)
	case attached != id:
		return fmt.Errorf("%s is attached to another cgroup than %s: detach first, or give each "+
			"cgroup a directory of its own", path, a.Cgroup)
	}
	if err := pinned.Update(p); err != nil {
		return fmt.Errorf("replacing the program of %s: %w", path, err)
	}
	return nil
}

func (a *attacher) attachNew(path string, p *ebpf.Program, at ebpf.AttachType) error {
	cgroup, err := os.Open(a.Cgroup)
	if err != nil {
		return err
	}
	defer cgroup.Close()
	l, err := link.AttachRawLink(link.RawLinkOptions{
		Target: int(cgroup.Fd()), Program: p, Attach: at,
	})
	if err != nil {
		return fmt.Errorf("attaching to %s: %w", a.Cgroup, err)
	}
	a.closers = append(a.closers, l)
	if err := l.Pin(path); err != nil {
		return fmt.Errorf("pinning %s: %w", path, err)
	}
	return nil
}
