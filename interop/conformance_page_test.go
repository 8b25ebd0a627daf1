package interop

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// summary is the outcome without the address.
func (o outcome) summary() string {
	if o.kind == named {
		return "accepts, with an address of the header's"
	}
	return o.String()
}

func (rec *record) sort() {
	slices.SortFunc(rec.Differences, func(a, b recordedDifference) int {
		return cmp.Or(cmp.Compare(a.Reading, b.Reading), cmp.Compare(a.Receiver, b.Receiver), cmp.Compare(a.Theirs, b.Theirs))
	})
	slices.SortFunc(rec.ConflictsFor, func(a, b recordedConflict) int { return cmp.Compare(a.Reading, b.Reading) })
}

// conformanceMarkdown writes the page.
func conformanceMarkdown(rec record) []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	others := rec.Receivers[1:]
	names := make([]string, len(others))
	for i, r := range others {
		names[i] = r.Name + " " + r.Version
	}
	p("# What other receivers make of the same bytes\n")
	p("<!-- written by CONFORMANCE=full go test -run TestConformance . in interop/: don't edit -->\n")
	p("The %d rows of the table of wire bytes and %d headers made by mutating its valid ones with a fixed seed,", rec.Rows, rec.Mutants)
	p("each followed by an HTTP request and the end of the data, went through %s and this", strings.Join(names, ", "))
	p("library's Listener (MaxHeaderSize at its most). CI does the same with fewer mutants, and fails on a difference that isn't explained here.\n")
	p("**No header that two of us accept by the spec has two addresses:** wherever we and another receiver both take an address from")
	p("a header it is the same one. Of the headers that we refuse the others read %d in different ways among themselves (below).\n", rec.Conflicts)
	p("| receiver | accepts | does as we do | differs |")
	p("|---|---:|---:|---:|")
	for _, r := range rec.Receivers {
		p("| %s %s | %d | %d | %d |", r.Name, r.Version, r.Accepted, r.Same, rec.Rows+rec.Mutants-r.Same)
	}
	p("\n## The differences\n")
	p("How many headers of each kind a receiver treats otherwise than we do, and what decides, in the spec's words.\n")
	readings := rec.readings()
	p("| the header | we | %s | section |", strings.Join(receiverNames(others), " | "))
	p("|---|---|%s---|", strings.Repeat("---|", len(others)))
	for i, read := range readings {
		cells := make([]string, len(others))
		ours := "refuse"
		for j, r := range others {
			var parts []string
			for _, d := range rec.Differences {
				if d.Reading == read && d.Receiver == r.Name {
					parts = append(parts, fmt.Sprintf("%s: %d", d.Theirs, d.Count))
					if d.Ours != (outcome{}).String() {
						ours = "accept"
					}
				}
			}
			cells[j] = strings.Join(parts, "<br>")
		}
		p("| [%s](#%d) | %s | %s | %s |", read, i+1, ours, strings.Join(cells, " | "), explanations[read].section)
	}
	for i, read := range readings {
		e := explanations[read]
		p("\n### <a id=\"%d\"></a>%s\n", i+1, read)
		p("> %s\n> (section %s)\n", e.sentence, e.section)
		if e.note != "" {
			p("%s\n", e.note)
		}
		for _, d := range rec.Differences {
			if d.Reading == read {
				p("- %s %s (%d), for example `%s`%s", d.Receiver, d.Theirs, d.Count, d.Example, exactly(d))
			}
		}
	}
	p("\n## Headers that others read in different ways\n")
	p("We refuse these. Behind a receiver that doesn't, who a client is depends on which one it is: one example of each kind.\n")
	for _, c := range rec.ConflictsFor {
		p("- %s: `%s`: %s", c.Reading, c.Example, strings.Join(c.Exactly, "; "))
	}
	p("\n## TLVs that are there twice\n")
	p("The spec neither forbids two ALPN, AUTHORITY, UNIQUE_ID or SSL TLVs nor says which one counts. A proxy that passes on TLVs and")
	p("appends its own writes them, and then one of the two is what somebody before it said. Of two AUTHORITY TLVs HAProxy 2.6.12")
	p("believes the last one and varnish 7.1.1 the first (TestAuthorityTwice); nginx 1.22.1 reads no TLVs. All three accept the header,")
	p("and so do we; but `TLVs.ALPN`, `Authority`, `UniqueID`, `NetNS` and `SSL` then say that there is none. `TLVs.All` has them all.")
	return b.Bytes()
}

// exactly says which address an example got.
func exactly(d recordedDifference) string {
	if d.Exactly == d.Theirs {
		return ""
	}
	return ", which it " + d.Exactly
}

// readings are those on which somebody differs, in the order of the spec's sections.
func (rec *record) readings() (all []string) {
	for _, d := range rec.Differences {
		if !slices.Contains(all, d.Reading) {
			all = append(all, d.Reading)
		}
	}
	slices.SortStableFunc(all, func(a, b string) int {
		return cmp.Compare(explanations[a].section, explanations[b].section)
	})
	return all
}

func receiverNames(rs []recordedReceiver) (names []string) {
	for _, r := range rs {
		names = append(names, r.Name)
	}
	return names
}
