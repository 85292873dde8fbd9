package mtasts_test

import (
	"errors"
	"strings"
	"testing"

	"tlsverdict/internal/mtasts"
)

func TestS2RecordGrammar(t *testing.T) {
	id32 := strings.Repeat("a1", 16)
	tests := []struct {
		name, txt, id string
		err           error
	}{
		{"usual", "v=STSv1; id=20160831085700Z;", "20160831085700Z", nil},
		{"no last delimiter", "v=STSv1; id=1", "1", nil},
		{"no blanks", "v=STSv1;id=1", "1", nil},
		{"white space around delimiters", "v=STSv1 \t;\t id=1 \t; ", "1", nil},
		{"longest id", "v=STSv1; id=" + id32, id32, nil},
		{"extension after", "v=STSv1; id=1; x-y_z.0=a:b/<>", "1", nil},
		{"extension before", "v=STSv1; a=b; id=1", "1", nil},
		{"second id is ignored", "v=STSv1; id=1; id=2", "1", nil},
		{"second id may be an extension", "v=STSv1; id=1; id=not-an-id", "1", nil},
		{"case of id counts", "v=STSv1; id=aB", "aB", nil},
		{"no id", "v=STSv1;", "", mtasts.ErrBadRecord},
		{"only an extension", "v=STSv1; a=b;", "", mtasts.ErrBadRecord},
		{"empty id", "v=STSv1; id=;", "", mtasts.ErrBadRecord},
		{"id too long", "v=STSv1; id=" + id32 + "x", "", mtasts.ErrBadRecord},
		{"id with a hyphen", "v=STSv1; id=2020-01-01", "", mtasts.ErrBadRecord},
		{"ID in upper case is an extension", "v=STSv1; ID=1", "", mtasts.ErrBadRecord},
		{"blank at =", "v=STSv1; id= 1", "", mtasts.ErrBadRecord},
		{"blank at the end", "v=STSv1; id=1 ", "", mtasts.ErrBadRecord},
		{"two delimiters", "v=STSv1; id=1;; a=b", "", mtasts.ErrBadRecord},
		{"two delimiters at the end", "v=STSv1; id=1;;", "", mtasts.ErrBadRecord},
		{"no =", "v=STSv1; id=1; flag", "", mtasts.ErrBadRecord},
		{"extension without value", "v=STSv1; id=1; a=", "", mtasts.ErrBadRecord},
		{"extension with two =", "v=STSv1; id=1; a=b=c", "", mtasts.ErrBadRecord},
		{"extension name too long", "v=STSv1; id=1; " + strings.Repeat("a", 33) + "=b", "", mtasts.ErrBadRecord},
		{"not US-ASCII", "v=STSv1; id=1; a=ü", "", mtasts.ErrBadRecord},
		{"control character", "v=STSv1; id=1;\n", "", mtasts.ErrBadRecord},
		{"version alone", "v=STSv1", "", mtasts.ErrNoRecord},
		{"other version", "v=STSv2; id=1", "", mtasts.ErrNoRecord},
		{"version in lower case", "v=stsv1; id=1", "", mtasts.ErrNoRecord},
		{"version not first", "id=1; v=STSv1;", "", mtasts.ErrNoRecord},
		{"blank first", " v=STSv1; id=1", "", mtasts.ErrNoRecord},
		{"longer version", "v=STSv10; id=1", "", mtasts.ErrNoRecord},
		{"empty", "", "", mtasts.ErrNoRecord},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec, err := mtasts.ParseRecord([]string{tt.txt})
			if !errors.Is(err, tt.err) || rec.ID != tt.id {
				t.Fatalf("ParseRecord(%q) = %q, %v; want %q, %v", tt.txt, rec.ID, err, tt.id, tt.err)
			}
		})
	}
}

func TestS3ExactlyOneRecord(t *testing.T) {
	tests := []struct {
		name string
		txts []string
		id   string
		err  error
	}{
		{"none", nil, "", mtasts.ErrNoRecord},
		{"others are discarded", []string{"v=spf1 -all", "v=STSv1; id=1", "google-site-verification=x"}, "1", nil},
		{"only others", []string{"v=spf1 -all", "v=TLSRPTv1; rua=mailto:a@b"}, "", mtasts.ErrNoRecord},
		{"two", []string{"v=STSv1; id=1", "v=STSv1; id=2"}, "", mtasts.ErrMultipleRecords},
		{"the same twice", []string{"v=STSv1; id=1", "v=STSv1; id=1"}, "", mtasts.ErrMultipleRecords},
		{"a broken one counts", []string{"v=STSv1; id=1", "v=STSv1; ???"}, "", mtasts.ErrMultipleRecords},
		{"one without delimiter does not", []string{"v=STSv1; id=1", "v=STSv1"}, "1", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec, err := mtasts.ParseRecord(tt.txts)
			if !errors.Is(err, tt.err) || rec.ID != tt.id {
				t.Fatalf("ParseRecord = %q, %v; want %q, %v", rec.ID, err, tt.id, tt.err)
			}
		})
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, s := range []string{
		"v=STSv1; id=20160831085700Z;", "v=STSv1 ; a=b;id=1 ;", "v=STSv1;", "v=STSv1; id=1;;", "v=spf1 -all", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, txt string) {
		rec, err := mtasts.ParseRecord([]string{txt})
		if (err == nil) != (rec.ID != "") {
			t.Fatalf("ParseRecord(%q) = %q, %v: an id or an error, not both or none", txt, rec.ID, err)
		}
		if err != nil {
			return
		}
		again, err := mtasts.ParseRecord([]string{"unrelated", "v=STSv1; id=" + rec.ID + ";"})
		if err != nil || again != rec {
			t.Fatalf("id %q does not survive: %q, %v", rec.ID, again.ID, err)
		}
	})
}

func BenchmarkParseRecord(b *testing.B) {
	b.ReportAllocs()
	txts := []string{"v=spf1 -all", "v=STSv1; id=20160831085700Z;"}
	for b.Loop() {
		if _, err := mtasts.ParseRecord(txts); err != nil {
			b.Fatal(err)
		}
	}
}
