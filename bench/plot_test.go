package bench

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
)

// series is a line of a plot.
type series struct {
	name string
	y    []float64
}

// plot is one picture: lines over marks on a logarithmic axis, one mark a value of x.
type plot struct {
	title, unit string
	// x are the names of the marks, which stand at equal distances.
	axis   string
	x      []string
	series []series
	// target is a dashed line, unless 0.
	target float64
}

const (
	plotWidth, plotHeight = 560, 300
	plotLeft, plotRight   = 56, 130
	plotTop, plotBottom   = 40, 48
)

// svg draws the plot. Its colours are readable on white and on black, so that it can be
// shown on either.
func (p plot) svg() string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#888">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<title>%s</title>`+"\n", escape(p.title))
	fmt.Fprintf(&b, `<text x="8" y="20" font-size="14">%s</text>`+"\n", escape(p.title))
	step, top := p.scale()
	y := func(v float64) float64 {
		return plotHeight - plotBottom - v/top*(plotHeight-plotTop-plotBottom)
	}
	x := func(i int) float64 {
		return plotLeft + float64(i)*(plotWidth-plotLeft-plotRight)/math.Max(1, float64(len(p.x)-1))
	}
	for v := 0.0; v <= top*1.001; v += step {
		fmt.Fprintf(&b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#888" stroke-opacity="0.3"/>`, plotLeft, y(v), plotWidth-plotRight, y(v))
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", plotLeft-6, y(v)+4, trim(v))
	}
	for i, name := range p.x {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(i), plotHeight-plotBottom+18, escape(name))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (plotLeft+plotWidth-plotRight)/2, plotHeight-8, escape(p.axis))
	if p.target != 0 {
		fmt.Fprintf(&b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#888" stroke-width="1.5" stroke-dasharray="6 4"/>`, plotLeft, y(p.target), plotWidth-plotRight, y(p.target))
		fmt.Fprintf(&b, `<text x="%d" y="%.1f">target</text>`+"\n", plotLeft+4, y(p.target)-4)
	}
	colours := []string{"#3b82f6", "#e8590c", "#2f9e44", "#ae3ec9"}
	for n, s := range p.series {
		colour := colours[n%len(colours)]
		var points []string
		for i, v := range s.y {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(i), y(v)))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, x(i), y(v), colour)
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`, strings.Join(points, " "), colour)
		at := plotTop + 12 + 18*n
		fmt.Fprintf(&b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-width="3"/>`, plotWidth-plotRight+14, at, plotWidth-plotRight+30, at, colour)
		fmt.Fprintf(&b, `<text x="%d" y="%d">%s</text>`+"\n", plotWidth-plotRight+36, at+4, escape(s.name))
	}
	if p.unit != "" {
		fmt.Fprintf(&b, `<text x="%d" y="%d" font-size="11">%s</text>`+"\n", plotLeft, plotTop-6, escape(p.unit))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// scale returns the distance of the grid's lines and the top one.
func (p plot) scale() (step, top float64) {
	most := p.target
	for _, s := range p.series {
		for _, v := range s.y {
			most = math.Max(most, v)
		}
	}
	most = math.Max(most, 1e-9)
	step = math.Pow(10, math.Floor(math.Log10(most)))
	for _, f := range []float64{0.2, 0.5, 1, 2} {
		if most/(step*f) <= 6 {
			step *= f
			break
		}
	}
	return step, math.Ceil(most/step*1.02) * step
}

func trim(v float64) string { return fmt.Sprintf("%.4g", math.Round(v*1e6)/1e6) }

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// TestPlot: what is drawn is XML, and all of it lies within the picture.
func TestPlot(t *testing.T) {
	p := plot{
		title: "a <title> & more", unit: "ms", axis: "domains", x: []string{"1", "10", "100"}, target: 0.9,
		series: []series{{"one", []float64{0.5, 1, 1.3}}, {"two", []float64{0, 0.1, 0.2}}},
	}
	text := p.svg()
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if step, top := p.scale(); top < 1.3 || top > 2 || step <= 0 {
		t.Errorf("scale to %v by %v", top, step)
	}
	if strings.Contains(text, "NaN") || len(text) > 8<<10 {
		t.Errorf("%d octets:\n%s", len(text), text)
	}
}
