package main

import (
	"errors"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if ranRole() {
		return
	}
	os.Exit(m.Run())
}

// TestEverything runs the whole program, too briefly for any figure to mean anything. What can't
// be measured because a program isn't installed is missing from the page, and where the
// environment says CI=true it is a failure.
func TestEverything(t *testing.T) {
	text, err := run(parts, true)
	require.NoError(t, err)
	for _, m := range marks {
		assert.Contains(t, text, m.work)
	}
	if inCI() {
		assert.NotContains(t, text, "Not measured: ")
		assert.NotContains(t, text, "not measured")
	}
	for _, name := range []string{nameOurs, namePires, nameArmon, nameMastercactapus, nameC, siteOurs} {
		assert.Contains(t, text, name)
	}
}

func TestUnknownPart(t *testing.T) {
	_, err := run([]string{"nothing"}, true)
	assert.ErrorContains(t, err, `no part "nothing"`)
}

func TestSystemCalls(t *testing.T) {
	needStrace(t)
	const conns = 100
	for _, kind := range []string{nameOurs, nameLazy} {
		ours, bare := syscallsOf(t.TempDir(), kind, true, conns), syscallsOf(t.TempDir(), nameBare, true, conns)
		require.InDelta(t, 1, bare["read"], 0.1, "header and payload come in one read")
		require.InDelta(t, 1, bare["write"], 0.1)
		assert.Empty(t, moreCalls(ours, bare), "%s: header and payload together", kind)

		// A server that comes late makes fewer calls, so nothing here depends on its being in time.
		// Bare reads in vain, the header, in vain, and the payload.
		ours, bare = syscallsOf(t.TempDir(), kind, false, conns), syscallsOf(t.TempDir(), nameBare, false, conns)
		assert.LessOrEqual(t, ours["read"], 4+1.05, "%s: header in its own segment", kind)
		more := moreCalls(ours, bare)
		delete(more, "read")
		assert.Empty(t, more, "%s: header in its own segment", kind)
	}
}

// TestZeroCopy holds that the kernel moves the bytes of a relay and of a file, and not this process.
func TestZeroCopy(t *testing.T) {
	needStrace(t)
	for _, r := range relayings() {
		t.Run(r.name, func(t *testing.T) {
			sent := r.trace(t.TempDir(), nameOurs, 4<<20).sent
			if r.nets {
				assert.NotEmpty(t, sent)
				return
			}
			assert.Greater(t, carried(sent, r.zeroCopy()), 0.95, "%v", sent)
		})
	}
}

func TestTraceParsing(t *testing.T) {
	trace := parseTrace(`10 write(7<socket:[1]>, "before"..., 6) = 6
10 newfstatat(AT_FDCWD, "/no-such-file-but-a-mark", 0xc000, 0) = -1 ENOENT (No such file or directory)
10 splice(7<socket:[1]>, NULL, 5<pipe:[3]>, NULL, 1048576, SPLICE_F_NONBLOCK) = 4096
11 splice(4<pipe:[3]>, NULL, 8<socket:[2]>, NULL, 4096, SPLICE_F_NONBLOCK <unfinished ...>
10 read(7<socket:[1]>, 0xc000, 256) = -1 EAGAIN (Resource temporarily unavailable)
10 read(0<pipe:[9]>, "{}", 256) = 2
11 <... splice resumed>) = 4096
10 write(8<socket:[2]>, "x"..., 1) = 1
10 write(5<anon_inode:[eventfd]>, "\1\0\0\0", 8) = 8
10 newfstatat(AT_FDCWD, "/no-such-file-but-a-mark", 0xc000, 0) = -1 ENOENT (No such file or directory)
10 write(7<socket:[1]>, "behind"..., 6) = 6
`)
	assert.Equal(t, map[string]int{"splice": 2, "read": 1, "write": 1}, trace.calls)
	assert.Equal(t, map[string]int64{"splice": 4096, "write": 1}, trace.sent)
}

// needStrace fails where the environment says CI=true, and skips elsewhere, if strace is missing.
func needStrace(t *testing.T) {
	t.Helper()
	defer func() {
		var absent missing
		if failed, ok := recover().(error); ok && errors.As(failed, &absent) {
			if inCI() {
				t.Fatal(absent)
			}
			t.Skip(absent)
		}
	}()
	program("strace", "strace")
}

func inCI() bool {
	ci, _ := strconv.ParseBool(os.Getenv("CI"))
	return ci
}
