package interop

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

const (
	mutantsInFull  = 20000
	mutantsInShort = 2000

	conformanceRecord = "testdata/conformance.json"
	conformancePage   = "../docs/conformance.md"
)

// record is what a full run has found. The page is made of it and of the explanations.
type record struct {
	Rows, Mutants int
	Accepted      int // by us
	Receivers     []recordedReceiver
	Differences   []recordedDifference
	// Conflicts are headers that we refuse and that two others accept under different addresses.
	Conflicts    int
	ConflictsFor []recordedConflict // one for each reading
}

type recordedReceiver struct {
	Name, Version string
	Accepted      int
	Same          int // outcomes like ours
}

// recordedDifference is what one receiver does otherwise than we do, on headers of one reading.
type recordedDifference struct {
	Reading, Receiver string
	Theirs            string // without the address
	Count             int
	Example           string // the wire, quoted
	Ours, Exactly     string // what we do with the example, and what they do
}

type recordedConflict struct {
	Reading, Example string
	Exactly          []string
}

// TestConformance shows the table of wire bytes, and mutants of its valid headers, to us and to the
// receivers that people trust. Where they differ there must be a sentence of the spec that decides.
func TestConformance(t *testing.T) {
	n := mutantsInShort
	if inFull {
		n = mutantsInFull
	}
	table := tableSpecimens(t)
	specimens := append(slices.Clone(table), mutants(t, n)...)
	rs := receivers(t)
	outcomes := showAll(t, rs, specimens)

	rec := compare(t, rs, specimens, outcomes)
	rec.Rows, rec.Mutants = len(table), n
	for _, r := range rec.Receivers {
		t.Logf("%-10s %s: %d accepted, %d of %d outcomes like ours", r.Name, r.Version, r.Accepted, r.Same, len(specimens))
	}
	t.Logf("accepted by others under different addresses, refused by us: %d", rec.Conflicts)
	if !inFull || t.Failed() {
		return
	}
	out, err := json.MarshalIndent(rec, "", "\t")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(conformanceRecord, append(out, '\n'), 0o644))
	require.NoError(t, os.WriteFile(conformancePage, conformanceMarkdown(rec), 0o644))
}

// showAll shows every specimen to every receiver.
func showAll(t *testing.T, rs []receiver, specimens []specimen) [][]outcome {
	t.Helper()
	outcomes := make([][]outcome, len(rs))
	var all sync.WaitGroup
	start := time.Now()
	for k, r := range rs {
		outcomes[k] = make([]outcome, len(specimens))
		all.Go(func() {
			each(t, r.name, len(specimens), 48, func(i int) (from netip.Addr, err error) {
				from = proxies.ClientAddr(i)
				outcomes[k][i], err = r.show(from, specimens[i].wire)
				return from, err
			})
		})
	}
	all.Wait()
	t.Logf("%d specimens shown to %d receivers in %v", len(specimens), len(rs), time.Since(start).Round(time.Millisecond))
	return outcomes
}

// compare finds the differences, and fails for those that nothing explains.
func compare(t *testing.T, rs []receiver, specimens []specimen, outcomes [][]outcome) record {
	t.Helper()
	rec := record{Receivers: make([]recordedReceiver, len(rs))}
	for k, r := range rs {
		rec.Receivers[k].Name, rec.Receivers[k].Version = r.name, r.version
	}
	found := map[[3]string]*recordedDifference{}
	conflicts := map[string]*recordedConflict{}
	unexplained := 0
	for i, s := range specimens {
		ours := outcomes[0][i]
		sent := withRequest(s.wire)
		read := reading(sent)
		assert.Equal(t, expected(s.wire), ours, "our Listener on %q", cut(s.wire))
		for k := range rs {
			theirs := outcomes[k][i]
			if theirs.kind != refused {
				rec.Receivers[k].Accepted++
			}
			if theirs == ours {
				rec.Receivers[k].Same++
				continue
			}
			if !explained(read, ours, theirs) {
				if unexplained++; unexplained <= 20 {
					t.Errorf("nothing explains why %s %v and we %v (%s): %s: %q", rs[k].name, theirs, ours, read, s.name, cut(s.wire))
				}
			}
			summary := outcome{kind: theirs.kind}.summary()
			d := found[[3]string{read, rs[k].name, summary}]
			if d == nil {
				d = &recordedDifference{Reading: read, Receiver: rs[k].name, Theirs: summary,
					Example: cut(s.wire), Ours: ours.String(), Exactly: theirs.String()}
				found[[3]string{read, rs[k].name, summary}] = d
			}
			d.Count++
		}
		if said := conflict(rs, outcomes, i); said != nil {
			rec.Conflicts++
			if conflicts[read] == nil {
				conflicts[read] = &recordedConflict{read, cut(s.wire), said}
			}
		}
	}
	rec.Accepted = rec.Receivers[0].Accepted
	for _, d := range found {
		rec.Differences = append(rec.Differences, *d)
	}
	for _, c := range conflicts {
		rec.ConflictsFor = append(rec.ConflictsFor, *c)
	}
	rec.sort()
	if unexplained > 0 {
		t.Errorf("%d differences in all are unexplained", unexplained)
	}
	return rec
}

// expected is the outcome that Parse's verdict should lead to.
func expected(wire []byte) outcome {
	h, _, err := proxyproto.Parse(withRequest(wire))
	switch {
	case err != nil:
		return outcome{kind: refused}
	case !h.Source.IsValid():
		return outcome{kind: anonymous}
	}
	return outcome{named, netip.AddrPortFrom(h.Source.Addr().Unmap(), h.Source.Port())}
}

// explained tells whether a sentence of the spec decides between us and them. None ever allows two
// different addresses for one header.
func explained(read string, ours, theirs outcome) bool {
	if ours.kind == named && theirs.kind == named {
		return false
	}
	if read == readLong && theirs.kind > garbled {
		return false // too long is a reason to refuse, and no other
	}
	_, ok := explanations[read]
	return ok
}

// conflict tells what the others said if we refuse what two of them call by different addresses.
func conflict(rs []receiver, outcomes [][]outcome, i int) (said []string) {
	different := false
	var first netip.AddrPort
	for k := range rs {
		o := outcomes[k][i]
		if k > 0 && o.kind == named {
			different = different || first.IsValid() && o.client != first
			first = o.client
		}
		said = append(said, rs[k].name+" "+o.String())
	}
	if !different || outcomes[0][i].kind != refused {
		return nil
	}
	return said
}

// cut quotes a specimen for the page.
func cut(wire []byte) string {
	if len(wire) > 100 {
		return fmt.Sprintf("%q… (%d bytes)", wire[:100], len(wire))
	}
	return fmt.Sprintf("%q", wire)
}

// The page is what the record and the explanations make it.
func TestConformancePageIsUpToDate(t *testing.T) {
	b, err := os.ReadFile(conformanceRecord)
	require.NoError(t, err)
	var rec record
	require.NoError(t, json.Unmarshal(b, &rec))
	page, err := os.ReadFile(conformancePage)
	require.NoError(t, err)
	assert.Equal(t, string(conformanceMarkdown(rec)), string(page), "CONFORMANCE=full go test -run TestConformance . mends it")
	assert.Equal(t, len(tableSpecimens(t)), rec.Rows, "the table has changed: CONFORMANCE=full go test -run TestConformance . runs it again")
}
