package wiretest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
)

// A Vector is a Row as other languages read it. docs/vectors.md explains its fields.
type Vector struct {
	Section     string  `json:"section"`
	Name        string  `json:"name"`
	Origin      string  `json:"origin,omitempty"`
	Choice      string  `json:"choice,omitempty"`
	Wire        string  `json:"wire"`
	Outcome     string  `json:"outcome"`
	Length      int     `json:"length,omitempty"`
	Version     uint8   `json:"version,omitempty"`
	Command     string  `json:"command,omitempty"`
	Protocol    string  `json:"protocol,omitempty"`
	Source      string  `json:"source,omitempty"`
	Destination string  `json:"destination,omitempty"`
	TLVs        [][]any `json:"tlvs,omitempty"`
	Canonical   bool    `json:"canonical,omitempty"`
	Offset      int     `json:"offset,omitempty"`
}

var protocolNames = map[uint8]string{
	tcp4: "TCP4", udp4: "UDP4", tcp6: "TCP6", udp6: "UDP6",
	unixStream: "UNIX_STREAM", unixDatagram: "UNIX_DGRAM",
}

// Vector is the row in that form.
func (r Row) Vector() Vector {
	v := Vector{
		Section: r.Section, Name: r.Name, Origin: r.Origin, Choice: r.choice(),
		Wire: compress(r.Wire), Outcome: "accept", Length: r.N, Canonical: r.Canonical,
		Offset: r.Offset,
	}
	if r.Err != nil {
		v.Outcome = r.Err.Error()
		return v
	}
	h := r.Want
	v.Version, v.Command, v.Protocol = h.Version, "PROXY", protocolNames[h.Protocol]
	if v.Protocol == "" {
		v.Protocol = "UNSPEC"
	}
	if h.Command == Local {
		v.Command = "LOCAL"
	}
	switch {
	case h.Unix != nil:
		v.Source, v.Destination = compress(h.Unix[:108]), compress(h.Unix[108:])
	case h.Source != netip.AddrPort{}:
		v.Source, v.Destination = h.Source.String(), h.Destination.String()
	}
	for t := h.TLVs; len(t) > 0; {
		end := 3 + int(t[1])<<8 + int(t[2])
		tlv, times := t[:end], 0
		for bytes.HasPrefix(t, tlv) {
			t = t[end:]
			times++
		}
		entry := []any{fmt.Sprintf("0x%02x", tlv[0]), compress(tlv[3:])}
		if times > 1 {
			entry = append(entry, times)
		}
		v.TLVs = append(v.TLVs, entry)
	}
	return v
}

// choice says why a receiver that follows the specification may treat the row in another way.
func (r Row) choice() string {
	fields := strings.Fields(string(r.Wire[:r.N]))
	h := r.Want
	switch {
	case r.Err == ErrMalformed && strings.HasPrefix(string(r.Wire), Signature) &&
		r.Offset >= TLVs4 && len(r.Wire) > TLVs4:
		return "TLVs may be skipped"
	case r.Err != nil || h.Command == Local:
		return ""
	case h.Version == 1 && h.Protocol == 0:
		return "UNKNOWN may be refused"
	case h.Protocol>>4 == 0 || h.Protocol&0x0f == 0:
		return "UNSPEC may be refused"
	case h.Protocol != tcp4 && h.Protocol != tcp6:
		return "may be treated as UNSPEC"
	case h.Version == 2:
		return ""
	}
	six := func(s string) bool { return strings.Contains(s, ":") }
	switch v6 := fields[1] == "TCP6"; {
	case six(fields[2]) != v6 || six(fields[3]) != v6:
		return "not in the grammar: the addresses aren't the keyword's"
	case v6 && strings.Contains(fields[2]+fields[3], "."):
		return "not in the grammar: dotted IPv6"
	}
	return ""
}

// Vectors is the file that other languages read: a JSON array with a row in each line.
func Vectors() []byte {
	var b bytes.Buffer
	for i, r := range Rows() {
		b.WriteString(map[bool]string{true: "[\n", false: ",\n"}[i == 0])
		line, err := json.Marshal(r.Vector())
		must(err)
		b.Write(line)
	}
	b.WriteString("\n]\n")
	return b.Bytes()
}

// compress is b in hexadecimal, with runs of the same one or three bytes as in "00*64".
func compress(b []byte) string {
	const worth = 48
	var parts []string
	plain := 0 // where what isn't written begins
	for i := 0; i < len(b); {
		unit, times := run(b[i:])
		if unit*times < worth {
			i++
			continue
		}
		if plain < i {
			parts = append(parts, hex.EncodeToString(b[plain:i]))
		}
		parts = append(parts, fmt.Sprintf("%x*%d", b[i:i+unit], times))
		i += unit * times
		plain = i
	}
	if plain < len(b) {
		parts = append(parts, hex.EncodeToString(b[plain:]))
	}
	return strings.Join(parts, " ")
}

// run finds how often b begins with the same one byte, or three.
func run(b []byte) (unit, times int) {
	for _, unit := range []int{1, 3} {
		times := 0
		for rest := b; len(rest) >= unit && bytes.Equal(rest[:unit], b[:unit]); rest = rest[unit:] {
			times++
		}
		if times > 15 {
			return unit, times
		}
	}
	return 1, 1
}
