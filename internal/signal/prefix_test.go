package signal

import (
	"strings"
	"testing"
)

func TestParsePrefix(t *testing.T) {
	for host, want := range map[string]Prefix{
		"starttls-mx1.example.com": StartTLS,
		"smtps-mx1.example.com":    SMTPS,
		"starttls-.example.com":    NoPrefix,
		"starttls.example.com":     NoPrefix,
		"smtps.example.com":        NoPrefix,
		"mx.starttls-x.example":    NoPrefix,
		"xstarttls-mx.example":     NoPrefix,
		"starttls-starttls-.x":     StartTLS,
		"smtps--.x":                SMTPS,
		"":                         NoPrefix,
		"starttls-":                NoPrefix,
	} {
		if got := ParsePrefix(host); got != want {
			t.Errorf("ParsePrefix(%q) = %v, want %v", host, got, want)
		}
	}
}

func FuzzParsePrefix(f *testing.F) {
	for _, seed := range []string{"starttls-mx1.example.com", "smtps-a", "starttls-.b", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		label, _, _ := strings.Cut(host, ".")
		p := ParsePrefix(host)
		if p != NoPrefix && (!strings.HasPrefix(label, p.String()+"-") || label == p.String()+"-") {
			t.Fatalf("ParsePrefix(%q) = %v", host, p)
		}
	})
}
