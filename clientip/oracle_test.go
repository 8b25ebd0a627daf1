package clientip

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A second reading of the fields, slow and by other means: regular expressions, package net's
// parser, prefixes one by one, and whole copies where the handler goes step by step.

// oracleClient is what the handler should find.
type oracleClient struct {
	Client  netip.AddrPort
	Found   Found
	Problem Problem
	Proxies []netip.Addr
	HTTPS   bool
}

func (c *oracleClient) equal(o *oracleClient) bool {
	return c.Client == o.Client && c.Found == o.Found && c.Problem == o.Problem &&
		slices.Equal(c.Proxies, o.Proxies) && c.HTTPS == o.HTTPS
}

// oracle reads the fields of a request from a peer with an address, on a connection in the clear
// and without a PROXY header.
func oracle(cfg *Config, peer netip.AddrPort, header map[string][]string) oracleClient {
	c := oracleClient{Client: peer, Found: FoundConnection}
	trusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(cfg.Trust, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	if cfg.Hops == 0 && !trusted(peer.Addr()) {
		return c
	}
	elements, protos := oracleElements(cfg.Field, header[cfg.Field])
	if v := header["X-Forwarded-Proto"]; cfg.Field != "Forwarded" && len(v) == 1 {
		c.HTTPS = isHTTPS(strings.Trim(v[0], " \t"))
	}
	if single := cfg.Field != "Forwarded" && cfg.Field != "X-Forwarded-For"; single {
		switch lines := header[cfg.Field]; {
		case len(lines) > 1:
			c.Problem = ProblemRepeated
			return c
		case len(lines) == 1:
			elements = []string{strings.Trim(lines[0], " \t")}
		}
	}
	c.Problem = ProblemMissing
	chain := []netip.AddrPort{peer}
	for i := len(elements) - 1; i >= 0; i-- {
		if protos != nil && protos[i] != "" {
			c.HTTPS = isHTTPS(protos[i])
		}
		a, ok := oracleNode(elements[i])
		if !ok {
			c.Problem = ProblemNoAddress
			break
		}
		chain, c.Found = append(chain, a), FoundField
		if cfg.Hops == 0 {
			c.Problem = ProblemNone
		}
		if len(chain)-1 == cfg.Hops || cfg.Hops == 0 && !trusted(a.Addr()) ||
			protos == nil && cfg.Field != "X-Forwarded-For" {
			c.Problem = ProblemNone
			break
		}
	}
	for _, a := range chain[:len(chain)-1] {
		c.Proxies = append(c.Proxies, a.Addr())
	}
	c.Client = chain[len(chain)-1]
	return c
}

var (
	https     = regexp.MustCompile(`(?i)^(https|wss)$`)
	protocols = regexp.MustCompile(`(?i)^(https?|wss?)$`)
)

func isHTTPS(proto string) bool { return https.MatchString(proto) }

// oracleElements returns the elements of a list field from the left, without the empty ones. Of
// Forwarded's it returns the addresses and the protocols.
func oracleElements(field string, lines []string) (elements, protos []string) {
	if field != "Forwarded" {
		for s := range strings.SplitSeq(strings.Join(lines, ","), ",") {
			if s = strings.Trim(s, " \t"); s != "" {
				elements = append(elements, s)
			}
		}
		return elements, nil
	}
	protos = []string{}
	for _, line := range lines {
		for _, s := range oracleSplit(line) {
			node, proto := oracleForwarded(s)
			elements, protos = append(elements, node), append(protos, proto)
		}
	}
	return elements, protos
}

// oracleSplit splits a line of Forwarded at its commas, but not inside quotes as they are seen from
// the right: every character is asked anew whether it is.
func oracleSplit(line string) (elements []string) {
	element := ""
	for i := len(line) - 1; i >= -1; i-- {
		if i >= 0 && (line[i] != ',' || quotedFromRight(line, i)) {
			element = line[i:i+1] + element
			continue
		}
		if element = strings.Trim(element, " \t"); element != "" {
			elements = append([]string{element}, elements...)
		}
		element = ""
	}
	return elements
}

func quotedFromRight(line string, at int) bool {
	inside := false
	for i := len(line) - 1; i > at; i-- {
		if line[i] != '"' {
			continue
		}
		escaped := false
		for j := i - 1; j >= 0 && line[j] == '\\'; j-- {
			escaped = !escaped
		}
		inside = !inside || escaped
	}
	return inside
}

const (
	token  = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
	quoted = `"(?:[^"\\]|\\(?s:.))*"`
	bare   = `[!#-:<>-\[\]-~]+`
	pair   = `[ \t]*(` + token + `)=(` + quoted + `|` + bare + `)[ \t]*`
)

var (
	onePair    = regexp.MustCompile(`^` + pair + `(?:;|$)`)
	noPair     = regexp.MustCompile(`^[ \t]*(?:;|$)`)
	quotedPair = regexp.MustCompile(`\\((?s:.))`)
)

// oracleForwarded returns the values of for and proto, "" if there are none.
func oracleForwarded(element string) (node, proto string) {
	values := map[string][]string{}
	for element != "" {
		if skip := noPair.FindString(element); skip != "" {
			element = element[len(skip):]
			continue
		}
		m := onePair.FindStringSubmatch(element)
		if m == nil {
			return "", ""
		}
		name, value := strings.ToLower(m[1]), m[2]
		if value[0] == '"' {
			value = quotedPair.ReplaceAllString(value[1:len(value)-1], "$1")
		}
		values[name] = append(values[name], value)
		element = element[len(m[0]):]
	}
	if len(values["for"]) > 1 || len(values["proto"]) > 1 {
		return "", ""
	}
	if v := values["for"]; len(v) == 1 {
		node = obfuscatedPort.ReplaceAllString(v[0], "$1")
	}
	if v := values["proto"]; len(v) == 1 && protocols.MatchString(v[0]) {
		proto = v[0]
	}
	return node, proto
}

var obfuscatedPort = regexp.MustCompile(`^([^:]*|.*\]):_[\w.-]+$`)

var nodes = regexp.MustCompile(
	`^(?:(\d+\.\d+\.\d+\.\d+)|` +
		`([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)|\[([0-9A-Fa-f:.]+)\])$`)
var nodesWithPort = regexp.MustCompile(
	`^(?:(\d+\.\d+\.\d+\.\d+)|()\[([0-9A-Fa-f:.]+)\]):(\d{1,5})$`)

// oracleNode reads an address with or without a port.
func oracleNode(s string) (netip.AddrPort, bool) {
	port := 0
	m := nodes.FindStringSubmatch(s)
	if m == nil {
		if m = nodesWithPort.FindStringSubmatch(s); m == nil {
			return netip.AddrPort{}, false
		}
		if port, _ = strconv.Atoi(m[4]); port > 65535 {
			return netip.AddrPort{}, false
		}
	}
	if m[3] != "" && !strings.Contains(m[3], ":") {
		return netip.AddrPort{}, false
	}
	ip := net.ParseIP(m[1] + m[2] + m[3])
	if ip == nil {
		return netip.AddrPort{}, false
	}
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), true
}
