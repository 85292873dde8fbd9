package status

import (
	"fmt"
	"strings"
	"time"
)

// The plots are drawn in a box of chartWidth by chartHeight units, which the page
// stretches; their labels stand outside, so that they stay legible.
const (
	chartWidth  = 960
	chartHeight = 200
	// gap is the part of a step's width that is left free, in percent.
	gap = 14
)

// chart is a window as stacked bars.
type chart struct {
	ID, Title string
	Bars      []bar
	// Most is the number at the top of the plot.
	Most uint64
	// Marks are the times below it: begin, middle, end.
	Marks []string
	// Unknown is how wide the time is in which policyd did not run, from the left.
	Unknown float64
	// Text says in words what there is to see.
	Text string
	// Empty: there is nothing to see.
	Empty bool
}

// bar is a step. Text says what is in it.
type bar struct {
	Parts []part
	Text  string
}

// part is the answers of one kind.
type part struct {
	Kind                Kind
	X, Y, Width, Height float64
}

// plot draws a window.
func plot(id, title string, w Window) chart {
	c := chart{ID: id, Title: title, Empty: w.Total.Sum() == 0}
	var most uint64
	peak := 0
	for i, s := range w.Steps {
		if n := s.Counts.Sum(); n > most {
			most, peak = n, i
		}
	}
	c.Most = nice(most)
	width := chartWidth / float64(max(1, len(w.Steps)))
	for i, s := range w.Steps {
		if !s.Known {
			c.Unknown = width * float64(i+1)
			continue
		}
		if s.Counts.Sum() > 0 {
			c.Bars = append(c.Bars, bar{c.stack(s.Counts, width*float64(i), width), w.stepText(i)})
		}
	}
	layout := "15:04"
	middle := w.From.Add(w.To.Sub(w.From) / 2)
	c.Marks = []string{w.From.Format(layout), middle.Format(layout), w.To.Format(layout)}
	c.Text = title + ": " + sentence(w.Total)
	if most > 0 {
		c.Text += fmt.Sprintf(" Most in one bar: %s, at %s UTC.", grouped(most), w.at(peak).Format(layout))
	}
	return c
}

// stack draws a step from x on, so wide.
func (c *chart) stack(counts Counts, x, width float64) (parts []part) {
	y := float64(chartHeight)
	// The strictest stands on the ground, and what waits on top.
	for k, n := range counts {
		if n == 0 {
			continue
		}
		height := chartHeight * float64(n) / float64(c.Most)
		// However few, they are seen.
		height = min(max(height, 1.5), y)
		y -= height
		parts = append(parts, part{Kind: Kind(k), X: x + width*gap/200, Y: y, Width: width * (100 - gap) / 100, Height: height})
	}
	return parts
}

// at is when a step begins.
func (w Window) at(step int) time.Time {
	return w.From.Add(time.Duration(step*w.Step) * time.Second)
}

// stepText is what a step says when it is pointed at.
func (w Window) stepText(i int) string {
	return w.at(i).Format("15:04") + " UTC: " + sentence(w.Steps[i].Counts)
}

// sentence says numbers in words: "1,204 answers: none 1,000, dane-only 204."
func sentence(c Counts) string {
	sum := c.Sum()
	if sum == 0 {
		return "no answers."
	}
	var words []string
	for k, n := range c {
		if n > 0 {
			words = append(words, Kind(k).String()+" "+grouped(n))
		}
	}
	return plural(sum, "answer") + ": " + strings.Join(words, ", ") + "."
}

// nice is the next number that reads well on an axis: 1, 2, 4, 5, 8 or 10 times a power
// of ten.
func nice(n uint64) uint64 {
	for power := uint64(1); ; power *= 10 {
		for _, step := range []uint64{1, 2, 4, 5, 8, 10} {
			if v := step * power; v >= n && (v >= 4 || power > 1) || v >= 1<<62 {
				return v
			}
		}
	}
}
