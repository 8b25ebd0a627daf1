package main

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// parseHex reads hexadecimal as people paste it: digits with the usual things between them, or a
// dump with offsets and perhaps text.
func parseHex(s string) ([]byte, error) {
	if b, ok := parseDump(s); ok {
		return b, nil
	}
	s = comments.ReplaceAllString(s, " ")
	if array := braces.FindStringSubmatch(s); array != nil { // in C, with a name in front
		s = array[1]
	}
	var digits strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case strings.IndexByte(" \t\r\n,:;\"'{}", c) >= 0:
		case digits.Len()%2 == 0 && i+1 < len(s) && (c == '0' || c == '\\') && (s[i+1] == 'x' ||
			s[i+1] == 'X'):
			i++
		case strings.IndexByte("0123456789abcdefABCDEF", c) >= 0:
			digits.WriteByte(c)
		default:
			return nil, fmt.Errorf("%q at byte %d of the input isn't hexadecimal", s[i:i+1], i)
		}
	}
	if digits.Len()%2 != 0 {
		return nil, fmt.Errorf("%d hexadecimal digits: one is missing or too many", digits.Len())
	}
	return hex.DecodeString(digits.String())
}

var (
	comments = regexp.MustCompile(`/\*.*?\*/`)
	braces   = regexp.MustCompile(`\{([^{}]*)\}`)
)

// dumpLine is a line of a dump: an offset, a colon (xxd) or none, and the rest.
var dumpLine = regexp.MustCompile(`^\s*(?:0x)?([0-9a-fA-F]{4,16})(:?)(?:\s+(.*))?$`)

// parseDump reads the dumps of xxd, hexdump -C and Wireshark: each line has the offset of its first
// byte, the bytes, and perhaps the same as text; a star stands for lines like the one before. It
// reports whether s is one, which the offsets have to prove.
func parseDump(s string) ([]byte, bool) {
	lines := strings.Split(strings.TrimRight(s, " \t\r\n"), "\n")
	type row struct {
		start    int
		xxd      bool
		text     string
		repeated bool // after a star
	}
	var rows []row
	repeated := false
	for _, line := range lines {
		line = strings.TrimRight(line, "\r")
		if line == "*" && len(rows) > 0 {
			repeated = true
			continue
		}
		m := dumpLine.FindStringSubmatch(line)
		if m == nil {
			return nil, false
		}
		at, err := strconv.ParseUint(m[1], 16, 32)
		if err != nil || at > maxInput {
			return nil, false
		}
		rows = append(rows, row{int(at), m[2] == ":", m[3], repeated})
		repeated = false
	}
	var b, line []byte
	for i, r := range rows {
		for r.repeated && len(line) > 0 && len(b)+len(line) <= r.start {
			b = append(b, line...)
		}
		last := i == len(rows)-1
		if r.start != len(b) || r.text == "" && (!last || i == 0) {
			return nil, false
		}
		most := longestLine
		if !last {
			most = min(most, rows[i+1].start-r.start)
		}
		line = dumpBytes(r.text, r.xxd, most)
		b = append(b, line...)
	}
	return b, true
}

// longestLine is how many bytes are in a line at most.
const longestLine = 32

// dumpBytes returns up to most bytes of a dump's line. The text after them begins at a bar
// (hexdump), after two spaces (xxd, which has no wider gap), or after three (Wireshark).
func dumpBytes(s string, xxd bool, most int) []byte {
	s, _, _ = strings.Cut(s, "|")
	gap := "   "
	if xxd {
		gap = "  "
	}
	s, _, _ = strings.Cut(s, gap)
	var b []byte
	for _, group := range strings.Fields(s) {
		part, err := hex.DecodeString(group)
		if err != nil || len(b)+len(part) > most {
			break
		}
		b = append(b, part...)
	}
	return b
}
