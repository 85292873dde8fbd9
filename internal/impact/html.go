package impact

import (
	_ "embed"
	"html/template"
	"io"
)

//go:embed report.html
var page string

// bar is a part of a plot: from X, so wide, in thousandths of the whole.
type bar struct {
	Class, Label string
	N            int64
	X, Width     float64
}

// bars lays parts out beside each other.
func bars(whole int64, parts ...bar) []bar {
	var out []bar
	x := 0.0
	for _, p := range parts {
		if p.N == 0 || whole == 0 {
			continue
		}
		p.X, p.Width = x, 1000*float64(p.N)/float64(whole)
		x += p.Width
		out = append(out, p)
	}
	return out
}

// Went plots how messages went.
func (r Row) Went() []bar {
	return bars(r.Sent, bar{Class: "verified", Label: "verified", N: r.Verified}, bar{Class: "trusted", Label: "trusted", N: r.Trusted},
		bar{Class: "encrypted", Label: "encrypted", N: r.Encrypted}, bar{Class: "clear", Label: "clear text", N: r.Clear}, bar{Class: "unknown", Label: "not logged", N: r.Unlogged})
}

// Fates plots what would have become of them.
func (r Row) Fates() []bar {
	return bars(r.Sent, bar{Class: "verified", Label: "pass", N: r.Pass}, bar{Class: "trusted", Label: "likely", N: r.Likely},
		bar{Class: "clear", Label: "wait", N: r.Wait}, bar{Class: "unknown", Label: "unknown", N: r.Unknown})
}

// WriteHTML writes the report as one page that needs nothing else: no script, no font, no
// picture from elsewhere.
func (r Report) WriteHTML(w io.Writer) error {
	t, err := template.New("report").Funcs(template.FuncMap{"percent": percent}).Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(w, r)
}
