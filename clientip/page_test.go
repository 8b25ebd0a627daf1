package clientip

import (
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const page = "../docs/clientip.md"

// Each row of the page's recipes is a request, and finds the client that stands there.
func TestPageRecipes(t *testing.T) {
	b, err := os.ReadFile(page)
	require.NoError(t, err)
	_, table, found := strings.Cut(string(b), "\n| product |")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n\n")
	rows := strings.Split(table, "\n")[2:]
	require.Greater(t, len(rows), 15)
	for _, row := range rows {
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(row, "| "), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		require.Len(t, cells, 6, row)
		product, field, peer, client := cells[0], cells[2], cells[3], cells[5]
		cfg := &Config{Trust: prefixes(t, strings.Fields(cells[1])...), Field: field}
		header := http.Header{}
		for line := range strings.SplitSeq(cells[4], "⏎") {
			header.Add(field, strings.TrimSpace(line))
		}
		r := &http.Request{RemoteAddr: peer, Header: header}
		if peer == "@" {
			cfg.Unix = true
			r = r.WithContext(unixContext(t))
		} else {
			r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(peer), 40000).String()
		}
		var got netip.Addr
		newHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got, _ = FromContext(r.Context())
		}), cfg).ServeHTTP(nil, r)
		assert.Equal(t, client, got.String(), product)

		// Without trust in the last hop it isn't found.
		cfg.Trust, cfg.Unix = []netip.Prefix{}, false
		newHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got, _ = FromContext(r.Context())
		}), cfg).ServeHTTP(nil, r)
		assert.NotEqual(t, client, got.String(), product)
	}
}

// The page's Go is that of an example, which is run.
func TestPageGo(t *testing.T) {
	b, err := os.ReadFile(page)
	require.NoError(t, err)
	example, err := os.ReadFile("../examples/frameworks/clientip/main.go")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(b, -1)
	require.Len(t, blocks, 1)
	assert.Contains(t, string(example), string(blocks[0][1]))
}
