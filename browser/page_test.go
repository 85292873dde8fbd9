package browser

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/explain"
	"tlsverdict/internal/httpd"
	"tlsverdict/internal/status"
)

// called reports whether these tests are wanted.
func called() bool { return os.Getenv("TLSVERDICT_BROWSER") != "" }

const hostile = `<script>alert(1)</script><img src=x onerror=alert(2)>"'&{{.}}`

// serve serves a page as policyd does.
func serve(t *testing.T, s status.Snapshot, report *explain.Report) (origin string) {
	t.Helper()
	handler := status.New(status.Options{
		Snapshot: func() status.Snapshot { return s },
		Explain:  func(context.Context, string) (*explain.Report, error) { return report, nil },
		Log:      slog.New(slog.DiscardHandler),
	})
	server := httptest.NewServer(httpd.New(httpd.Config{Handler: handler, Log: slog.New(slog.DiscardHandler)}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestPage: the page of a snapshot that has something of everything, of one that has
// nothing, of an explanation, and of none.
func TestPage(t *testing.T) {
	if !called() {
		return
	}
	c := startChromium(t)
	full, empty := serve(t, sample(), report()), serve(t, young(), nil)
	for _, s := range screens() {
		for name, url := range map[string]string{"full": full + "/", "young": empty + "/", "explained": full + "/explain?domain=bank.example", "refused": full + "/explain?domain=a+b"} {
			t.Run(name+"-"+s.name, func(t *testing.T) {
				b := c.open(t, s, url)
				b.shoot(name + "-" + s.name)
				b.fits()
				b.legible()
				b.sound()
				text := find[string](b, "document.body.textContent")
				switch name {
				case "full":
					for _, n := range numbers(reflect.ValueOf(sample())) {
						if !strings.Contains(text, n) {
							t.Errorf("%s is not on the page", n)
						}
					}
					if !strings.Contains(text, hostile) {
						t.Error("a hostile name is not shown as it is")
					}
				case "refused":
					if !strings.Contains(text, "not a destination") || find[string](b, `document.querySelector("input").value`) != "a b" {
						t.Errorf("it does not say what is wrong: %s", text)
					}
				case "young":
					if !strings.Contains(text, "no questions yet") {
						t.Error("it does not say that nobody asked yet")
					}
				}
				if name != "refused" {
					// There it says that the status is 400.
					b.quiet(url[:strings.LastIndexByte(url, '/')])
				}
			})
		}
	}
}

// numbers are those of a snapshot that the page must show, as it writes them: all
// counters, but for the steps of the plots.
func numbers(v reflect.Value) []string {
	var out []string
	switch v.Kind() {
	case reflect.Struct:
		if _, ok := v.Interface().(time.Time); ok {
			return nil
		}
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "Steps" && name != "Step" {
				out = append(out, numbers(v.Field(i))...)
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			out = append(out, numbers(v.Index(i))...)
		}
	case reflect.Int, reflect.Uint64:
		out = append(out, grouped(fmt.Sprint(v)))
	}
	return out
}

// grouped writes a number as the page does.
func grouped(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
