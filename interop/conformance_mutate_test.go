package interop

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/wiretest"
)

// specimen is what every receiver gets to see.
type specimen struct {
	name string
	wire []byte
}

// onlyHeader is the wire without the payload after the header of size bytes, if it is one; and
// with the bytes that it takes from the request after it, if they make it one.
func onlyHeader(wire []byte, size int) []byte {
	sent := withRequest(wire)
	if size == 0 {
		_, size, _ = proxyproto.Parse(sent)
	}
	if size == 0 {
		return wire
	}
	return sent[:size]
}

// tableSpecimens are the headers of the table, each once.
func tableSpecimens(t *testing.T) []specimen {
	t.Helper()
	var specimens []specimen
	known := map[string]bool{}
	for _, row := range wiretest.Rows() {
		wire := onlyHeader(row.Wire, row.N)
		if !known[string(wire)] {
			known[string(wire)] = true
			specimens = append(specimens, specimen{row.Section + " " + row.Name, wire})
		}
	}
	return specimens
}

// mutants makes n headers that differ from each other, from valid ones of the table: always the
// same ones.
func mutants(t *testing.T, n int) []specimen {
	t.Helper()
	var parents [2][]specimen // v1 lines and v2 headers: as many mutants of the one as of the other
	known := map[string]bool{}
	for _, s := range tableSpecimens(t) {
		known[string(s.wire)] = true
		if h, size, err := proxyproto.Parse(s.wire); err == nil && size <= 600 {
			parents[h.Version-proxyproto.V1] = append(parents[h.Version-proxyproto.V1], s)
		}
	}
	m := mutator{rand.New(rand.NewPCG(2026, 427))}
	specimens := make([]specimen, 0, n)
	for i := 0; len(specimens) < n; i++ {
		of := parents[i%2]
		parent := of[m.IntN(len(of))]
		wire := bytes.Clone(parent.wire)
		for range 1 + m.IntN(3) {
			wire = m.mutate(wire, of[m.IntN(len(of))].wire)
		}
		_, size, _ := proxyproto.Parse(wire)
		wire = onlyHeader(wire, size)
		if known[string(wire)] || len(wire) == 0 {
			continue
		}
		known[string(wire)] = true
		specimens = append(specimens, specimen{fmt.Sprintf("mutant of %s", parent.name), wire})
	}
	return specimens
}

type mutator struct{ *rand.Rand }

// What an implementation may take for something else.
var (
	v1Tokens = []string{"0", "00", "01", "255", "256", "65535", "65536", "99999999999", "-1", "+1", "0x1", "1e1", ":", "::", ":::", ".", "..",
		"%eth0", " ", "  ", "\t", "\r", "\n", "\r\n", "\x00", "TCP4", "TCP6", "UNKNOWN", "UDP4", "tcp4", "PROXY", "ffff", "::ffff:", "127.0.0.1", "::1", "1.2.3.4", ","}
	v2Bytes = []byte{0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x10, 0x11, 0x12, 0x20, 0x21, 0x22, 0x23, 0x30, 0x31, 0x32, 0x7f, 0x80, 0xe0, 0xff}
)

// mutate makes one change to b, which is the mutator's.
func (m mutator) mutate(b, other []byte) []byte {
	if len(b) == 0 {
		return b
	}
	at := m.IntN(len(b))
	text := b[0] == 'P'
	if !text && m.IntN(2) == 0 {
		at = min(at, 12+m.IntN(24)) // where the structure is
	}
	switch m.IntN(12) {
	case 0: // a bit
		b[at] ^= 1 << m.IntN(8)
	case 1: // a byte
		b[at] = byte(m.IntN(256))
	case 2: // one byte less
		b = slices.Delete(b, at, at+1)
	case 3: // some bytes less
		b = slices.Delete(b, at, min(len(b), at+1+m.IntN(16)))
	case 4: // the end
		b = b[:at]
	case 5: // some bytes twice
		b = slices.Insert(b, at, bytes.Clone(b[at:min(len(b), at+1+m.IntN(16))])...)
	case 6: // another header's end
		b = append(b[:at], other[min(at, len(other)):]...)
	case 7: // two bytes changed for each other
		with := m.IntN(len(b))
		b[at], b[with] = b[with], b[at]
	case 8: // a number one up or down
		b[at] += byte(2*m.IntN(2)) - 1
	case 9, 10:
		if text {
			token := v1Tokens[m.IntN(len(v1Tokens))]
			b = slices.Replace(b, at, min(len(b), at+m.IntN(1+len(token))), []byte(token)...)
			break
		}
		b[at] = v2Bytes[m.IntN(len(v2Bytes))]
	case 11:
		if text || len(b) < 16 { // another case
			b[at] ^= 0x20
			break
		}
		// A length that fits again after other mutations, or nearly.
		size := len(b) - 16 + []int{0, 0, -1, 1, -3, 3}[m.IntN(6)]
		b[14], b[15] = byte(size>>8), byte(size)
	}
	return b
}
