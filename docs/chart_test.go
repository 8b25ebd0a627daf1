package docs

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "draw docs/speed.svg anew from performance.md")

// speed.svg shows performance.md's figures.
func TestChartShowsPerformancePage(t *testing.T) {
	svg := chart(t, read(t, "performance.md"))
	if *update {
		require.NoError(t, os.WriteFile("speed.svg", []byte(svg), 0o644))
	}
	assert.Equal(t, svg, read(t, "speed.svg"), "go test ./docs -run Chart -update")
}

// chart draws bars for the first table of the page that has libraries in its columns.
func chart(t *testing.T, page string) string {
	t.Helper()
	libraries := []string{"proxyproto", "pires", "armon", "mastercactapus"}
	nanoseconds := regexp.MustCompile(`^[0-9,.]+`)
	_, table, found := strings.Cut(page, "| work | "+strings.Join(libraries, " | ")+" | C sample |\n")
	require.True(t, found)
	rows := map[string][]string{}
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(line, "|")
		rows[strings.TrimSpace(cells[1])] = cells[2:]
	}
	const (
		rowHeight = 22
		left      = 130
		full      = 480.0 // a bar's greatest width
		most      = 2500.0
	)
	var bars strings.Builder
	y := 40
	for _, work := range []string{"v1 TCP4", "v2 TCP4"} {
		require.Contains(t, rows, work)
		fmt.Fprintf(&bars, "  <text x=\"10\" y=\"%d\" font-weight=\"bold\">%s</text>\n", y+14, work)
		y += rowHeight
		for i, library := range libraries {
			figure := nanoseconds.FindString(strings.TrimSpace(rows[work][i]))
			if figure == "" {
				continue // it doesn't know this version
			}
			ns, err := strconv.ParseFloat(strings.ReplaceAll(figure, ",", ""), 64)
			require.NoError(t, err)
			width := min(max(ns/most, 0.002), 1) * full
			color := "#9aa0a6"
			if i == 0 {
				color = "#1b6e2d"
			}
			fmt.Fprintf(&bars, "  <text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", left-8, y+14, library)
			fmt.Fprintf(&bars, "  <rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"14\" fill=\"%s\"/>\n",
				left, y+3, width, color)
			fmt.Fprintf(&bars, "  <text x=\"%.1f\" y=\"%d\">%s ns</text>\n", left+6+width, y+14, figure)
			y += rowHeight
		}
		y += 8
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 %d"
  font-family="sans-serif" font-size="13" role="img" aria-labelledby="title">
  <title id="title">Nanoseconds to parse one header, by library</title>
  <rect width="720" height="%[1]d" fill="#fff"/>
  <text x="10" y="24">Nanoseconds to parse one header: shorter is better</text>
%s</svg>
`, y, bars.String())
}
