package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
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

// TestEverything measures each part too briefly for any figure to mean anything, and writes the
// page. What can't be measured because a program isn't installed is missing, and where the
// environment says CI=true it is a failure.
func TestEverything(t *testing.T) {
	results, docs := t.TempDir(), t.TempDir()
	for _, p := range parts {
		require.NoError(t, measureParts([]string{p.name}, true, results), p.name)
		if inCI() {
			require.FileExists(t, resultsFile(results, p.name))
		}
	}
	require.NoError(t, report(results, docs, false))
	text := read(t, filepath.Join(docs, "performance.md"))
	for _, title := range []string{
		"## Method", "## What a connection costs", "## Under attack", "## Parse and AppendTo",
		"## Headers that come late", "## At scale", "### 100,000 new connections a second",
		"## Policies",
	} {
		assert.Contains(t, text, title)
	}
	assert.NotContains(t, read(t, "../docs/performance.md"), "NaN")
	for _, c := range charts {
		svg := read(t, filepath.Join(docs, "charts", c.file+".svg"))
		assert.Contains(t, svg, nameOurs, c.file)
		assert.NotContains(t, svg, "NaN", c.file)
	}
	records, err := readRecords(results)
	require.NoError(t, err)
	for _, m := range marks {
		assert.Contains(t, judgement(records), m.work)
	}
}

func TestUnknownPart(t *testing.T) {
	assert.ErrorContains(t, measureParts([]string{"nothing"}, true, t.TempDir()), `no part "nothing"`)
}

// The page and its charts are what the stored figures say, to the last byte.
func TestPageIsMadeOfTheFigures(t *testing.T) {
	docs := t.TempDir()
	require.NoError(t, report(resultsDir, docs, false))
	files := []string{"performance.md"}
	for _, c := range charts {
		files = append(files, filepath.Join("charts", c.file+".svg"))
	}
	for _, file := range files {
		assert.Equal(t, read(t, filepath.Join(docs, file)), read(t, filepath.Join("../docs", file)),
			`%s: cd compare && go run . -only ""`, file)
	}
	assert.Contains(t, read(t, "../README.md"), "](docs/charts/parse.svg)")
}

// CONTRIBUTING.md has every mark that is judged, and no other.
func TestContributingHasTheMarks(t *testing.T) {
	var rows strings.Builder
	rows.WriteString("| what | mark | measured by `go run . -only` |\n|---|---|---|\n")
	for _, m := range marks {
		rows.WriteString("| " + m.work + " | " + m.want + " | " + m.part + " |\n")
	}
	assert.Contains(t, read(t, "../CONTRIBUTING.md"), rows.String()+"\n")
}

func TestRecordsAreReadAsWritten(t *testing.T) {
	f := newFigures()
	for round := range 3 {
		f.add("a work, with words", nameLazy, unitNs, 1.5+float64(round))
		f.add("a work, with words", nameBare, unitNs, 2)
	}
	f.add("a work, with words", nameBare, unitAllocs, 7) // fewer rounds
	text := f.format("parse", []string{"cpu: AMD: this one", "load: 0.10"})
	r, err := parseRecord(string(text))
	require.NoError(t, err)
	assert.Equal(t, f, r.figures)
	assert.Equal(t, map[string]string{"cpu": "AMD: this one", "load": "0.10"}, r.about)

	_, err = parseRecord("BenchmarkParse/v1 1 2 ns\n")
	assert.ErrorContains(t, err, "not a benchmark's name")
}

// Half of the time busy, a queue with one place of service has connections wait half of it on
// average (Pollaczek and Khinchine), and most of them not at all or less than one service.
func TestWaits(t *testing.T) {
	busy, median, p99 := waits(50_000, 1, 10_000)
	assert.InDelta(t, 0.5, busy, 1e-9)
	assert.Less(t, median, 10_000.0)
	assert.Greater(t, p99, 10_000.0)
	_, _, shorter := waits(50_000, 4, 10_000)
	assert.Less(t, shorter, p99)
	busy, median, _ = waits(200_000, 1, 10_000)
	assert.InDelta(t, 2, busy, 1e-9)
	assert.Equal(t, "for ever", micros(median))
}

func TestSystemCalls(t *testing.T) {
	needStrace(t)
	calls := func(kind string, together bool) map[string]float64 {
		return syscallsOf(t.TempDir(), kind, together, 100)
	}
	for _, kind := range []string{nameOurs, nameLazy} {
		ours, bare := calls(kind, true), calls(nameBare, true)
		require.InDelta(t, 1, bare["read"], 0.1, "header and payload come in one read")
		require.InDelta(t, 1, bare["write"], 0.1)
		assert.Empty(t, moreCalls(ours, bare), "%s: header and payload together", kind)

		// A server that comes late makes fewer calls, so nothing here depends on its being in time.
		// Bare reads in vain, the header, in vain, and the payload.
		ours, bare = calls(kind, false), calls(nameBare, false)
		assert.LessOrEqual(t, ours["read"], 4+1.05, "%s: header in its own segment", kind)
		more := moreCalls(ours, bare)
		delete(more, "read")
		assert.Empty(t, more, "%s: header in its own segment", kind)
	}
}

// TestZeroCopy holds that the kernel moves the bytes of a relay and of a file, not this process.
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
	const mark = `10 newfstatat(AT_FDCWD, "` + markFile + `", 0xc000, 0) = -1 ENOENT (No such file)
`
	trace := parseTrace(`10 write(7<socket:[1]>, "before"..., 6) = 6
` + mark + `10 splice(7<socket:[1]>, NULL, 5<pipe:[3]>, NULL, 1048576, SPLICE_F_NONBLOCK) = 4096
11 splice(4<pipe:[3]>, NULL, 8<socket:[2]>, NULL, 4096, SPLICE_F_NONBLOCK <unfinished ...>
10 read(7<socket:[1]>, 0xc000, 256) = -1 EAGAIN (Resource temporarily unavailable)
10 read(0<pipe:[9]>, "{}", 256) = 2
11 <... splice resumed>) = 4096
10 write(8<socket:[2]>, "x"..., 1) = 1
10 write(5<anon_inode:[eventfd]>, "\1\0\0\0", 8) = 8
` + mark + `10 write(7<socket:[1]>, "after"..., 5) = 5
`)
	assert.Equal(t, map[string]int{"splice": 2, "read": 1, "write": 1}, trace.calls)
	assert.Equal(t, map[string]int64{"splice": 4096, "write": 1}, trace.sent)
}

// needStrace fails where the environment says CI=true, and skips elsewhere, if strace is missing.
func needStrace(t *testing.T) {
	t.Helper()
	defer func() {
		if absent, ok := recover().(missing); ok {
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

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(b)
}
