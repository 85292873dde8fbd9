package status

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// colour is one in linear light.
type colour [3]float64

func parse(t *testing.T, hex string) colour {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimPrefix(hex, "#"), 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	var c colour
	for i := range c {
		v := float64(n>>(16-8*i)&255) / 255
		if c[i] = v / 12.92; v > 0.04045 {
			c[i] = math.Pow((v+0.055)/1.055, 2.4)
		}
	}
	return c
}

func (c colour) luminance() float64 { return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2] }

// contrast is that of WCAG 2.1.
func contrast(a, b colour) float64 {
	x, y := a.luminance()+0.05, b.luminance()+0.05
	return max(x, y) / min(x, y)
}

func (c colour) times(m [3]colour) (out colour) {
	for i, row := range m {
		for j, v := range row {
			out[i] += v * c[j]
		}
		out[i] = min(max(out[i], 0), 1)
	}
	return out
}

// visions are how colours are seen by those who lack one kind of cone, after Machado,
// Oliveira and Fernandes (2009), and by others.
func visions() map[string][3]colour {
	return map[string][3]colour{
		"all cones":    {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
		"protanopia":   {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}},
		"deuteranopia": {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}},
		"tritanopia":   {{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602}, {0.004733, 0.691367, 0.303900}},
	}
}

// oklab is a space in which distances are as they are seen, about.
func (c colour) oklab() colour {
	l := math.Cbrt(0.4122214708*c[0] + 0.5363325363*c[1] + 0.0514459929*c[2])
	m := math.Cbrt(0.2119034982*c[0] + 0.6806995451*c[1] + 0.1073969566*c[2])
	s := math.Cbrt(0.0883024619*c[0] + 0.2817188376*c[1] + 0.6299787005*c[2])
	return colour{
		0.2104542553*l + 0.7936177850*m - 0.0040720468*s, 1.9779984951*l - 2.4285922050*m + 0.4505937099*s, 0.0259040371*l + 0.7827717662*m - 0.8086757660*s,
	}
}

func distance(a, b colour) float64 {
	a, b = a.oklab(), b.oklab()
	return math.Sqrt((a[0]-b[0])*(a[0]-b[0]) + (a[1]-b[1])*(a[1]-b[1]) + (a[2]-b[2])*(a[2]-b[2]))
}

// TestColours: the kinds are told apart by everybody, by day and by night, and stand out
// from the paper; texts do so as WCAG 2.1 asks.
func TestColours(t *testing.T) {
	day, night, ok := strings.Cut(string(styleCSS), "@media (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("the style sheet has no night")
	}
	night, _, _ = strings.Cut(night, "* { box-sizing")
	for scheme, text := range map[string]string{"day": day, "night": night} {
		set := make(map[string]colour)
		for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(text, -1) {
			set[m[1]] = parse(t, m[2])
		}
		for _, name := range []string{"ink", "soft", "accent", "bad"} {
			for _, paper := range []string{"paper", "faint"} {
				if c := contrast(set[name], set[paper]); c < 4.5 {
					t.Errorf("%s: %s on %s has a contrast of %.2f", scheme, name, paper, c)
				}
			}
		}
		if c := contrast(set["on-accent"], set["accent"]); c < 4.5 {
			t.Errorf("%s: a button has a contrast of %.2f", scheme, c)
		}
		for k := range kinds {
			a, ok := set["k-"+k.String()]
			if !ok {
				t.Fatalf("%s: %v has no colour", scheme, k)
			}
			if c := contrast(a, set["paper"]); c < 2.95 {
				t.Errorf("%s: %v has a contrast of %.2f", scheme, k, c)
			}
			for other := range k {
				for who, m := range visions() {
					if d := distance(a.times(m), set["k-"+other.String()].times(m)); d < 0.11 {
						t.Errorf("%s, %s: %v and %v are %.3f apart", scheme, who, k, other, d)
					}
				}
			}
		}
	}
}
