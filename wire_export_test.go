package proxyproto

import (
	"bytes"
	"compress/flate"
	"encoding/hex"
	"encoding/json"
	"flag"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var writeWire = flag.Bool("write-wire", false, "write "+wireFile+" from the table of wire bytes")

// wireFile has the table for the tests of nested modules, which can't import this package's.
const wireFile = "testdata/wire.json"

// wireRow is a row of wireFile: a line of its own, so that a change of the table is one there too.
type wireRow struct {
	Section, Name string
	Hex           string `json:",omitempty"`
	Deflated      []byte `json:",omitempty"` // instead of Hex, when that would be long
	N             int    // bytes of header; 0 if it is refused
	Error         string `json:",omitempty"`
}

const longWire = 4096

func exportWire(c wireCase) wireRow {
	row := wireRow{Section: c.section, Name: c.name, N: c.n}
	if c.err != nil {
		row.Error = c.err.Error()
	}
	if len(c.wire) <= longWire {
		row.Hex = hex.EncodeToString(c.wire)
		return row
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	oracleMust(err)
	_, err = w.Write(c.wire)
	oracleMust(err)
	oracleMust(w.Close())
	row.Deflated = b.Bytes()
	return row
}

// wire is what the row stands for: two compressors may write the same bytes differently.
func (row wireRow) wire(t *testing.T) []byte {
	wire, err := hex.DecodeString(row.Hex)
	require.NoError(t, err)
	if len(row.Deflated) > 0 {
		wire, err = io.ReadAll(flate.NewReader(bytes.NewReader(row.Deflated)))
		require.NoError(t, err)
	}
	return wire
}

func TestExportedWireIsUpToDate(t *testing.T) {
	var file bytes.Buffer
	for i, c := range wireCases() {
		line, err := json.Marshal(exportWire(c))
		require.NoError(t, err)
		file.WriteString(map[bool]string{true: "[\n", false: ",\n"}[i == 0])
		file.Write(line)
	}
	file.WriteString("\n]\n")
	if *writeWire {
		require.NoError(t, os.WriteFile(wireFile, file.Bytes(), 0o644))
	}
	const mend = "go test -run TestExportedWireIsUpToDate -write-wire . mends it"
	written, err := os.ReadFile(wireFile)
	require.NoError(t, err)
	var rows []wireRow
	require.NoError(t, json.Unmarshal(written, &rows))
	cases := wireCases()
	require.Len(t, rows, len(cases), mend)
	for i, c := range cases {
		got, want := rows[i], exportWire(c)
		assert.True(t, bytes.Equal(got.wire(t), c.wire), "%s: %s", c.name, mend)
		got.Deflated, want.Deflated = nil, nil
		require.Equal(t, want, got, mend)
	}
}
