package signal

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestParseTXT(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, tc := range []struct {
		records []string
		want    Strict
		err     error
	}{
		{[]string{"v=SMTPSTRICT1; tls=required"}, Strict{}, nil},
		{[]string{"v=SMTPSTRICT1;tls=required;"}, Strict{}, nil},
		{[]string{"v=SMTPSTRICT1; tls=required; auth=webpki"}, Strict{Auth: WebPKI}, nil},
		{[]string{"v=SMTPSTRICT1; auth=webpki; tls=required"}, Strict{Auth: WebPKI}, nil},

		// Forgiven: white space, case, empty fields, the same said twice.
		{[]string{"v=SMTPSTRICT1 ;\t tls = required ;; auth= WebPKI ; "}, Strict{Auth: WebPKI}, nil},
		{[]string{"v=SMTPSTRICT1; TLS=Required; AUTH=WEBPKI"}, Strict{Auth: WebPKI}, nil},
		{[]string{"v=SMTPSTRICT1; tls=required; tls=required"}, Strict{}, nil},

		// What a later version may say.
		{[]string{"v=SMTPSTRICT1; tls=required; report=mailto:x@example.com"}, Strict{}, nil},
		{[]string{"v=SMTPSTRICT1; tls=required; auth=dane"}, Strict{Unknown: `"dane"`}, nil},

		// Somebody else's.
		{nil, Strict{}, ErrNoRecord},
		{[]string{"", "v=spf1 -all"}, Strict{}, ErrNoRecord},
		{[]string{"v=SMTPSTRICT2; tls=required"}, Strict{}, ErrNoRecord},
		{[]string{"v=SMTPSTRICT1"}, Strict{}, ErrNoRecord},
		{[]string{"v=SMTPSTRICT10; tls=required"}, Strict{}, ErrNoRecord},
		{[]string{"v=smtpstrict1; tls=required"}, Strict{}, ErrNoRecord},
		{[]string{" v=SMTPSTRICT1; tls=required"}, Strict{}, ErrNoRecord},
		{[]string{"v=spf1 -all", "v=SMTPSTRICT1; tls=required"}, Strict{}, nil},

		// Two of them, equal or not, broken or not.
		{[]string{"v=SMTPSTRICT1; tls=required", "v=SMTPSTRICT1; tls=required"}, Strict{}, ErrSeveral},
		{[]string{"v=SMTPSTRICT1; tls=required", "v=SMTPSTRICT1;"}, Strict{}, ErrSeveral},

		// Broken.
		{[]string{"v=SMTPSTRICT1;"}, Strict{}, ErrMalformed},
		{[]string{"v=SMTPSTRICT1; auth=webpki"}, Strict{}, ErrMalformed},
		{[]string{"v=SMTPSTRICT1; tls=none"}, Strict{}, ErrMalformed},
		{[]string{"v=SMTPSTRICT1; tls="}, Strict{}, ErrMalformed},
		{[]string{"v=SMTPSTRICT1; tls"}, Strict{}, ErrMalformed},
		{[]string{"v=SMTPSTRICT1; tls=required auth=webpki"}, Strict{}, ErrMalformed},
		{[]string{"v=SMTPSTRICT1; tls=required; auth=webpki; auth=none"}, Strict{}, ErrMalformed},
		{[]string{"v=SMTPSTRICT1; tls=required; testing"}, Strict{}, ErrMalformed},
		{[]string{"v=SMTPSTRICT1; tls=required; =x"}, Strict{}, ErrMalformed},
		{[]string{"v=SMTPSTRICT1; tls=required; " + long + "=x"}, Strict{}, ErrMalformed},
		{[]string{"v=SMTPSTRICT1; tls=required; note=\x00"}, Strict{}, ErrMalformed},
		{[]string{"v=SMTPSTRICT1; tls=required; note=é"}, Strict{}, ErrMalformed},
		{[]string{"v=SMTPSTRICT1; tls=required; auth=webp\u212ai"}, Strict{}, ErrMalformed}, // the Kelvin sign
	} {
		got, err := ParseTXT(tc.records)
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%.80q: %+v, %v; want %+v, %v", tc.records, got, err, tc.want, tc.err)
		}
	}
}

func TestParseRR(t *testing.T) {
	const text = "v=SMTPSTRICT1; tls=required"
	padded := text + "; note=" + strings.Repeat("x", 300)
	for _, tc := range []struct {
		rdata []string
		want  Strict
		err   error
	}{
		{[]string{RData(text)}, Strict{}, nil},
		{[]string{RData("v=SMTPSTRICT1; ") + RData("tls=required; auth=webpki")}, Strict{Auth: WebPKI}, nil},
		{[]string{RData(padded)}, Strict{}, nil},
		{[]string{RData(text), RData(text + ";")}, Strict{}, ErrSeveral},
		{[]string{RData("v=SMTPSTRICT1; tls=")}, Strict{}, ErrMalformed},

		// The number is in use for something else, too.
		{[]string{"\xff\x01\x02"}, Strict{}, ErrNoRecord},
		{[]string{""}, Strict{}, ErrNoRecord},
		{[]string{"\x00"}, Strict{}, ErrNoRecord},
		{[]string{text}, Strict{}, ErrNoRecord},
		{[]string{"\xff\x01\x02", RData(text)}, Strict{}, nil},
		{[]string{RData(text)[:20]}, Strict{}, ErrNoRecord},
	} {
		got, err := ParseRR(tc.rdata)
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%q: %+v, %v; want %+v, %v", tc.rdata, got, err, tc.want, tc.err)
		}
	}
}

// TestZoneFileForm: the form for unknown types (RFC 3597 §5) on the package's page is that
// of the record there.
func TestZoneFileForm(t *testing.T) {
	page, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	data := RData("v=SMTPSTRICT1; tls=required")
	want := fmt.Sprintf(`example.com. TYPE%d \# %d %s`, DefaultRRType, len(data), hex.EncodeToString([]byte(data)))
	if !strings.Contains(string(page), want) {
		t.Errorf("doc.go lacks %s", want)
	}
}

func FuzzParseTXT(f *testing.F) {
	for _, seed := range []string{
		"v=SMTPSTRICT1; tls=required; auth=webpki", "v=SMTPSTRICT1 ;TLS=required;", "v=SMTPSTRICT1; tls=required; auth=x",
		"v=SMTPSTRICT1; tls=none", "v=spf1 -all", "",
	} {
		f.Add(seed, "v=spf1")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		got, err := ParseTXT([]string{a, b})
		if err != nil {
			if got != (Strict{}) {
				t.Fatalf("%+v beside %v", got, err)
			}
			return
		}
		if strings.HasPrefix(a, version) == strings.HasPrefix(b, version) && !strings.Contains(a+b, version) {
			t.Fatalf("%q and %q ask for %v", a, b, got)
		}
		if both := strings.ToLower(a + b); !strings.Contains(both, "required") || got.Auth == WebPKI && !strings.Contains(both, "webpki") {
			t.Fatalf("%q and %q ask for %v", a, b, got)
		}
		if again, err := ParseTXT([]string{"v=SMTPSTRICT1; " + strings.ReplaceAll(got.String(), " is not known here", "")}); err != nil || again.Auth != got.Auth {
			t.Fatalf("%q reads as %+v, %v", got, again, err)
		}
	})
}

func FuzzParseRR(f *testing.F) {
	f.Add([]byte(RData("v=SMTPSTRICT1; tls=required")))
	f.Add([]byte("\x05v=SMT\x00\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		text, ok := Text(string(data))
		if !ok {
			if _, err := ParseRR([]string{string(data)}); !errors.Is(err, ErrNoRecord) {
				t.Fatalf("%q: %v", data, err)
			}
			return
		}
		if again, ok := Text(RData(text)); !ok || again != text {
			t.Fatalf("%q comes back as %q", text, again)
		}
	})
}

func BenchmarkParseTXT(b *testing.B) {
	records := []string{"v=spf1 -all", "v=SMTPSTRICT1; tls=required; auth=webpki"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseTXT(records); err != nil {
			b.Fatal(err)
		}
	}
}
