package browser

import (
	"bytes"
	"cmp"
	"flag"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/chromedp"

	"tlsverdict/internal/status"
)

var (
	shots  = flag.String("shots", "", "a directory into which screenshots are written")
	update = flag.Bool("update", false, "take the pictures of docs/status.md anew")
)

// shoot writes what there is to see, if that is wanted.
func (b *tab) shoot(name string) {
	b.t.Helper()
	if *shots != "" {
		b.save(filepath.Join(*shots, name+".png"))
	}
}

// save writes what there is to see, in few colours, as small as that can be.
func (b *tab) save(path string) {
	b.t.Helper()
	seen, err := png.Decode(bytes.NewReader(do(b, chromedp.FullScreenshot(100))))
	must(b.t, err)
	var out bytes.Buffer
	must(b.t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, reduce(seen)))
	must(b.t, os.WriteFile(path, out.Bytes(), 0o644))
}

// reduce leaves a picture the colours that it has most of, one for all that are hardly told
// apart.
func reduce(from image.Image) image.Image {
	coarse := func(c color.Color) color.NRGBA {
		n := color.NRGBAModel.Convert(c).(color.NRGBA)
		return color.NRGBA{n.R &^ 7, n.G &^ 7, n.B &^ 7, 255}
	}
	count := make(map[color.NRGBA]map[color.NRGBA]int)
	of := make(map[color.NRGBA]int)
	box := from.Bounds()
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			exact := color.NRGBAModel.Convert(from.At(x, y)).(color.NRGBA)
			group := coarse(exact)
			if count[group] == nil {
				count[group] = make(map[color.NRGBA]int)
			}
			count[group][exact]++
			of[group]++
		}
	}
	groups := slices.SortedFunc(maps.Keys(of), func(a, b color.NRGBA) int { return cmp.Compare(of[b], of[a]) })
	var palette color.Palette
	for _, g := range groups[:min(len(groups), 250)] {
		most := slices.MaxFunc(slices.Collect(maps.Keys(count[g])), func(a, b color.NRGBA) int { return cmp.Compare(count[g][a], count[g][b]) })
		palette = append(palette, most)
	}
	near := make(map[color.Color]uint8)
	to := image.NewPaletted(box, palette)
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			c := from.At(x, y)
			i, ok := near[c]
			if !ok {
				i = uint8(palette.Index(c))
				near[c] = i
			}
			to.SetColorIndex(x, y, i)
		}
	}
	return to
}

// TestPictures takes the pictures of docs/status.md, if that is wanted.
func TestPictures(t *testing.T) {
	if !called() || !*update {
		return
	}
	s := sample()
	s.Deferrals = slices.DeleteFunc(s.Deferrals, func(d status.Deferral) bool { return d.Text == hostile })
	r := report()
	r.Reasons[2].Text = "the TLSA lookup failed; the host cannot be used: SERVFAIL from 127.0.0.1:53"
	origin := serve(t, s, r)
	c := startChromium(t)
	c.open(t, screens()[0], origin+"/").save("../docs/status-desktop.png")
	c.open(t, screens()[3], origin+"/explain?domain=bank.example").save("../docs/status-phone.png")
}
