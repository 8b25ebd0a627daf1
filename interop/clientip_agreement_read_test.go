package interop

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// agreementRequest is one generated request.
type agreementRequest struct {
	peer                      netip.Addr // who sends it
	client                    netip.Addr // whom PROXY names, to the judges that take it
	list, forwarded, singular []string   // the lines of X-Forwarded-For, Forwarded and X-Real-IP
}

func (r *agreementRequest) proxyLine() string {
	destination, family := "198.51.100.1", "TCP4"
	if r.client.Is6() {
		destination, family = "2001:db8:2::1", "TCP6"
	}
	return fmt.Sprintf("PROXY %s %s %s 51234 443\r\n", family, r.client, destination)
}

func (r *agreementRequest) text() string {
	var b strings.Builder
	b.WriteString("GET / HTTP/1.1\r\nHost: agreement.test\r\nConnection: close\r\n")
	for _, f := range []struct {
		name  string
		lines []string
	}{{"X-Forwarded-For", r.list}, {"Forwarded", r.forwarded}, {"X-Real-IP", r.singular}} {
		for _, line := range f.lines {
			fmt.Fprintf(&b, "%s: %s\r\n", f.name, line)
		}
	}
	return b.String() + "\r\n"
}

// generateRequests makes requests with fields of 0 to 6 hops, of every kind of element there is.
func generateRequests(n int) (all []*agreementRequest) {
	g := generator{rand.New(rand.NewPCG(19, 2026))}
	for i := range n {
		r := &agreementRequest{peer: netip.MustParseAddr(proxies.Proxy), client: g.addr()}
		if g.IntN(6) == 0 {
			r.peer = proxies.ClientAddr(i)
		}
		hops := g.IntN(7)
		r.list = g.lines(hops, g.element)
		r.forwarded = g.lines(hops, func() string { return g.forwarded(g.element()) })
		switch g.IntN(8) {
		case 0:
		case 1:
			r.singular = []string{g.element(), g.element()}
		case 2:
			r.singular = []string{g.element() + ", " + g.element()}
		default:
			r.singular = []string{g.element()}
		}
		all = append(all, r)
	}
	return all
}

type generator struct{ *rand.Rand }

func (g generator) pick(all ...string) string { return all[g.IntN(len(all))] }

// addr is a client's or a proxy's.
func (g generator) addr() netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf(g.pick("192.0.2.%d", "10.0.0.%d", "10.0.0.%d", "2001:db8::%x", "2001:db8:1::%x", "203.0.113.%d"),
		1+g.IntN(250)))
}

func (g generator) element() string {
	a := g.addr()
	switch g.IntN(24) {
	case 0:
		return netip.AddrPortFrom(a, uint16(g.IntN(65536))).String()
	case 1:
		return "[" + a.String() + "]"
	case 2:
		return "::ffff:" + g.pick("192.0.2.7", "10.0.0.7")
	case 3:
		return "fe80::1" + g.pick("%lo", "%1", "%")
	case 4:
		return g.pick("unknown", "_hidden", "-", "localhost", "client.example", "192.0.2", "192.0.2.256", "192.0.2.007", "1::2::3", ":", "::1:",
			"192.0.2.7:", "192.0.2.7:0", "192.0.2.7:65536", "192.0.2.7:http", "[2001:db8::7", "2001:db8::7]", "\"192.0.2.7\"", "\xff", "\u0661.0.0.1",
			"for=192.0.2.7", "192.0.2.7/32", "0x7f.0.0.1", "3221225991", "<script>", "[]", "\"", "\\")
	case 5:
		return ""
	case 6:
		return a.String() + " " + g.addr().String()
	case 7:
		return g.pick("0.0.0.0", "::", "127.0.0.1", "192.168.1.1", "169.254.1.1", "224.0.0.1", "255.255.255.255", "::1")
	}
	return a.String()
}

// forwarded makes an element of Forwarded for a node.
func (g generator) forwarded(node string) string {
	if strings.Trim(node, "0123456789abcdefghijklmnopqrstuvwxyz._-") != "" &&
		(g.IntN(8) > 0 || strings.ContainsAny(node, "\"\\")) {
		if strings.Count(node, ":") > 1 && !strings.HasPrefix(node, "[") {
			node = "[" + node + "]"
		}
		node = strconv.Quote(node)
	}
	pairs := []string{g.pick("for", "For", "FOR") + "=" + node}
	for _, pair := range []string{"proto=https", "by=203.0.113.43", `host="a.example"`, `host="a, b"`, `secret="\"x;y\""`} {
		if g.IntN(8) == 0 {
			pairs = append(pairs, pair)
		}
	}
	g.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
	return strings.Join(pairs, g.pick(";", ";", ";", "; "))
}

// lines spreads elements over lines.
func (g generator) lines(hops int, element func() string) (lines []string) {
	for i := range hops {
		e := element()
		if i == 0 || g.IntN(5) == 0 {
			lines = append(lines, e)
		} else {
			lines[len(lines)-1] += g.pick(", ", ", ", ",", " , ", ",\t", ",,") + e
		}
	}
	return lines
}

// quirks are ways in which a judge reads otherwise than we do.
type quirks uint32

const (
	quirkPeer quirks = 1 << iota
	quirkNobodyMissing
	quirkNobodyTrusted
	quirkNobodyBad
	quirkNobodyShort
	quirkCountsBad
	quirkSpaces
	quirkTab
	quirkEmpty
	quirkPort
	quirkAnyPort
	quirkPortZero
	quirkBrackets
	quirkBracketsV4
	quirkZone
	quirkUnspecified
	quirkList
	quirkFirstLine
	quirkLastLine
	quirkNaive
	quirkBareBrackets
	quirkBroadcast
	quirkLeading
	quirkBlankLine
	quirkTrailingColon
	quirkAton
	quirkZeros
	quirkNames
	quirkEmptyZone
	quirkOnlyPROXY
	quirksEnd
)

// readAs finds the client in the way of a judge: slowly, by the settings that all judges have.
func (r *agreementRequest) readAs(field string, hops int, q quirks) string {
	trusted := func(a netip.Addr) bool {
		return a == netip.MustParseAddr(proxies.Proxy) || netip.MustParsePrefix("10.0.0.0/8").Contains(a) ||
			netip.MustParsePrefix("2001:db8:1::/48").Contains(a)
	}
	nobodyIf := func(quirk quirks, otherwise netip.Addr) string {
		if q&quirk != 0 {
			return outcomeNone
		}
		return otherwise.String()
	}
	client := r.peer
	if field == fieldPROXY && trusted(r.peer) {
		if client = r.client; q&quirkOnlyPROXY != 0 {
			return client.String()
		}
	}
	if hops == 0 && q&quirkPeer == 0 && !trusted(client) {
		return client.String()
	}
	var elements []string
	switch field {
	case "X-Forwarded-For", fieldPROXY:
		elements = q.split(r.list)
	case "Forwarded":
		elements = q.splitForwarded(r.forwarded)
	case "X-Real-IP":
		lines := r.singular
		switch {
		case len(lines) > 1 && q&quirkLastLine != 0:
			lines = lines[len(lines)-1:]
		case len(lines) > 1 && q&quirkFirstLine != 0:
			lines = lines[:1]
		case len(lines) > 1 && q&quirkList == 0:
			return nobodyIf(quirkNobodyBad, client)
		}
		if q&quirkList != 0 {
			elements = q.split(lines)
		} else if hops = 1; len(lines) == 1 {
			elements = []string{q.trim(lines[0])}
		}
	}
	if len(elements) == 0 {
		return nobodyIf(quirkNobodyMissing, client)
	}
	for n, element := range slices.Backward(elements) {
		a, ok := q.parse(element)
		if !ok && q&quirkCountsBad != 0 && len(elements)-n < hops {
			continue
		}
		if !ok {
			return nobodyIf(quirkNobodyBad, client)
		}
		client = a
		if len(elements)-n == hops || hops == 0 && !trusted(client) {
			return client.String()
		}
	}
	if hops > 0 {
		return nobodyIf(quirkNobodyShort, client)
	}
	return nobodyIf(quirkNobodyTrusted, client)
}

// split returns the elements of a list field.
func (q quirks) split(lines []string) (elements []string) {
	for _, line := range lines {
		separators, before := ",", ""
		if q&quirkSpaces != 0 {
			separators = ", "
		}
		line = strings.TrimLeft(line, " \t")
		if rest := strings.TrimLeft(line, separators); q&quirkLeading != 0 && rest != line && rest != "" {
			before, line = line[:len(line)-len(rest)], rest
			if len(before) > 1 {
				elements, before = append(elements, before), ""
			}
		}
		if q&quirkBlankLine != 0 && strings.Trim(line, separators) == "" {
			elements = append(elements, "")
			continue
		}
		for i, e := range regexp.MustCompile("["+separators+"]").Split(line, -1) {
			if e = q.trim(e); e == "" && q&quirkEmpty == 0 {
				continue
			}
			if i == 0 {
				e = before + e
			}
			elements = append(elements, e)
		}
	}
	return elements
}

func (q quirks) trim(s string) string {
	if q&quirkTab != 0 {
		return strings.Trim(s, " ")
	}
	return strings.Trim(s, " \t")
}

// parse reads an address.
func (q quirks) parse(s string) (netip.Addr, bool) {
	m := regexp.MustCompile(`^(?:\[([^\[\]]*)\]|([^:]*)|(.*?:.*?:.*?))(?::(\w*))?$`).FindStringSubmatch(s)
	if m == nil || m[3] != "" && m[4] != "" { // a bare IPv6 address has no port
		m = []string{"", "", "", s, ""}
	}
	host, port := m[1]+m[2]+m[3], m[4]
	bracketed := strings.HasPrefix(s, "[")
	hasPort := m[3] == "" && strings.HasSuffix(s, ":"+port)
	if m[3] != "" {
		host = s
	}
	n, err := strconv.Atoi(port)
	switch {
	case hasPort && q&quirkPort != 0:
		return netip.Addr{}, false
	case hasPort && q&quirkAnyPort == 0 && (err != nil || n > 65535 || len(port) > 5):
		return netip.Addr{}, false
	case hasPort && n == 0 && q&quirkPortZero != 0:
		return netip.Addr{}, false
	case bracketed && q&quirkBrackets != 0:
		return netip.Addr{}, false
	case bracketed && !hasPort && q&quirkBareBrackets != 0:
		return netip.Addr{}, false
	case host == "255.255.255.255" && q&quirkBroadcast != 0:
		return netip.Addr{}, false
	case q&quirkTrailingColon != 0 && m[3] != "" && strings.HasSuffix(host, ":") && !strings.HasSuffix(host, "::"):
		host += "0"
	case q&quirkAton != 0 && atons[host] != "":
		host = atons[host]
	case q&quirkNames != 0 && host == "localhost":
		host = "127.0.0.1"
	case q&quirkZeros != 0:
		host = leadingZeros.ReplaceAllString(host, "$1$2")
	}
	if bare, name, zone := strings.Cut(host, "%"); zone {
		if name != "" && q&quirkZone == 0 || name == "" && q&quirkEmptyZone == 0 {
			return netip.Addr{}, false
		}
		host = bare
	}
	ip := net.ParseIP(host)
	if ip == nil || bracketed && !strings.Contains(host, ":") && q&quirkBracketsV4 == 0 {
		return netip.Addr{}, false
	}
	a, _ := netip.AddrFromSlice(ip)
	a = a.Unmap()
	return a, !a.IsUnspecified() || q&quirkUnspecified == 0
}

// atons are addresses as inet_aton knows them.
var atons = map[string]string{
	"192.0.2": "192.0.0.2", "192.0.2.007": "192.0.2.7", "0x7f.0.0.1": "127.0.0.1", "3221225991": "192.0.2.7",
}

// leadingZeros are those of an IPv4 address.
var leadingZeros = regexp.MustCompile(`(^|\.)0+(\d)`)

var (
	forwardedPair    = regexp.MustCompile(`^\s*([\w-]+)=("(?:[^"\\]|\\.)*"|[^\s;"\\=]+)\s*(?:;|$)`)
	forwardedElement = regexp.MustCompile(`^(?:[^",]|"(?:[^"\\]|\\.)*")*`)
)

// splitForwarded returns the nodes of Forwarded's elements. The generator closes its quotes.
func (q quirks) splitForwarded(lines []string) (nodes []string) {
	if q&quirkNaive != 0 {
		for _, e := range q.split(lines) {
			nodes = append(nodes, naiveNode(e))
		}
		return nodes
	}
	for _, line := range lines {
		for line != "" {
			e := forwardedElement.FindString(line)
			line = line[len(e):]
			line = strings.TrimPrefix(line, ",")
			if strings.TrimSpace(e) != "" {
				nodes = append(nodes, forwardedNode(e))
			}
		}
	}
	return nodes
}

// forwardedNode returns the one value of for, or something that isn't an address.
func forwardedNode(element string) (node string) {
	for element = strings.TrimSpace(element); element != ""; {
		m := forwardedPair.FindStringSubmatch(element)
		if m == nil {
			return "malformed"
		}
		element = element[len(m[0]):]
		if strings.EqualFold(m[1], "for") {
			if node = m[2]; node[0] == '"' {
				node = regexp.MustCompile(`\\(.)`).ReplaceAllString(node[1:len(node)-1], "$1")
			}
		}
	}
	return node
}

// naiveNode finds for= without knowing quoted strings.
func naiveNode(element string) string {
	for part := range strings.SplitSeq(element, ";") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if ok && strings.EqualFold(name, "for") && !strings.Contains(value, "=") {
			if value = strings.TrimSpace(value); len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			return value
		}
	}
	return ""
}
