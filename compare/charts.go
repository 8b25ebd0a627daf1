package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strings"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Colours that can be read on white and on black: the charts have no background.
var (
	ink        = color.RGBA{0x76, 0x7e, 0x88, 0xff}
	colourOurs = color.RGBA{0x2d, 0x9a, 0x46, 0xff}
	colours    = map[string]color.RGBA{
		nameBare:           {0x8c, 0x95, 0x9f, 0xff},
		nameOurs:           colourOurs,
		nameLazy:           {0x7c, 0xb9, 0x5b, 0xff},
		namePires:          {0x3a, 0x82, 0xd6, 0xff},
		nameArmon:          {0xc9, 0x7b, 0x2c, 0xff},
		nameMastercactapus: {0xa3, 0x6a, 0xc7, 0xff},
		nameC:              {0x8c, 0x95, 0x9f, 0xff},
	}
)

// A chart answers a question in one picture.
type chart struct {
	file, title, unit string
	bars              func(all map[string]*record) []bar
	log               bool
}

// A bar is one figure, with what it is called and how it is written.
type bar struct {
	group, name string
	x           float64
	label       string
}

var charts = []chart{
	{file: "backlog", title: "CPU time of a connection over that of a bare listener",
		unit: "version 2", bars: backlogBars},
	{file: "attack", title: "A good client's connection while 5,000 peers send half a header",
		unit: "µs", bars: attackBars},
	{file: "parse", title: "To parse a header and keep it", unit: "ns, logarithmic",
		bars: parseBars, log: true},
	{file: "late", title: "Memory of a connection whose header hasn't come, 10,000 of them",
		unit: "KB", bars: lateBars},
	{file: "scale", title: "CPU time of a new connection, by how many are there",
		unit: "µs", bars: scaleBars},
}

func backlogBars(all map[string]*record) (bars []bar) {
	f := figuresOf(all, partBacklog)
	for _, kind := range []string{nameOurs, namePires, nameMastercactapus} {
		more := 100 * (f.ratio(backlogV2, kind, nameBare, unitCPU).median() - 1)
		bars = append(bars, bar{"", kind, more, fmt.Sprintf("%+.0f %%", more)})
	}
	return bars
}

func attackBars(all map[string]*record) (bars []bar) {
	f := figuresOf(all, partAttack)
	for _, unit := range []string{unitMedian, unitP99} {
		for _, kind := range attackContenders {
			x := f.of(attackHalf, kind, unit).median() / 1e3
			group := map[string]string{unitMedian: "median", unitP99: "99th percentile"}[unit]
			bars = append(bars, bar{group, kind, x, fmt.Sprintf("%.0f", x)})
		}
	}
	return bars
}

func parseBars(all map[string]*record) (bars []bar) {
	f := figuresOf(all, partParse)
	for _, work := range []string{"v1 TCP4", "v2 TCP4"} {
		for _, c := range parsers {
			if s := f.of(work, c.name, unitNs); len(s) > 0 {
				bars = append(bars, bar{work, c.name, s.median(), number(s.median())})
			}
		}
	}
	return bars
}

func lateBars(all map[string]*record) (bars []bar) {
	f := figuresOf(all, partLate)
	for _, kind := range lateContenders {
		x := f.of(lateWork, kind, unitConnBytes).median() / 1e3
		bars = append(bars, bar{"", kind, x, fmt.Sprintf("%.1f", x)})
	}
	return bars
}

func scaleBars(all map[string]*record) (bars []bar) {
	f := figuresOf(all, partScale)
	for _, state := range []string{scaleIdle, scalePending} {
		for _, work := range scaleWorks(f, state) {
			for _, kind := range scaleContenders {
				x := f.of(work, kind, unitCPU).median() / 1e3
				bars = append(bars, bar{work, kind, x, fmt.Sprintf("%.0f", x)})
			}
		}
	}
	return bars
}

// drawCharts writes the charts for which there are figures.
func drawCharts(all map[string]*record, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, c := range charts {
		if all[c.file] == nil {
			continue
		}
		if err := c.draw(c.bars(all), filepath.Join(dir, c.file+".svg")); err != nil {
			return fmt.Errorf("%s: %w", c.file, err)
		}
	}
	return nil
}

// The measures of a chart.
const (
	chartWidth = 7.2 * vg.Inch
	barHeight  = 13
	rowHeight  = 19
)

// draw draws horizontal bars, the first at the top, each group under its name.
func (c chart) draw(bars []bar, file string) error {
	p := plot.New()
	p.BackgroundColor = nil
	p.HideAxes() // each bar says its figure
	style := &p.X.Tick.Label
	style.Color, style.Font = ink, font.Font{Typeface: "Liberation", Variant: "Sans", Size: 11}
	p.Add(&rows{chart: c, bars: bars})
	most, least := 0.0, math.Inf(1)
	for _, b := range bars {
		most, least = max(most, b.x), min(least, b.x)
	}
	p.X.Min, p.X.Max = min(0, least), most*1.15
	if c.log {
		p.X.Min, p.X.Max, p.X.Scale = 1, most*3, plot.LogScale{}
	}
	p.Y.Min, p.Y.Max = 0, 1
	height := vg.Length(rowHeight * (1 + countRows(bars)))
	canvas := vgsvg.NewWith(vgsvg.UseWH(chartWidth, height))
	p.Draw(draw.New(canvas))
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	// Not everybody has the font by which the text was measured.
	text := strings.ReplaceAll(svg.String(), "font-family:Liberation Sans;",
		"font-family:Liberation Sans,Arial,Helvetica,sans-serif;")
	return os.WriteFile(file, []byte(text), 0o644)
}

// countRows counts the bars, and the names of groups.
func countRows(bars []bar) int {
	n, group := len(bars), ""
	for _, b := range bars {
		if b.group != group {
			n, group = n+1, b.group
		}
	}
	return n
}

// rows is the plotter of a chart's bars.
type rows struct {
	chart chart
	bars  []bar
}

// nameWidth is the room for the names at the left.
const nameWidth = 1.6 * vg.Inch

func (r *rows) Plot(c draw.Canvas, p *plot.Plot) {
	toX, _ := p.Transforms(&c)
	style := p.X.Tick.Label
	style.YAlign, style.Rotation = text.YCenter, 0
	write := func(s string, x, y vg.Length, align text.XAlignment, bold bool) {
		style := style
		style.XAlign = align
		if bold {
			style.Font.Weight = xfont.WeightBold
		}
		c.FillText(style, vg.Point{X: x, Y: y}, s)
	}
	zero := toX(max(p.X.Min, 0))
	y, group := c.Max.Y-rowHeight/2, ""
	write(r.chart.title+" ("+r.chart.unit+")", c.Min.X-nameWidth, y, text.XLeft, true)
	y -= rowHeight
	for _, b := range r.bars {
		if b.group != group {
			group = b.group
			write(group, c.Min.X-nameWidth, y, text.XLeft, false)
			y -= rowHeight
		}
		write(b.name, c.Min.X-12, y, text.XRight, false)
		end := toX(b.x)
		c.FillPolygon(colours[b.name], []vg.Point{
			{X: zero, Y: y - barHeight/2}, {X: end, Y: y - barHeight/2},
			{X: end, Y: y + barHeight/2}, {X: zero, Y: y + barHeight/2},
		})
		write(b.label, max(end, zero)+5, y, text.XLeft, false)
		y -= rowHeight
	}
}

// GlyphBoxes leaves room for the names.
func (r *rows) GlyphBoxes(*plot.Plot) []plot.GlyphBox {
	return []plot.GlyphBox{{X: 0, Y: 0.5, Rectangle: vg.Rectangle{Min: vg.Point{X: -nameWidth}}}}
}

var _ plot.Plotter = (*rows)(nil)
