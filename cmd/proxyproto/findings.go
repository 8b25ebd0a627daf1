package main

import (
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strings"
)

// finding is something that the server does otherwise than the spec says.
type finding struct {
	Probe   string `json:"probe"`
	Level   string `json:"level"` // breaks, should (what the spec recommends), or note
	Section string `json:"section,omitempty"`
	Text    string `json:"text"`
}

const (
	breaks = "breaks"
	should = "should"
	note   = "note"
)

// Policies, as check's report calls them.
const (
	policyRequired = "required" // needs a header
	policyOptional = "optional" // takes one or none
	policyIgnored  = "ignored"  // takes one or none, and believes none
	policyNone     = "none"     // takes none
	policyRefused  = "refused"  // takes nothing from here
	policyUnknown  = "unknown"
)

// rules say what it means if a server does this with a probe.
var rules = []struct {
	probe, outcome string
	finding        finding
}{
	{"unknown", refused, finding{Level: should, Section: "2.1",
		Text: "refuses UNKNOWN, which a receiver should accept with the real connection's " +
			"addresses"}},
	{"local", refused, finding{Level: breaks, Section: "2.2",
		Text: "refuses LOCAL, which a receiver must accept with the real connection's addresses: " +
			"health checks fail"}},
	{"tlv", refused, finding{Level: breaks, Section: "2.2",
		Text: "refuses a TLV of a type that it doesn't know: the length says how much to skip"}},
	{"bad-crc", taken, finding{Level: note, Section: "2.2.3",
		Text: "takes a header whose checksum is wrong: a receiver that supports checksums must " +
			"drop it"}},
	{"split-v1", refused, finding{Level: should, Section: "2",
		Text: "refuses a version 1 header that comes in two segments, which it is recommended to " +
			"tolerate"}},
	{"split-v2", refused, finding{Level: should, Section: "2",
		Text: "refuses a version 2 header that comes in two segments, which it is recommended to " +
			"tolerate"}},
	{"endless", hangs, finding{Level: should, Section: "2.1",
		Text: "waits on after 107 bytes of a version 1 line, which should be declared invalid " +
			"then"}},
	{"endless", taken, finding{Level: breaks, Section: "2.1",
		Text: "takes a version 1 line without end"}},
	{"second", taken, finding{Level: breaks, Section: "2",
		Text: "takes a second header off, which is the client's own data: behind a proxy anybody " +
			"can claim any address"}},
	{"late", refused, finding{Level: breaks, Section: "2",
		Text: "doesn't wait 3 seconds for a header, which a lost segment takes"}},
	{"silence", hangs, finding{Level: note, Text: "keeps a connection without a byte open: many " +
		"of them use it up"}},
}

// judge makes the verdict of what the probes came to.
func (r *checkReport) judge(c *checker) {
	r.Versions, r.Findings, r.Unknown = []string{}, []finding{}, []string{}
	for _, version := range []string{"v1", "v2"} {
		if r.accepts(version) {
			r.Versions = append(r.Versions, version)
		}
	}
	r.Believed = r.believed(c)
	r.Policy = r.policy()
	takes := strings.Join(r.Versions, " and ")
	switch r.Policy {
	case policyRequired:
		r.Verdict = fmt.Sprintf("%s needs a header from %s (%s): whoever calls from there can "+
			"claim any address", r.Address, r.From, takes)
	case policyOptional:
		r.Verdict = fmt.Sprintf("%s takes a header from %s (%s) or none: whoever calls from "+
			"there may be anybody", r.Address, r.From, takes)
		r.Findings = append(r.Findings, finding{"none", breaks, "2",
			"takes connections with a header and without: a receiver must not guess, " +
				"for then clients that reach it directly claim any address"})
	case policyIgnored:
		r.Verdict = fmt.Sprintf("%s takes headers from %s off and doesn't believe them", r.Address,
			r.From)
	case policyNone:
		r.Verdict = fmt.Sprintf("%s takes no header from %s: PROXY isn't set up there for "+
			"callers from this address", r.Address, r.From)
	case policyRefused:
		r.Verdict = fmt.Sprintf("%s closes on %s with a header and without: it isn't trusted "+
			"there, or the question is the wrong one", r.Address, r.From)
	default:
		r.Verdict = fmt.Sprintf("%s: it can't be known, since nothing that it does depends on "+
			"the header", r.Address)
	}
	for _, rule := range rules {
		outcome := r.outcome(rule.probe)
		if r.Protocol == overUDP && outcome == hangs {
			outcome = refused
		}
		if outcome == rule.outcome && !(r.Protocol == "raw" && rule.outcome == taken) {
			f := rule.finding
			f.Probe = rule.probe
			r.Findings = append(r.Findings, f)
		}
	}
	r.unknowns()
}

// policy is what the server wants of callers from here.
func (r *checkReport) policy() string {
	with, without := len(r.Versions) > 0, r.accepts("none")
	header, bare := r.outcome("v2"), r.outcome("none")
	switch {
	case r.Protocol == "raw" && with && without && header == bare && r.outcome("v1") == bare &&
		bare == hangs:
		return policyUnknown
	case with && without && r.Believed == "no":
		return policyIgnored
	case with && without:
		return policyOptional
	case with:
		return policyRequired
	case without:
		return policyNone
	case header == hangs && bare == hangs:
		return policyUnknown
	}
	return policyRefused
}

// believed says whether an answer shows the address that a header claimed, or our own.
func (r *checkReport) believed(c *checker) string {
	for _, version := range []string{"v2", "v1"} {
		got := r.result(version)
		if got == nil || got.Outcome != taken {
			continue
		}
		own := endpointOf(got.local)
		if shows(got.answer, c.claimed(own.Addr()).String()) {
			return "yes"
		}
		port := regexp.MustCompile(fmt.Sprintf(`(^|[^0-9])%d($|[^0-9])`, own.Port()))
		if shows(got.answer, own.Addr().String()) && port.MatchString(got.answer) {
			return "no"
		}
	}
	return "unknown"
}

// shows reports whether a text has a word.
func shows(text, word string) bool {
	found, err := regexp.MatchString(`(^|[^0-9A-Za-z.:])`+regexp.QuoteMeta(word)+
		`($|[^0-9A-Za-z.]|\.($|\s))`, text)
	return err == nil && found
}

// unknowns says what the probes can't show.
func (r *checkReport) unknowns() {
	if len(r.Versions) == 0 {
		return
	}
	if r.Believed == "unknown" {
		r.Unknown = append(r.Unknown, "whether it believes a header's addresses: nothing in its "+
			"answers shows them")
	}
	if r.Protocol == overUDP {
		r.Unknown = append(r.Unknown, "whether what isn't answered was dropped by the server, or "+
			"lost twice")
	}
	if r.Protocol == "raw" {
		r.Unknown = append(r.Unknown, "how it takes what it didn't close on: it wasn't asked in "+
			"its own protocol")
	}
	if r.outcome("tlv") != taken && r.outcome("bad-crc") == refused {
		r.Unknown = append(r.Unknown, "whether it verifies checksums: it refuses other TLVs too")
	}
	if from, err := netip.ParseAddr(r.From); err == nil {
		r.Unknown = append(r.Unknown, fmt.Sprintf("what it takes from others than %v: run this "+
			"there", from))
	}
}

// code is the exit code.
func (r *checkReport) code() int {
	switch r.Policy {
	case policyNone:
		return exitNoHeader
	case policyRefused, policyUnknown:
		return exitIncomplete
	}
	for _, f := range r.Findings {
		if f.Level == breaks {
			return exitMalformed
		}
	}
	return exitOK
}

// print prints what follows the results.
func (r *checkReport) print(w io.Writer) {
	fmt.Fprintln(w)
	for _, f := range r.Findings {
		section := ""
		if f.Section != "" {
			section = fmt.Sprintf(" (section %s)", f.Section)
		}
		fmt.Fprintf(w, "%s: it %s%s\n",
			map[string]string{breaks: "broken", should: "not as recommended",
				note: "note"}[f.Level], f.Text, section)
	}
	if r.Believed == "yes" {
		fmt.Fprintln(w, "believed: its answer shows the address that the header claimed")
	}
	for _, text := range r.Unknown {
		fmt.Fprintf(w, "not known: %s\n", text)
	}
	fmt.Fprintf(w, "%s\n", r.Verdict)
}
