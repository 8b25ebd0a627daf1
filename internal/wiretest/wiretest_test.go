package wiretest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRows(t *testing.T) {
	rows := Rows()
	assert.GreaterOrEqual(t, len(rows), 650, "rows")

	kinds := make(map[error]int)
	names := make(map[string]bool)
	wires := make(map[string]string)
	for _, r := range rows {
		name := r.Section + "/" + r.Origin + "/" + r.Name
		require.False(t, names[name], "two rows are called %s", name)
		if first, repeated := wires[string(r.Wire)]; repeated && r.Origin == "" {
			assert.Fail(t, "a row is there twice", "%s repeats %s", name, first)
		}
		names[name], wires[string(r.Wire)] = true, name
		kinds[r.Err]++

		require.LessOrEqual(t, r.N, len(r.Wire), name)
		if r.Err != nil {
			require.True(t, r.Want.Equal(Header{}) && r.N == 0 && !r.Canonical, name)
		}
		if r.Err != ErrMalformed {
			require.True(t, r.Offset == 0 && r.Rule == "", name)
		}
	}
	for _, kind := range []error{nil, ErrNoHeader, ErrIncomplete, ErrMalformed} {
		assert.Greater(t, kinds[kind], 20, "rows of %v", kind)
	}
}

// The table and the oracle were written apart from each other.
func TestOracle(t *testing.T) {
	for _, r := range Rows() {
		h, n, err := Parse(r.Wire)
		assert.Equal(t, r.Err, err, "%s: %q", r.Name, r.Wire[:min(len(r.Wire), 120)])
		assert.Equal(t, r.N, n, r.Name)
		assert.True(t, r.Want.Equal(h), "%s: got %v, want %v", r.Name, h, r.Want)
		assert.True(t, r.Err != nil || Appendable(h), r.Name)
	}
}
