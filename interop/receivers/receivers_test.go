package receivers

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	recordFile = "testdata/receivers.json"
	page       = "../../docs/receivers.md"
	command    = "go test -run TestReceivers -update ."
)

var update = flag.Bool("update", false, "write testdata and docs/receivers.md anew")

var only = flag.String("only", "", "check those receivers alone whose name begins so, and "+
	"compare nothing")

// entry is what a check has found, as far as it is the same each time.
type entry struct {
	Name, Version string
	Code          int // the exit code
	Report        report
}

// report is what check prints with --json.
type report struct {
	Policy, Believed string
	Versions         []string
	Probes           []probe
	Findings         []finding
	Connections      int
}

type probe struct {
	Probe, Outcome string
	How            string  `json:",omitempty"`
	Seconds        float64 `json:",omitempty"`
}

type finding struct{ Probe, Level, Section, Text string }

// TestReceivers checks everybody, and compares with what was found before.
func TestReceivers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "proxyproto")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Dir = "../../cmd/proxyproto"
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	entries := make([]entry, len(receivers))
	var all sync.WaitGroup
	defer all.Wait()
	for i, r := range receivers {
		if !strings.HasPrefix(r.name, *only) {
			continue
		}
		e := &entries[i]
		e.Name, e.Version = r.name, r.version(t)
		addr := r.start(t)
		all.Go(func() { e.check(t, path, addr, r.flags) })
	}
	all.Wait()
	if *only != "" || t.Failed() {
		t.Logf("%+v", entries)
		return
	}
	agree(t, entries)
	if t.Failed() {
		return
	}
	if *update {
		b, err := json.MarshalIndent(entries, "", "\t")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(recordFile, append(b, '\n'), 0o644))
		require.NoError(t, os.WriteFile(page, markdown(entries), 0o644))
		return
	}
	for i, recorded := range record(t) {
		got := entries[i]
		got.Report.Connections = recorded.Report.Connections // how it found out the protocol
		assert.Equal(t, recorded.stable(), got.stable(), "%s: %s in interop/receivers writes it "+
			"down", got.Name, command)
	}
}

// stable is what the machine's load has no part in.
func (e entry) stable() entry {
	e.Version = ""
	e.Report.Probes = slices.Clone(e.Report.Probes)
	for i := range e.Report.Probes {
		e.Report.Probes[i].How, e.Report.Probes[i].Seconds = "", 0
	}
	return e
}

// check runs the command. A long wait only costs time where nothing comes at all.
func (e *entry) check(t *testing.T, path, addr string, flags []string) {
	var stdout, stderr bytes.Buffer
	args := append([]string{"check", "--json", "--wait", "10s", "--patience", "15s"}, flags...)
	cmd := exec.Command(path, append(args, addr)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exited := new(exec.ExitError); err != nil && !errors.As(err, &exited) {
		t.Errorf("%s: %v", e.Name, err)
	}
	e.Code = cmd.ProcessState.ExitCode()
	if !assert.NoError(t, json.Unmarshal(stdout.Bytes(), &e.Report), "%s: %s%s", e.Name, &stdout,
		&stderr) {
		return
	}
	assert.LessOrEqual(t, e.Report.Connections, 20, e.Name)
}

func record(t *testing.T) []entry {
	t.Helper()
	b, err := os.ReadFile(recordFile)
	require.NoError(t, err)
	var entries []entry
	require.NoError(t, json.Unmarshal(b, &entries))
	require.Len(t, entries, len(receivers), command)
	return entries
}

func (e *entry) outcome(name string) string {
	for _, p := range e.Report.Probes {
		if p.Probe == name {
			return p.Outcome
		}
	}
	return ""
}

// readings are what docs/conformance.md calls the headers that both ask about; those without a name
// there have no difference to us.
var readings = map[string]string{
	"v1": "", "v2": "", "none": "", "local": "", "tlv": "", "second": "",
	"unknown": "UNKNOWN", "udp": "UDP", "bad-crc": "the CRC32C is wrong",
}

// agree compares with what docs/conformance.md says of the same programs: where it has no
// difference between one of them and this library, the outcome is the library's.
func agree(t *testing.T, entries []entry) {
	t.Helper()
	var conformance struct {
		Differences []struct{ Reading, Receiver, Theirs, Example string }
	}
	b, err := os.ReadFile("../testdata/conformance.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &conformance))
	require.NotEmpty(t, conformance.Differences)
	compared := 0
	for _, e := range entries {
		name, where, _ := strings.Cut(e.Name, ",")
		if name != "HAProxy" && name != "varnish" && e.Name != "nginx, http" {
			continue
		}
		for probe, reading := range readings {
			want := entries[0].outcome(probe)
			for _, d := range conformance.Differences {
				switch {
				case d.Receiver != name || d.Reading != reading:
				// with more in the line
				case probe == "unknown" && d.Example != `"PROXY UNKNOWN\r\n"`:
				case d.Theirs == "refuses":
					want = "refused"
				case strings.Contains(d.Theirs, "an address of the header's"):
					want = "taken"
				}
			}
			assert.Equal(t, want, e.outcome(probe), "%s,%s: %s", name, where, probe)
			compared++
		}
	}
	assert.Equal(t, 3*len(readings), compared)
}

// The page is what the record makes it.
func TestReceiversPageIsUpToDate(t *testing.T) {
	got, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.Equal(t, string(markdown(record(t))), string(got), command)
}

// columns are the probes on the page.
var columns = []struct{ probe, title string }{
	{"none", "no header"}, {"v1", "v1"}, {"v2", "v2"}, {"local", "LOCAL"}, {"unknown", "UNKNOWN"},
	{"udp", "v2 says UDP"}, {"tcp", "v2 says TCP"}, {"tlv", "unknown TLV"}, {"bad-crc",
		"wrong CRC32C"}, {"split-v1", "v1 split"},
	{"split-v2", "v2 split"}, {"second", "two headers"}, {"endless", "v1 without end"},
	{"late", "after 2.9 s"}, {"silence", "silence"},
}

func markdown(entries []entry) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `# What receivers do, as check sees it

<!-- written by %s in interop/receivers: don't edit -->

What `+"`proxyproto check`"+` says of each, called from an address that it trusts if it can tell them
apart. "takes" means that it answered the question after the header; "refuses" that it closed, or took
the header for a part of the question; "hangs" that it did neither for 10 seconds; "open" that it let a
silent connection be for 15. How long that is can be set in most of them. Empty is what it wasn't asked:
version 1 has no UDP, and who takes no header isn't asked about kinds of them. Over UDP silence is all that
a refusal is, and the header comes in the query's datagram. Where [conformance.md](conformance.md) asks the
same of HAProxy, nginx and varnish (no header, whole headers of both versions, LOCAL, UNKNOWN, UDP, unknown
TLVs, wrong CRC32C, two headers) a test holds the two against each other. What comes late, in parts or
without end, and what others take, is only here.

`, command)
	for _, part := range [][2]int{{0, 8}, {8, len(columns)}} {
		b.WriteString("| receiver |")
		for _, c := range columns[part[0]:part[1]] {
			b.WriteString(" " + c.title + " |")
		}
		b.WriteString("\n|---|" + strings.Repeat("---|", part[1]-part[0]) + "\n")
		for _, e := range entries {
			fmt.Fprintf(&b, "| %s |", e.Name)
			for _, c := range columns[part[0]:part[1]] {
				b.WriteString(" " + e.cell(c.probe) + " |")
			}
			b.WriteByte('\n')
		}
		b.WriteByte('\n')
	}
	b.WriteString("## Verdicts\n")
	for _, e := range entries {
		fmt.Fprintf(&b, "\n### %s\n\nVersion: %s. %s, exit code %d.\n", e.Name, e.Version,
			e.verdict(), e.Code)
		for i, f := range e.Report.Findings {
			if i == 0 {
				b.WriteByte('\n')
			}
			section := ""
			if f.Section != "" {
				section = " (section " + f.Section + ")"
			}
			fmt.Fprintf(&b, "- %s: it %s%s\n", levels[f.Level], f.Text, section)
		}
	}
	return b.Bytes()
}

var levels = map[string]string{"breaks": "breaks a rule", "should": "not as recommended",
	"note": "note"}

func (e *entry) verdict() string {
	s := map[string]string{
		"required": "It needs a header",
		"optional": "It takes a header or none, so that whoever calls may be anybody",
		"ignored":  "It takes headers off and doesn't believe them",
		"none":     "It takes no header",
		"refused":  "It closes with a header and without",
		"unknown":  "It can't be known",
	}[e.Report.Policy]
	switch {
	case e.Report.Believed == "yes":
		s += "; its answer shows the header's address"
	case e.Report.Believed == "unknown" && len(e.Report.Versions) > 0:
		s += "; its answers don't show whether it believes the header"
	}
	return s
}

func (e *entry) cell(name string) string {
	for _, p := range e.Report.Probes {
		if p.Probe != name {
			continue
		}
		switch {
		case name == "silence" && p.Outcome == "hangs":
			return "open"
		case name == "silence":
			return fmt.Sprintf("closes at %.0f s", p.Seconds)
		case p.Outcome == "taken":
			return "takes"
		case p.Outcome == "refused":
			return "refuses"
		}
		return p.Outcome
	}
	return ""
}
