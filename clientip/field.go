package clientip

import (
	"net/netip"
	"strconv"
	"strings"
)

// A format is how a field names addresses.
type format uint8

const (
	formatSingle    format = iota // one address: X-Real-IP and the like
	formatList                    // X-Forwarded-For: addresses with commas between them
	formatForwarded               // RFC 7239
)

// formatOf returns the format of the field with this canonical name.
func formatOf(name string) format {
	switch name {
	case fieldXForwardedFor:
		return formatList
	case fieldForwarded:
		return formatForwarded
	}
	return formatSingle
}

// A hop is what one element of a field says: who sent the request to the proxy that wrote it.
type hop struct {
	client netip.AddrPort // plain; port 0 if the element has none; invalid if it has no address
	proto  proto
}

// A proto is what a field says of how a client came.
type proto uint8

const (
	protoUnsaid proto = iota
	protoHTTP
	protoHTTPS
)

// hops reads a list field from its right end, which the nearest proxy has written, to its left.
//
// What a client has put to the left can't change how the elements to its right are read: not by a
// quote that it leaves open, for one. That is why nothing here reads from the left but inside an
// element. Reading all of it takes time linear in its length.
type hops struct {
	format format
	lines  []string // those to the left of rest; the last is the nearest
	rest   string   // of the line that is being read
}

// next returns the next element, and whether there is one. Empty ones are left out (RFC 9110,
// section 5.6.1.2).
func (f *hops) next() (hop, bool) {
	for {
		for f.rest == "" {
			if len(f.lines) == 0 {
				return hop{}, false
			}
			f.rest = f.lines[len(f.lines)-1]
			f.lines = f.lines[:len(f.lines)-1]
		}
		var element string
		if f.format == formatForwarded {
			f.rest, element = cutQuoted(f.rest)
		} else {
			f.rest, element = cutList(f.rest)
		}
		if element = trim(element); element == "" {
			continue
		}
		if f.format == formatForwarded {
			return parseForwarded(element), true
		}
		client, _ := parseNode(element)
		return hop{client: client}, true
	}
}

// cutList cuts s at its last comma.
func cutList(s string) (before, element string) {
	i := strings.LastIndexByte(s, ',')
	return s[:max(i, 0)], s[i+1:]
}

// cutQuoted cuts s at its last comma that isn't inside a quoted string, as seen from the right.
func cutQuoted(s string) (before, element string) {
	for i := len(s) - 1; i >= 0; i-- {
		switch s[i] {
		case ',':
			return s[:i], s[i+1:]
		case '"':
			i = openingQuote(s[:i])
		}
	}
	return "", s
}

// openingQuote returns where the quoted string whose inside s ends with begins: at the last quote
// that isn't escaped by a backslash; -1 if there is none.
func openingQuote(s string) int {
	for {
		i := strings.LastIndexByte(s, '"')
		if i < 0 {
			return -1
		}
		s = s[:i]
		if backslashes := i - len(strings.TrimRight(s, `\`)); backslashes%2 == 0 {
			return i
		}
	}
}

// parseForwarded reads an element of Forwarded (RFC 7239, section 4). One that isn't well-formed
// says nothing.
func parseForwarded(element string) (h hop) {
	var haveFor, haveProto bool
	for rest := element; rest != ""; {
		name, value, after, ok := cutPair(rest)
		if !ok {
			return hop{}
		}
		rest = after
		switch {
		case strings.EqualFold(name, "for"):
			if haveFor {
				return hop{} // "MUST NOT occur more than once" (section 4)
			}
			haveFor = true
			h.client, _ = parseNode(withoutObfuscatedPort(value))
		case strings.EqualFold(name, "proto"):
			if haveProto {
				return hop{}
			}
			haveProto = true
			h.proto = parseProto(value)
		}
	}
	return h
}

// cutPair cuts the first name=value off the pairs of an element, and returns what follows the
// semicolon after it. A name of "" is an empty pair, which the grammar allows.
//
// A value without quotes may have what is in an address and not in a token, colons and brackets:
// many a proxy's configuration writes for=$remote_addr.
func cutPair(s string) (name, value, after string, ok bool) {
	end := strings.IndexAny(s, "=;")
	switch {
	case end < 0:
		return "", "", "", trim(s) == ""
	case s[end] == ';':
		return "", "", s[end+1:], trim(s[:end]) == ""
	}
	name, s = strings.TrimLeft(s[:end], " \t"), s[end+1:]
	if !isToken(name) {
		return "", "", "", false
	}
	if strings.HasPrefix(s, `"`) {
		if value, s, ok = cutQuotedString(s[1:]); !ok {
			return "", "", "", false
		}
		s = strings.TrimLeft(s, " \t")
		if s != "" && s[0] != ';' {
			return "", "", "", false
		}
		return name, value, strings.TrimPrefix(s, ";"), true
	}
	value, after, _ = strings.Cut(s, ";")
	value = strings.TrimRight(value, " \t")
	return name, value, after, value != "" && isBare(value)
}

// isBare reports whether a value without quotes has no byte that needs them.
func isBare(value string) bool {
	for i := range len(value) {
		if c := value[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' || c == '=' {
			return false
		}
	}
	return true
}

// cutQuotedString cuts s after the quoted string that it is inside of, and undoes its escapes
// (RFC 9110, section 5.6.4).
func cutQuotedString(s string) (value, after string, ok bool) {
	end := strings.IndexAny(s, `"\`)
	if end >= 0 && s[end] == '"' {
		return s[:end], s[end+1:], true
	}
	var b strings.Builder
	for end >= 0 && s[end] == '\\' && end+1 < len(s) {
		b.WriteString(s[:end])
		b.WriteByte(s[end+1])
		s = s[end+2:]
		end = strings.IndexAny(s, `"\`)
	}
	if end < 0 || s[end] != '"' {
		return "", "", false
	}
	b.WriteString(s[:end])
	return b.String(), s[end+1:], true
}

// withoutObfuscatedPort takes off a port that is no number, "_" and a name (RFC 7239, section 6):
// the address counts.
func withoutObfuscatedPort(node string) string {
	i := strings.LastIndex(node, ":_")
	if i < 0 || i+2 == len(node) || strings.Trim(node[i+2:], obfuscated) != "" {
		return node
	}
	if host := node[:i]; strings.HasSuffix(host, "]") || !strings.Contains(host, ":") {
		return host
	}
	return node
}

const obfuscated = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// lenNode is more than the longest address in brackets with a port has.
const lenNode = 64

// parseNode reads an address with or without a port: 192.0.2.7, 192.0.2.7:443, 2001:db8::7,
// [2001:db8::7], [2001:db8::7]:443. The result is plain: IPv4-mapped IPv6 is IPv4. An address with
// a zone is none, since it says nothing to another machine.
func parseNode(s string) (netip.AddrPort, bool) {
	if len(s) > lenNode || s == "" || strings.IndexByte(s, '%') >= 0 {
		return netip.AddrPort{}, false
	}
	host, port := s, ""
	havePort, bracketed := false, s[0] == '['
	switch i := strings.LastIndexByte(s, ':'); {
	case bracketed:
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return netip.AddrPort{}, false
		}
		host = s[1:end]
		if rest := s[end+1:]; rest != "" {
			if rest[0] != ':' {
				return netip.AddrPort{}, false
			}
			port, havePort = rest[1:], true
		}
	case i >= 0 && strings.IndexByte(s, ':') == i:
		host, port, havePort = s[:i], s[i+1:], true
	}
	number, ok := uint16(0), true
	if havePort {
		number, ok = parsePort(port)
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || !ok || bracketed && addr.Is4() {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(addr.Unmap(), number), true
}

// parsePort reads a port of one to five digits.
func parsePort(s string) (uint16, bool) {
	if s == "" || len(s) > 5 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil
}

// parseProto reads what X-Forwarded-Proto and Forwarded's proto say; Traefik says ws and wss for
// WebSockets. Anything else says nothing.
func parseProto(s string) proto {
	switch {
	case strings.EqualFold(s, "https"), strings.EqualFold(s, "wss"):
		return protoHTTPS
	case strings.EqualFold(s, "http"), strings.EqualFold(s, "ws"):
		return protoHTTP
	}
	return protoUnsaid
}

// trim takes the white space off both ends that may stand there (RFC 9110, section 5.6.3).
func trim(s string) string { return strings.Trim(s, " \t") }

// isToken reports whether s is a token (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if ('a' > c || c > 'z') && ('0' > s[i] || s[i] > '9') &&
			strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}
