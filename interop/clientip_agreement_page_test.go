package interop

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/bits"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	agreementRecord = "testdata/clientip-agreement.json"
	agreementPage   = "../docs/clientip-agreement.md"
)

// agreement is what a full run has found. The page is made of it and of the reasons.
type agreement struct {
	Requests    int
	Versions    []string
	Judges      []agreementJudge
	Differences []agreementDifference
}

type agreementJudge struct {
	Name, Like    string
	Same, Differs int
	Contradicts   int // of those that differ: both name somebody
}

// agreementDifference is what one judge does otherwise for one reason.
type agreementDifference struct {
	Judge   string
	Quirks  quirks
	Count   int
	Example string
}

// A reason says what a quirk is, and the sentence by which we do otherwise.
type reason struct{ what, decides string }

const (
	rfc9110List   = `RFC 9110, section 5.6.1.2: "A recipient MUST parse and ignore a reasonable number of empty list elements"`
	rfc9110Commas = `RFC 9110, section 5.6.1: a list is "#element => [ element ] *( OWS "," OWS [ element ] )"`
	rfc9110OWS    = `RFC 9110, section 5.6.3: "OWS = *( SP / HTAB )"`
	rfc9110Lines  = `RFC 9110, section 5.3: "a sender MUST NOT generate multiple field lines with the same name [...] unless that field's definition ` +
		`allows multiple field line values to be recombined as a comma-separated list"`
	rfc7239Node = `RFC 7239, section 6: "node = nodename [ ":" node-port ]", "nodename = IPv4address / "[" IPv6address "]" / ..."; ` +
		`Azure's Application Gateway writes ports in X-Forwarded-For as well`
	rfc3986v4   = `RFC 3986, section 3.2.2: "IPv4address = dec-octet "." dec-octet "." dec-octet "." dec-octet", without leading zeros`
	rfc4007Zone = `RFC 4007, section 6: "Zone indices are strictly local to the node": another machine's say nothing here`
	ourNobody   = "RemoteAddr has to be somebody's: the last address that a believed proxy has, never one further left. " +
		"`Client.Problem` and `StatsOf` say that the field named nobody"
)

var reasons = map[quirks]reason{
	quirkPeer: {"doesn't ask who sends the request",
		`RFC 7239, section 8.1: the field "cannot be relied upon to be correct, as it may be, whether mistakenly or for malicious reasons, ` +
			`modified by every node on the way to the server, including the client making the request"`},
	quirkNobodyMissing: {"names nobody if there is no such field", ourNobody},
	quirkNobodyTrusted: {"names nobody if all addresses are trusted proxies'", "The leftmost is then the client: a proxy that asks for itself, as nginx and Apache have it"},
	quirkNobodyBad:     {"names nobody if an element isn't an address", ourNobody},
	quirkNobodyShort:   {"names nobody if there are fewer addresses than proxies", ourNobody},
	quirkCountsBad:     {"counts elements that aren't addresses as hops", "What isn't an address ends the walk, and nothing to its left is believed"},
	quirkSpaces:        {"takes spaces for separators", rfc9110Commas},
	quirkTab:           {"takes a tab for a part of an address, which makes it none", rfc9110OWS},
	quirkEmpty:         {"takes an empty element for one that isn't an address", rfc9110List},
	quirkPort:          {"doesn't know ports", rfc7239Node},
	quirkAnyPort:       {"takes anything for a port", `RFC 7239, section 6: "port = 1*5DIGIT", and no port is above 65535`},
	quirkPortZero:      {"refuses port 0", `RFC 7239, section 6: "port = 1*5DIGIT"`},
	quirkBrackets:      {"doesn't know IPv6 addresses in brackets", rfc7239Node},
	quirkBareBrackets:  {"doesn't know IPv6 addresses in brackets without a port", rfc7239Node},
	quirkBracketsV4:    {"takes IPv4 addresses in brackets", `RFC 7239, section 6: "nodename = IPv4address / "[" IPv6address "]" / ..."`},
	quirkZone:          {"takes addresses with a zone", rfc4007Zone},
	quirkEmptyZone:     {"takes addresses with an empty zone", rfc4007Zone},
	quirkUnspecified:   {"refuses 0.0.0.0 and ::", "They are addresses, if nobody's: a trusted proxy that writes them is believed as in anything else"},
	quirkList:          {"reads a field of one address as a list", "Such a field has one address. If it comes with more, one is the client's own, and none is believed"},
	quirkFirstLine:     {"takes the first of several lines", rfc9110Lines + ". One is the client's own: none is believed"},
	quirkLastLine:      {"takes the last of several lines", rfc9110Lines + ". One is the client's own: none is believed"},
	quirkNaive:         {"splits Forwarded without regard to quoted strings", `RFC 7239, section 4: "value = token / quoted-string"`},
	quirkBroadcast:     {"refuses 255.255.255.255", "It is an address, if nobody's: a trusted proxy that writes it is believed as in anything else"},
	quirkLeading:       {"takes a separator at the beginning of a line for a part of the address", rfc9110List},
	quirkBlankLine:     {"takes an empty line for one that isn't an address", rfc9110List},
	quirkTrailingColon: {"takes an IPv6 address that a colon ends", `RFC 3986, section 3.2.2, has no such IPv6address`},
	quirkAton:          {"takes what inet_aton takes: 192.0.2, 0x7f.0.0.1", rfc3986v4},
	quirkNames:         {"looks names up", `RFC 7239, section 6, has no names of hosts: a lookup would be the client's to order`},
	quirkZeros:         {"takes leading zeros", rfc3986v4},
	quirkOnlyPROXY:     {"stops at the PROXY header", "It names a trusted HTTP proxy, whose field names the client. nginx reads one of the two (its issue 1566)"},
}

// bits are the single quirks in q.
func (q quirks) bits() (all []quirks) {
	for q != 0 {
		all = append(all, q&-q)
		q &= q - 1
	}
	return all
}

func (q quirks) String() string {
	var all []string
	for _, bit := range q.bits() {
		all = append(all, reasons[bit].what)
	}
	return strings.Join(all, ", and ")
}

// why returns the fewest quirks that make of our outcome the judge's.
func (r *agreementRequest) why(base, j *judge, theirs string) (quirks, bool) {
	all := j.quirks.bits()
	for n := 1; n <= 4; n++ {
		for set := range uint64(1) << len(all) {
			if bits.OnesCount64(set) != n {
				continue
			}
			var q quirks
			for i, bit := range all {
				if set>>i&1 != 0 {
					q |= bit
				}
			}
			if r.readAs(base.field, base.hops, q) == theirs {
				return q, true
			}
		}
	}
	return 0, false
}

func (a *agreement) add(j *judge, q quirks, example string) {
	for i := range a.Differences {
		if d := &a.Differences[i]; d.Judge == j.name && d.Quirks == q {
			d.Count++
			if len(example) < len(d.Example) {
				d.Example = example
			}
			return
		}
	}
	a.Differences = append(a.Differences, agreementDifference{j.name, q, 1, example})
}

// example shows the request as far as a judge reads it.
func (r *agreementRequest) example(base *judge, ours, theirs string) string {
	lines := map[string][]string{"X-Forwarded-For": r.list, "Forwarded": r.forwarded, "X-Real-IP": r.singular, fieldPROXY: r.list}[base.field]
	from := r.peer.String()
	if base.field == fieldPROXY {
		from += ", PROXY " + r.client.String()
	}
	return fmt.Sprintf("from %s, `%q`: %s, we say %s", from, lines, theirs, ours)
}

func (a *agreement) write(t *testing.T) {
	t.Helper()
	slices.SortFunc(a.Differences, func(x, y agreementDifference) int {
		return cmp.Or(cmp.Compare(x.Judge, y.Judge), cmp.Compare(y.Count, x.Count), cmp.Compare(x.Quirks, y.Quirks))
	})
	out, err := json.MarshalIndent(a, "", "\t")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(agreementRecord, append(out, '\n'), 0o644))
	require.NoError(t, os.WriteFile(agreementPage, a.markdown(), 0o644))
}

func (a *agreement) markdown() []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Who others say the client is\n")
	p("<!-- written by CONFORMANCE=full go test -run TestClientIPAgreement . in interop/: don't edit -->\n")
	p("The same %d requests, made with a fixed seed, went to package clientip and to others that find a client behind HTTP proxies:", a.Requests)
	p("%s. They have fields of 0 to 6 hops over several lines, with spaces, tabs, ports, brackets,", strings.Join(a.Versions, ", "))
	p("mapped addresses and garbage; one in six comes from a peer that nobody trusts. CI does the same with fewer.\n")
	p("Every outcome is what that judge's habits, listed below, make of the request: **no difference is without a reason.** Requests that all servers")
	p("answer by an error have none.\n")
	p("| judge | as we say | otherwise | of these, both name somebody |")
	p("|---|---:|---:|---:|")
	for _, j := range a.Judges {
		if j.Like == "" {
			p("| **%s** | | | |", j.Name)
			continue
		}
		p("| %s | %d | %d | %d |", j.Name, j.Same, j.Differs, j.Contradicts)
	}
	p("\n## The differences\n")
	p("| judge | what it does | requests |")
	p("|---|---|---:|")
	for _, d := range a.Differences {
		p("| %s | %v | %d |", d.Judge, d.Quirks, d.Count)
	}
	p("\n## What decides\n")
	var all quirks
	for _, d := range a.Differences {
		all |= d.Quirks
	}
	for _, q := range all.bits() {
		r := reasons[q]
		p("### A judge %s\n", r.what)
		p("%s.\n", r.decides)
		for _, d := range a.Differences {
			if d.Quirks == q {
				p("- %s: %s", d.Judge, d.Example)
			}
		}
		p("")
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// The page is what the record and the reasons make it.
func TestClientIPAgreementPageIsUpToDate(t *testing.T) {
	b, err := os.ReadFile(agreementRecord)
	require.NoError(t, err)
	var a agreement
	require.NoError(t, json.Unmarshal(b, &a))
	page, err := os.ReadFile(agreementPage)
	require.NoError(t, err)
	assert.Equal(t, string(a.markdown()), string(page),
		"CONFORMANCE=full go test -run TestClientIPAgreement . writes it anew")
	for bit := quirks(1); bit < quirksEnd; bit <<= 1 {
		assert.NotEmpty(t, reasons[bit].decides, "quirk %#x has no reason", bit)
	}
}
