package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/seed2e8fe8ee/proxyproto/toa/internal/sockopt"
)

// State is what is attached.
type State struct {
	// Formats are the options that are read.
	Formats []Format

	// MPTCP is nil if MPTCP connections are covered, and otherwise says why not: their options
	// aren't seen. TCP connections to an MPTCP listener, Go's default, are always covered.
	MPTCP error

	cgroup uint64
}

// Covers reports whether a directory is the cgroup that the programs are attached to.
func (s State) Covers(cgroup string) (bool, error) {
	id, err := cgroupID(cgroup)
	return id == s.cgroup, err
}

// ErrNotAttached reports that nothing is attached, or not all, or that the cgroup has been removed.
var ErrNotAttached = errors.New("not attached")

// Status returns what is attached by way of a directory. The error matches ErrNotAttached if that
// is the case.
func Status(dir string) (State, error) {
	unlock, err := lockDir(dir, false)
	if errors.Is(err, os.ErrNotExist) {
		return State{}, fmt.Errorf("%w: there is no %s", ErrNotAttached, dir)
	} else if err != nil {
		return State{}, err
	}
	defer unlock()
	return read(dir)
}

func read(dir string) (State, error) {
	var ids []uint64
	for _, name := range []string{pinSockOps, pinGetsockopt} {
		path := filepath.Join(dir, name)
		l, err := link.LoadPinnedLink(path, nil)
		if errors.Is(err, os.ErrNotExist) {
			return State{}, fmt.Errorf("%w: there is no %s", ErrNotAttached, path)
		} else if err != nil {
			return State{}, fmt.Errorf("opening %s: %w", path, err)
		}
		id, err := linkCgroup(l)
		l.Close()
		if err != nil {
			return State{}, fmt.Errorf("%s: %w", path, err)
		}
		if id == 0 {
			return State{}, fmt.Errorf("%w: the cgroup of %s has been removed", ErrNotAttached, path)
		}
		ids = append(ids, id)
	}
	if ids[0] != ids[1] {
		return State{}, fmt.Errorf("%w: the links in %s belong to different cgroups: detach and attach",
			ErrNotAttached, dir)
	}
	path := filepath.Join(dir, pinConfig)
	m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return State{}, fmt.Errorf("opening %s: %w", path, err)
	}
	defer m.Close()
	value := make([]byte, configSize)
	if err := m.Lookup(uint32(0), value); err != nil {
		return State{}, fmt.Errorf("reading %s: %w", path, err)
	}
	s, err := decodeConfig(value)
	s.cgroup = ids[0]
	return s, err
}

// Detach removes the programs. Connections that are served keep the addresses that they have; of
// those that come afterwards nothing is known. It is no error if nothing is attached.
func Detach(dir string) error {
	unlock, err := lockDir(dir, false)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer unlock()
	for _, name := range []string{pinGetsockopt, pinSockOps, pinConfig, pinStorage, pinLock} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// linkCgroup returns the ID of the cgroup that a link is attached to, 0 if it has been removed.
func linkCgroup(l link.Link) (uint64, error) {
	info, err := l.Info()
	if err != nil {
		return 0, err
	}
	cgroup := info.Cgroup()
	if cgroup == nil {
		return 0, errors.New("it is no link of this program")
	}
	return cgroup.CgroupId, nil
}

// The value in the config map: the layout's version, the number of formats, the formats, and from
// configReason on the reason, as text, why MPTCP isn't covered.
const (
	configSize    = 256
	configFormats = 2
	configReason  = configFormats + formatSize*maxFormats
	formatSize    = 3
)

func encodeConfig(formats []Format, uncovered error) []byte {
	value := make([]byte, configSize)
	value[0], value[1] = sockopt.Version, byte(len(formats))
	for i, f := range formats {
		b := value[configFormats+formatSize*i:]
		b[0], b[1] = f.Kind, f.Length
		if f.First {
			b[2] = 1
		}
	}
	if uncovered != nil {
		copy(value[configReason:], uncovered.Error())
	}
	return value
}

func decodeConfig(value []byte) (State, error) {
	var s State
	if value[0] != sockopt.Version || value[1] > maxFormats {
		return s, errors.New("attached by another version: attach again")
	}
	for i := range int(value[1]) {
		b := value[configFormats+formatSize*i:]
		s.Formats = append(s.Formats, Format{b[0], b[1], b[2] == 1})
	}
	if reason := string(trimZeros(value[configReason:])); reason != "" {
		s.MPTCP = errors.New(reason)
	}
	return s, nil
}

func trimZeros(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}
