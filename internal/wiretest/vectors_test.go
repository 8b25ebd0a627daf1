package wiretest

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const vectorsFile = "../../testdata/wire.json"

var write = flag.Bool("write", false, "write "+vectorsFile+" from the table of wire bytes")

func TestVectorsAreUpToDate(t *testing.T) {
	if *write {
		require.NoError(t, os.WriteFile(vectorsFile, Vectors(), 0o644))
	}
	file, err := os.ReadFile(vectorsFile)
	require.NoError(t, err)
	require.True(t, string(Vectors()) == string(file),
		"write them anew: go test -run TestVectors ./internal/wiretest -write")

	var vectors []Vector
	require.NoError(t, json.Unmarshal(file, &vectors))
	rows := Rows()
	require.Len(t, vectors, len(rows))
	for i, v := range vectors {
		assert.Equal(t, string(rows[i].Wire), decompress(t, v.Wire), v.Name)
	}
}

func decompress(t *testing.T, s string) string {
	t.Helper()
	var b strings.Builder
	for _, part := range strings.Fields(s) {
		digits, times, repeated := strings.Cut(part, "*")
		n := 1
		if repeated {
			var err error
			n, err = strconv.Atoi(times)
			require.NoError(t, err)
		}
		unit, err := hex.DecodeString(digits)
		require.NoError(t, err)
		b.WriteString(strings.Repeat(string(unit), n))
	}
	return b.String()
}

// A receiver in another language, written from the specification and docs/vectors.md, says the same
// of every row, whole and cut off at every byte.
func TestPythonReceiver(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	require.NoError(t, err)
	out, err := exec.Command(python, "testdata/receiver.py", vectorsFile).CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("%s", out)
	assert.Contains(t, string(out), strconv.Itoa(len(Rows()))+" vectors")
}
